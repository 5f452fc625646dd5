//! The dataplane token: the user's file, and the clean copy of it that Envoy reads.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::files::write_private;

/// Far more than any token; a bound for the case that the wrong file was named.
const MAX_BYTES: u64 = 64 * 1024;

/// A token file and its copy in the runtime directory.
///
/// Envoy sends the content of the copy as it stands in a header: a newline at the end, which `echo` leaves, would make
/// every stream fail without a message. That is why Envoy never gets the user's own file.
pub(crate) struct TokenFile {
    source: PathBuf,
    copy: PathBuf,
    /// Mesh and name of the Dataplane that it has to be of.
    mesh: String,
    name: String,
}

/// A token, fit for a header. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(HeaderValue);

impl TokenFile {
    /// Checks the file and makes the first copy.
    ///
    /// # Errors
    /// It cannot be read, is empty, or holds no token of this Dataplane.
    pub(crate) fn open(source: PathBuf, copy: PathBuf, mesh: &str, name: &str) -> anyhow::Result<TokenFile> {
        let file = TokenFile { source, copy, mesh: mesh.to_owned(), name: name.to_owned() };
        file.refresh()?;
        if let Ok(metadata) = fs::metadata(&file.source)
            && metadata.permissions().mode() & 0o077 != 0
        {
            tracing::warn!(
                "the token file {} can be read by other users of this machine; chmod 600 keeps it to yourself",
                file.source.display()
            );
        }
        Ok(file)
    }

    /// Where the copy is.
    pub(crate) fn copy(&self) -> &Path {
        &self.copy
    }

    /// Reads the file again and renews the copy if the token has changed.
    pub(crate) fn refresh(&self) -> anyhow::Result<Token> {
        let token = self.read()?;
        if fs::read(&self.copy).ok().as_deref() != Some(token.0.as_bytes()) {
            write_private(&self.copy, token.0.as_bytes())
                .with_context(|| format!("could not copy the token to {}", self.copy.display()))?;
        }
        Ok(token)
    }
}

impl TokenFile {
    fn read(&self) -> anyhow::Result<Token> {
        let Self { source, mesh, name, .. } = self;
        let mut bytes = Vec::new();
        fs::File::open(source)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .with_context(|| format!("could not read file {} (the dataplane token)", source.display()))?;
        let shown = source.display();
        let advice =
            format!("generate one with 'kumactl generate dataplane-token --dataplane={name} --mesh={mesh} > {shown}'");
        anyhow::ensure!(!bytes.trim_ascii().is_empty(), "token under file {shown} is empty; {advice}");
        let token =
            word(&bytes).map_err(|problem| anyhow!("token under file {shown} is not a token: {problem}; {advice}"))?;
        if let Some(problem) = claims(token).and_then(|claims| claims.problem(mesh, name, SystemTime::now())) {
            anyhow::bail!("the token under file {shown} {problem}; {advice}");
        }
        let mut value = HeaderValue::from_str(token).context("not fit for a header")?;
        value.set_sensitive(true);
        Ok(Token(value))
    }
}

