use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kuma_ca::{CaError, Claims, ImportedKey, MAX_TOKEN_BYTES, Secret, SigningKey, TokenError, TokenVerifier};
use proptest::prelude::*;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::now;

/// Generating an RSA key is slow, so tests share one.
fn key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate().expect("a key"))
}

fn verifier() -> TokenVerifier {
    TokenVerifier::new([key().verifying_key()])
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    verifier().verify(token, now())
}

fn token() -> String {
    key().issue_token("default", "web-1", None, now()).unwrap().token.expose().to_string()
}

/// Signs any header and payload with the valid key, with another library.
fn forge(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &encoding_key(), Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

fn encoding_key() -> EncodingKey {
    EncodingKey::from_rsa_pem(key().to_pem().expose().as_bytes()).unwrap()
}

/// The public key, which attackers are assumed to have, as RSAPublicKey in DER.
fn public_key() -> Vec<u8> {
    rcgen::PublicKeyData::der_bytes(&rcgen::KeyPair::from_pem(key().to_pem().expose()).unwrap()).to_vec()
}

fn header() -> String {
    json!({"alg": "RS256", "kid": key().id(), "typ": "JWT"}).to_string()
}

/// What two tokens of one Dataplane have in common.
fn without_id(claims: Claims) -> Claims {
    Claims { id: None, ..claims }
}

#[test]
fn a_token_says_which_dataplane_its_bearer_is() {
    let claims = verify(&token()).unwrap();
    let (mesh, name, key_id) = ("default".into(), "web-1".into(), key().id().into());
    let expected = Claims { mesh, name, key_id, expires: None, id: None };
    assert_eq!(without_id(claims), expected);
    for carried in [format!("Bearer {}", token()), format!("bearer  {}", token()), format!("{}\n", token())] {
        assert_eq!(verify(&carried).map(without_id), Ok(expected.clone()), "{carried:?}");
    }
}

#[test]
fn a_token_has_the_documented_shape() {
    let token = token();
    let part = |index: usize| -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"alg": "RS256", "kid": key().id(), "typ": "JWT"}));
    let id = part(1)["jti"].as_str().unwrap().to_owned();
    assert_eq!(part(1), json!({"Name": "web-1", "Mesh": "default", "iat": 1_580_000_000, "jti": id}));
    assert!(id.len() == 32 && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert_eq!(verify(&token).unwrap().id, Some(id));
    assert_ne!(verify(&token), verify(&self::token()), "each has its own id");
    assert_eq!(token.split('.').count(), 3);
    assert_eq!(key().id().len(), 16);
    let longest = key().issue_token(&"m".repeat(100), &"n".repeat(100), None, now()).unwrap().token;
    assert!(longest.expose().len() < MAX_TOKEN_BYTES / 2);
}

#[test]
fn a_jwt_library_accepts_our_tokens_and_we_accept_its() {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let decoding = DecodingKey::from_rsa_der(&public_key());
    let decoded = jsonwebtoken::decode::<Value>(token(), &decoding, &validation).unwrap();
    assert_eq!(decoded.claims["Name"], "web-1");
    assert_eq!(decoded.header.kid.as_deref(), Some(key().id()));

    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key().id().to_string());
    let theirs = jsonwebtoken::encode(&header, &json!({"Name": "web-1", "Mesh": "default"}), &encoding_key()).unwrap();
    assert_eq!(verify(&theirs).unwrap().name, "web-1");
}

#[test]
fn a_key_read_back_verifies_old_tokens() {
    let again = SigningKey::from_pem(key().to_pem()).unwrap();
    assert_eq!(again.id(), key().id());
    assert!(TokenVerifier::new([again.verifying_key()]).verify(&token(), now()).is_ok());
}

