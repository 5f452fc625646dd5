//! Dataplane tokens. As it stands, no input is one, since nothing but a key that nobody has makes them. Then the
//! input's two lines are signed as header and claims: whatever they say, the reader gets along.
#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kuma_ca::{SigningKey, TokenVerifier};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

struct Keys {
    id: String,
    verifier: TokenVerifier,
    signer: RsaKeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = SigningKey::generate().expect("a key");
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.to_pem().expose().as_bytes()).expect("PEM");
    Keys {
        id: key.id().to_owned(),
        verifier: TokenVerifier::new([key.verifying_key()]),
        signer: RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key"),
    }
});

fuzz_target!(|input: &str| {
    let Keys { id, verifier, signer } = &*KEYS;
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    assert!(verifier.verify(input, now).is_err(), "nobody has signed it");

    let (header, claims) = input.split_once('\n').unwrap_or((input, ""));
    let header = header.replace("KEY", id);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(claims));
    let mut signature = vec![0; signer.public_modulus_len()];
    signer.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signs");
    let Ok(said) = verifier.verify(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature)), now) else { return };
    assert!(!said.name.is_empty() && !said.mesh.is_empty() && said.key_id == *id);
    assert!(said.expires.is_none_or(|end| end > now));
    let header: serde_json::Value = serde_json::from_str(&header).expect("it was read");
    assert_eq!(header["alg"], "RS256", "the token has no say in it");
    let claims: serde_json::Value = serde_json::from_str(claims).expect("they were read");
    assert_eq!((claims["Name"].as_str(), claims["Mesh"].as_str()), (Some(&*said.name), Some(&*said.mesh)));
    assert!(verifier.verify(&format!("{signed}x.{}", URL_SAFE_NO_PAD.encode(&signature)), now).is_err());
});