/// The token in the content of a file, or what is wrong with that: nobody sees most of it in an editor.
fn word(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {} KB", MAX_BYTES / 1024));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16, as PowerShell's > writes it; it has to be plain ASCII".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    if text.starts_with('\u{feff}') {
        return Err("it begins with a byte order mark, which some editors write; it has to be plain ASCII".to_owned());
    }
    let text = text.trim_ascii();
    if let Some(letter) =
        text.chars().find(|letter| !letter.is_ascii() || letter.is_ascii_control() && !letter.is_whitespace())
    {
        let code = u32::from(letter);
        return Err(format!("it holds the character U+{code:04X}, which may be invisible; it has to be plain ASCII"));
    }
    if text.starts_with("-----BEGIN") {
        return Err("it is a certificate or a key".to_owned());
    }
    if text.starts_with(['"', '\'', '`']) || text.ends_with(['"', '\'', '`']) {
        return Err("it is in quotes; leave them out".to_owned());
    }
    if text.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("bearer ")) {
        return Err("it begins with \"Bearer\"; leave that out".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return Err("it is more than one word".to_owned());
    }
    // A JSON Web Token: two objects and a signature (RFC 7515, 7.1).
    let parts: Vec<&str> = text.split('.').collect();
    match parts[..] {
        [header, payload, signature]
            if object(header).is_some() && object(payload).is_some() && !signature.is_empty() =>
        {
            Ok(text)
        }
        _ => Err("it is not a JSON Web Token (three parts with dots between them)".to_owned()),
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// What a token says of itself, where it says it as those of the control plane do. Nothing is proven by it here.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Mesh")]
    mesh: String,
    exp: Option<u64>,
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_value(Value::Object(object(payload)?)).ok()
}

impl Claims {
    /// Why the control plane would refuse it.
    fn problem(&self, mesh: &str, name: &str, now: SystemTime) -> Option<String> {
        let Self { name: its_name, mesh: its_mesh, exp } = self;
        if (its_mesh.as_str(), its_name.as_str()) != (mesh, name) {
            return Some(format!(
                "is of Dataplane {its_name:?} of mesh {its_mesh:?}, and this is Dataplane {name:?} of mesh {mesh:?}"
            ));
        }
        let end = UNIX_EPOCH.checked_add(Duration::from_secs((*exp)?))?;
        (end <= now).then(|| "has expired".to_owned())
    }
}

impl Token {
    /// The value of the `authorization` header, marked so that no library prints or indexes it.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(content: &[u8]) -> (tempfile::TempDir, anyhow::Result<TokenFile>) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("token");
        fs::write(&source, content).unwrap();
        let file = TokenFile::open(source, dir.path().join("copy"), "default", "web-1");
        (dir, file)
    }

    fn token(payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode("{\"alg\":\"RS256\"}"), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn copy_is_trimmed_private_and_renewed() {
        let (dir, file) = open(b"\n e30.e30.aaa\r\n");
        let file = file.unwrap();
        assert_eq!(fs::read(file.copy()).unwrap(), b"e30.e30.aaa");
        assert_eq!(fs::metadata(file.copy()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.path().join("token"), "e30.e30.bbb\n").unwrap();
        assert_eq!(file.refresh().unwrap().header(), "e30.e30.bbb");
        assert_eq!(fs::read(file.copy()).unwrap(), b"e30.e30.bbb");
    }

    #[test]
    fn a_bad_renewal_keeps_the_last_good_copy() {
        let (dir, file) = open(b"e30.e30.good");
        let file = file.unwrap();
        fs::write(dir.path().join("token"), "").unwrap();
        file.refresh().unwrap_err();
        assert_eq!(fs::read(file.copy()).unwrap(), b"e30.e30.good");
    }

    #[test]
    fn what_is_no_token_is_refused_by_what_is_wrong() {
        let large = vec![b'a'; MAX_BYTES as usize + 1];
        let advice = "'kumactl generate dataplane-token --dataplane=web-1 --mesh=default > ";
        for (content, message) in [
            (&b""[..], "is empty"),
            (b" \n", "is empty"),
            (b"two words", "more than one word"),
            (b"e30.e30.a\ne30.e30.a", "more than one word"),
            (b"\xff\xfee\0", "UTF-16"),
            (b"\xef\xbb\xbfe30.e30.a", "begins with a byte order mark"),
            ("e30.e30.a\u{200b}".as_bytes(), "holds the character U+200B"),
            ("e30.\u{a0}e30.a".as_bytes(), "holds the character U+00A0"),
            (b"e30.e30.a\0", "holds the character U+0000"),
            (b"\"e30.e30.a\"\n", "is in quotes"),
            (b"'e30.e30.a'", "is in quotes"),
            (b"Bearer e30.e30.a", "begins with \"Bearer\""),
            (b"-----BEGIN CERTIFICATE-----\n", "is a certificate or a key"),
            (b"\x80", "is not text"),
            (b"hello", "is not a JSON Web Token"),
            (b"www.example.com", "is not a JSON Web Token"),
            (b"e30.e30.", "is not a JSON Web Token"),
            (&large, "longer than 64 KB"),
        ] {
            let (_dir, file) = open(content);
            let Err(error) = file else { panic!("{content:?} was taken for a token") };
            let error = error.to_string();
            assert!(error.contains(message) && error.contains(advice), "{error}");
        }
        let none = TokenFile::open("/nonexistent/token".into(), "/nonexistent/copy".into(), "default", "web-1");
        let Err(error) = none else { panic!() };
        assert!(error.to_string().contains("could not read file /nonexistent/token"), "{error}");
    }

    #[test]
    fn a_token_of_another_dataplane_or_of_the_past_is_told() {
        for (payload, expected) in [
            (r#"{"Name":"web-1","Mesh":"default","iat":1}"#, None),
            (r#"{"Name":"web-1","Mesh":"default","exp":99999999999}"#, None),
            // Of a Kubernetes service account, say: the control plane knows what to make of it.
            (r#"{"sub":"system:serviceaccount:default:web"}"#, None),
            (r#"{"Name":"web-2","Mesh":"default"}"#, Some(r#"is of Dataplane "web-2" of mesh "default", and this is"#)),
            (r#"{"Name":"web-1","Mesh":"blue"}"#, Some(r#"is of Dataplane "web-1" of mesh "blue", and this is"#)),
            (r#"{"Name":"web-1","Mesh":"default","exp":1}"#, Some("has expired")),
        ] {
            let (_dir, file) = open(token(payload).as_bytes());
            let error = file.err().map(|error| error.to_string());
            assert_eq!(error.is_some(), expected.is_some(), "{payload}: {error:?}");
            assert!(error.unwrap_or_default().contains(expected.unwrap_or_default()), "{payload}");
        }
    }

    #[test]
    fn cannot_be_printed() {
        let (_dir, file) = open(b"e30.e30.canary");
        assert_eq!(format!("{:?}", file.unwrap().refresh().unwrap()), "*****");
    }
}