#[test]
fn tokens_live_until_their_key_is_retired() {
    let newer = SigningKey::generate().unwrap();
    let both = TokenVerifier::new([key().verifying_key(), newer.verifying_key()]);
    assert!(both.verify(&token(), now()).is_ok());
    assert!(both.verify(newer.issue_token("default", "web-1", None, now()).unwrap().token.expose(), now()).is_ok());

    let retired = TokenVerifier::new([newer.verifying_key()]);
    assert_eq!(retired.verify(&token(), now()), Err(TokenError::UnknownKey));
    assert!(retired.has_key(newer.id()) && !retired.has_key(key().id()));
    assert!(TokenError::UnknownKey.to_string().contains("signing key changed"));
    assert_eq!(TokenVerifier::default().verify(&token(), now()), Err(TokenError::UnknownKey));
}

#[test]
fn bad_tokens_are_refused_each_for_its_reason() {
    use TokenError::*;
    let payload = json!({"Name": "web-1", "Mesh": "default"}).to_string();
    let with_header = |header: Value| forge(&header.to_string(), &payload);
    let with_payload = |payload: Value| forge(&header(), &payload.to_string());
    let id = key().id();
    let good = token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let unsigned =
        |header: Value| format!("{}.{}.", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(&payload));
    let hmac = |secret: &[u8], alg: Algorithm| {
        let mut header = Header::new(alg);
        header.kid = Some(id.to_string());
        jsonwebtoken::encode(&header, &json!({"Name": "web-1", "Mesh": "default"}), &EncodingKey::from_secret(secret))
            .unwrap()
    };
    let rsa = |alg: Algorithm| {
        let mut header = Header::new(alg);
        header.kid = Some(id.to_string());
        jsonwebtoken::encode(&header, &json!({"Name": "web-1", "Mesh": "default"}), &encoding_key()).unwrap()
    };
    let private_der = PrivateKeyDer::from_pem_slice(key().to_pem().expose().as_bytes()).unwrap();
    let public_pem = rcgen::KeyPair::from_pem(key().to_pem().expose()).unwrap().public_key_pem();
    let stranger = SigningKey::generate().unwrap();
    let by_stranger = stranger.issue_token("default", "web-1", None, now()).unwrap().token.expose().to_string();
    let with_our_id = {
        let message = message(&header(), &payload);
        let key = EncodingKey::from_rsa_pem(stranger.to_pem().expose().as_bytes()).unwrap();
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256).unwrap())
    };

    let table: Vec<(&str, String, TokenError)> = vec![
        // Not a token at all.
        ("empty", "".into(), Malformed),
        ("blank", "  \n".into(), Malformed),
        ("scheme alone", "Bearer ".into(), Malformed),
        ("scheme twice", format!("Bearer Bearer {good}"), Malformed),
        ("other scheme", format!("Basic {good}"), Malformed),
        ("dots", "..".into(), Malformed),
        ("two parts", signed.into(), Malformed),
        ("four parts", format!("{good}.e30"), Malformed),
        ("one megabyte", "a".repeat(1 << 20), Malformed),
        ("a megabyte behind a good one", format!("{good}{}", "A".repeat(1 << 20)), Malformed),
        ("just over the limit", "a".repeat(MAX_TOKEN_BYTES + 1), Malformed),
        ("control characters", "\0\u{1}\u{7f}.\0.\0".into(), Malformed),
        ("not ASCII", "é.é.é".into(), Malformed),
        ("a blank inside", good.replacen('.', ". ", 1), BadSignature),
        // Changed.
        ("truncated signature", good[..good.len() - 42].into(), BadSignature),
        ("truncated in the payload", good[..signed.len() - 3].into(), Malformed),
        ("no signature", format!("{signed}."), BadSignature),
        ("signature of zeros", format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 256])), BadSignature),
        (
            "signature of something else",
            format!("{}.{signature}", message(&header(), r#"{"Name":"db","Mesh":"default"}"#)),
            BadSignature,
        ),
        ("padded base64", format!("{signed}.{signature}=="), Malformed),
        ("standard base64", format!("{signed}.+/+/"), Malformed),
        ("by a stranger's key", by_stranger, UnknownKey),
        ("by a stranger's key under our id", with_our_id, BadSignature),
        // Other algorithms.
        ("alg none", unsigned(json!({"alg": "none", "kid": id})), WrongAlgorithm),
        ("alg None", unsigned(json!({"alg": "None", "kid": id})), WrongAlgorithm),
        ("alg nOnE without kid", unsigned(json!({"alg": "nOnE"})), WrongAlgorithm),
        ("alg empty", unsigned(json!({"alg": "", "kid": id})), WrongAlgorithm),
        ("alg rs256", with_header(json!({"alg": "rs256", "kid": id})), WrongAlgorithm),
        ("alg missing", with_header(json!({"kid": id})), Malformed),
        ("alg null", with_header(json!({"alg": null, "kid": id})), Malformed),
        ("alg number", with_header(json!({"alg": 256, "kid": id})), Malformed),
        ("alg list", with_header(json!({"alg": ["RS256"], "kid": id})), Malformed),
        ("alg twice", forge(&format!(r#"{{"alg":"RS256","alg":"none","kid":"{id}"}}"#), &payload), Malformed),
        ("HS256 with the public key, DER", hmac(&public_key(), Algorithm::HS256), WrongAlgorithm),
        ("HS256 with the public key, PEM", hmac(public_pem.as_bytes(), Algorithm::HS256), WrongAlgorithm),
        (
            "HS256 with the private key, as it once was",
            hmac(private_der.secret_der(), Algorithm::HS256),
            WrongAlgorithm,
        ),
        ("HS256 with nothing", hmac(b"", Algorithm::HS256), WrongAlgorithm),
        ("HS512", hmac(&public_key(), Algorithm::HS512), WrongAlgorithm),
        ("RS384", rsa(Algorithm::RS384), WrongAlgorithm),
        ("RS512", rsa(Algorithm::RS512), WrongAlgorithm),
        ("PS256", rsa(Algorithm::PS256), WrongAlgorithm),
        ("PS256 signature under RS256", ps256_as_rs256(), BadSignature),
        // Key ids.
        ("kid missing", with_header(json!({"alg": "RS256"})), Malformed),
        ("kid null", with_header(json!({"alg": "RS256", "kid": null})), Malformed),
        ("kid number", with_header(json!({"alg": "RS256", "kid": 1})), Malformed),
        ("kid float", with_header(json!({"alg": "RS256", "kid": 1.5})), Malformed),
        ("kid bool", with_header(json!({"alg": "RS256", "kid": true})), Malformed),
        ("kid list", with_header(json!({"alg": "RS256", "kid": [id]})), Malformed),
        ("kid object", with_header(json!({"alg": "RS256", "kid": {"id": id}})), Malformed),
        ("kid empty", with_header(json!({"alg": "RS256", "kid": ""})), UnknownKey),
        ("kid path", with_header(json!({"alg": "RS256", "kid": "../../etc/passwd"})), UnknownKey),
        ("kid SQL", with_header(json!({"alg": "RS256", "kid": "' OR 1=1 --"})), UnknownKey),
        ("kid capitals", with_header(json!({"alg": "RS256", "kid": format!("{id}X")})), UnknownKey),
        ("kid twice", forge(&format!(r#"{{"alg":"RS256","kid":"x","kid":"{id}"}}"#), &payload), Malformed),
        ("crit", with_header(json!({"alg": "RS256", "kid": id, "crit": ["exp"]})), Malformed),
        // Headers and claims of the wrong shape, with a valid signature.
        ("header a list", forge("[]", &payload), Malformed),
        ("header a string", forge("\"RS256\"", &payload), Malformed),
        ("header nested deep", forge(&"[".repeat(2000), &payload), Malformed),
        ("header not JSON", forge("alg=RS256", &payload), Malformed),
        ("payload not JSON", forge(&header(), "Name=web-1"), Malformed),
        ("payload empty", forge(&header(), ""), Malformed),
        ("payload a list", with_payload(json!(["web-1", "default"])), Malformed),
        ("payload null", with_payload(json!(null)), Malformed),
        ("payload with something behind", forge(&header(), &format!("{payload}{payload}")), Malformed),
        ("payload not UTF-8", forge_bytes(b"{\"Name\":\"\xff\",\"Mesh\":\"default\"}"), Malformed),
        ("Name twice", forge(&header(), r#"{"Name":"web-1","Name":"db-1","Mesh":"default"}"#), Malformed),
        (
            "Name twice, once escaped",
            forge(&header(), r#"{"Name":"web-1","\u004eame":"db-1","Mesh":"default"}"#),
            Malformed,
        ),
        ("Mesh twice", forge(&header(), r#"{"Name":"web-1","Mesh":"other","Mesh":"default"}"#), Malformed),
        ("NAME", with_payload(json!({"NAME": "web-1", "Mesh": "default"})), MissingClaim),
        ("name", with_payload(json!({"name": "web-1", "mesh": "default"})), MissingClaim),
        ("no Name", with_payload(json!({"Mesh": "default"})), MissingClaim),
        ("no Mesh", with_payload(json!({"Name": "web-1"})), MissingClaim),
        ("empty Name", with_payload(json!({"Name": "", "Mesh": "default"})), MissingClaim),
        ("empty object", with_payload(json!({})), MissingClaim),
        ("Name null", with_payload(json!({"Name": null, "Mesh": "default"})), Malformed),
        ("Name number", with_payload(json!({"Name": 1, "Mesh": "default"})), Malformed),
        ("Name list", with_payload(json!({"Name": ["web-1"], "Mesh": "default"})), Malformed),
        ("exp past", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": 1_579_999_999})), Expired),
        ("exp now", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": 1_580_000_000})), Expired),
        ("exp string", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": "99999999999"})), Malformed),
        ("exp negative", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": -1})), Malformed),
        ("exp float", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": 1.5})), Malformed),
        ("exp object", with_payload(json!({"Name": "web-1", "Mesh": "default", "exp": {}})), Malformed),
        ("exp twice", forge(&header(), r#"{"Name":"web-1","Mesh":"default","exp":1,"exp":99999999999}"#), Malformed),
    ];
    let wrong: Vec<_> = table
        .iter()
        .filter(|(_, token, expected)| verify(token) != Err(*expected))
        .map(|(what, token, expected)| (what, expected, verify(token)))
        .collect();
    assert!(wrong.is_empty(), "(case, expected, got): {wrong:#?}");
}

/// What is signed: the first two parts.
fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

fn forge_bytes(payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header()), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &encoding_key(), Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

fn ps256_as_rs256() -> String {
    let message = message(&header(), r#"{"Name":"web-1","Mesh":"default"}"#);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &encoding_key(), Algorithm::PS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_that_is_valid_for_a_time_ends_after_it() {
    let second = Duration::from_secs(1);
    for (valid_for, seconds) in [(60 * second, 60), (second / 2, 1), (second * 3 / 2, 2)] {
        let token = key().issue_token("default", "web-1", Some(valid_for), now()).unwrap().token;
        let at = |seconds: u32| verifier().verify(token.expose(), now() + seconds * second);
        assert_eq!(at(seconds - 1).unwrap().expires, Some(now() + seconds * second));
        assert_eq!(at(seconds), Err(TokenError::Expired));
    }
}

#[test]
fn an_end_is_respected_and_claims_we_do_not_know_are_ignored() {
    let end = 1_580_000_060;
    let token = forge(
        &header(),
        &json!({"Name": "web-1", "Mesh": "default", "exp": end, "aud": ["x"], "NAME": "db"}).to_string(),
    );
    let claims = verify(&token).unwrap();
    assert_eq!((claims.name.as_str(), claims.expires), ("web-1", Some(UNIX_EPOCH + Duration::from_secs(end))));
    assert_eq!(verifier().verify(&token, now() + Duration::from_secs(60)), Err(TokenError::Expired));
    let far = forge(&header(), &json!({"Name": "web-1", "Mesh": "default", "exp": u64::MAX}).to_string());
    assert!(verify(&far).is_ok());
}

#[test]
fn only_rsa_keys_of_2048_bits_and_more_sign_tokens() {
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert!(matches!(SigningKey::from_pem(&Secret::new(ec)), Err(CaError::Key)));
    assert!(matches!(SigningKey::from_pem(&Secret::new(WEAK_KEY.to_string())), Err(CaError::Key)));
    assert!(matches!(SigningKey::from_pem(&Secret::new(String::new())), Err(CaError::Key)));
    assert!(matches!(SigningKey::from_pem(&Secret::new(token())), Err(CaError::Key)));
}

#[test]
fn nothing_printed_shows_a_key_or_token() {
    let token = key().issue_token("default", "web-1", None, now()).unwrap().token;
    assert_eq!(format!("{:?}", key()), format!("SigningKey {{ id: {:?}, .. }}", key().id()));
    assert_eq!(format!("{token} {token:?} {}", key().to_pem()), "***** ***** *****");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(text in "\\PC{0,300}") {
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn garbage_in_three_parts_is_refused(header in "\\PC{0,60}", payload in "\\PC{0,60}",
        signature in proptest::collection::vec(any::<u8>(), 0..300)) {
        let token = format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload),
            URL_SAFE_NO_PAD.encode(signature));
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn one_changed_character_is_refused(at in 0usize..600, with in "[A-Za-z0-9_.=-]") {
        let good = token();
        let at = at % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != good);
        prop_assert!(verify(&changed).is_err());
    }

    #[test]
    fn any_rightly_signed_payload_is_read_without_panic(payload in "\\PC{0,200}", name in "\\PC{1,20}") {
        let _ = verify(&forge(&header(), &payload));
        let claims = verify(&forge(&header(), &json!({"Name": name, "Mesh": "default"}).to_string()));
        prop_assert_eq!(claims.unwrap().name, name);
    }
}

/// An RSA key of 1024 bits, made for this test.
const WEAK_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAOVX5X6s27IbFOtu
brzeTzrUmzC3tsn+EIuYn8Er9sjFA6NSMbziy9ydVs5xH3+CEVikaIq4ucz3Ogy8
NQq9reU8iSmG437UdF38PQyY2RFzzCR+ty4Pn+QPPeCTFXJNdhE7UWI/5DF0G+2X
LkF61HKdm+tBEVYzYADdy9memu4bAgMBAAECgYA+g58C0ItyGP+yzP9SbCacmqdS
uEES/jX0Vz30oc87GrjLI/R60DdRg3HOA/faAdJIn0f/yCqdPCaOoh6zNtDXT29S
ei5cRfJaZ00/vcgrbTttJERF7bfZx4tldLsbeOOWgiBhlH7ajRZ/tg4JeC1ZcOBL
lB3ClDpgp+MEsEeYQQJBAPfsm3VVEDG2coIhCX6M6Ny4XXQg9b8xPfSlCdAWcYc5
DWnrefGs0v0IuwRSkLoAIS6mosmJIGn0XfVEIr7TXw0CQQDs0Fi80o2HIeJlen4S
gMNIN/iSa20i80yTW4wgbEF9rqK/TNyoF0hISQLuYFcgkvKl9l2c4wbecaR7G2zE
UXfHAkEA4uf1XAyvVqBh6wFrnBxBH4nJVni4EfVye870zTNNUnJ/+Vof8HW5YQa1
i345oVJvDDBMuuE6/l4+BDUJC9eOnQJBAJ1gRGiPwJA6W3s28UuYmK6Iy796dtfQ
OmZ/Y1s0tj0w7mUVTlrCxj2Lj9Ac5Cn4nhre5A1b7nerrDRH4HuC7IcCQBQd985A
WtdzGnWdinnLq468FHxysXBoOSIZEb+RYp5Xi/RAl5mRJdg0Na+6NtRLtx4c/Yrh
4dsTC7pGGITC3tE=
-----END PRIVATE KEY-----";

/// A token of the original Kuma, made with another library.
fn imported_token(secret: &[u8], header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

#[test]
fn tokens_of_the_original_are_accepted_with_its_key_alone() {
    let secret = b"bytes of a private key, thirty-two or more of them";
    let imported = ImportedKey::new(zeroize(secret)).unwrap();
    let again = ImportedKey::read(&imported.document().spec).unwrap();
    let verifier = verifier().with_imported(Some(again));
    let header = Header::new(Algorithm::HS256);
    let claims = json!({"Name": "web-1", "Mesh": "default"});
    let token = imported_token(secret, &header, &claims);
    let expected = Claims {
        mesh: "default".into(),
        name: "web-1".into(),
        key_id: ImportedKey::ID.into(),
        expires: None,
        id: None,
    };
    assert_eq!(verifier.verify(&token, now()), Ok(expected));
    assert!(verifier.has_key(ImportedKey::ID) && verifier.has_key(key().id()));
    // Ours are still accepted.
    assert_eq!(verifier.verify(&self::token(), now()).unwrap().key_id, key().id());

    // Where the key was not imported, no token of that algorithm is accepted.
    assert_eq!(verify(&token), Err(TokenError::WrongAlgorithm));
    assert!(!self::verifier().has_key(ImportedKey::ID));

    for (token, error) in [
        (imported_token(&[b"x", secret.as_slice()].concat(), &header, &claims), TokenError::BadSignature),
        (imported_token(b"", &header, &claims), TokenError::BadSignature),
        // The public key of our tokens is known to everybody.
        (imported_token(&public_key(), &header, &claims), TokenError::BadSignature),
        (imported_token(secret, &Header::new(Algorithm::HS384), &claims), TokenError::WrongAlgorithm),
        (imported_token(secret, &header, &json!({"Name": "web-1"})), TokenError::MissingClaim),
        (imported_token(secret, &header, &json!({"Name": "web-1", "Mesh": "default", "exp": 1})), TokenError::Expired),
        // A token with the id of one of our keys has to use our algorithm.
        (
            imported_token(secret, &Header { kid: Some(key().id().into()), ..header.clone() }, &claims),
            TokenError::WrongAlgorithm,
        ),
        (
            imported_token(secret, &Header { kid: Some(ImportedKey::ID.into()), ..header.clone() }, &claims),
            TokenError::WrongAlgorithm,
        ),
    ] {
        assert_eq!(verifier.verify(&token, now()), Err(error), "{token}");
    }
    let (signed, _) = token.rsplit_once('.').unwrap();
    for altered in [signed.to_owned() + ".", signed.to_owned() + ".%%", signed.to_owned()] {
        assert!(verifier.verify(&altered, now()).is_err(), "{altered}");
    }
    let alg_none =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims.to_string()));
    assert_eq!(verifier.verify(&alg_none, now()), Err(TokenError::WrongAlgorithm));
}

#[test]
fn short_and_damaged_keys_are_not_taken_over() {
    assert!(ImportedKey::new(zeroize(&[7; ImportedKey::SHORTEST - 1])).is_none());
    for spec in [json!(null), json!({}), json!("%%"), json!("aGk=")] {
        assert!(ImportedKey::read(&spec).is_none(), "{spec}");
    }
    let key = ImportedKey::new(zeroize(&[7; ImportedKey::SHORTEST])).unwrap();
    assert!(!format!("{key:?}").contains('7'));
}

fn zeroize(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}
