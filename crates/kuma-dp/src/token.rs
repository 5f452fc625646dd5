//! The dataplane token: the user's file, and the clean copy of it that Envoy reads.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use http::HeaderValue;

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
}

/// A token, fit for a header. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(HeaderValue);

impl TokenFile {
    /// Checks the file and makes the first copy.
    ///
    /// # Errors
    /// It cannot be read, is empty, or holds no token.
    pub(crate) fn open(source: PathBuf, copy: PathBuf) -> anyhow::Result<TokenFile> {
        let file = TokenFile { source, copy };
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
        let token = read(&self.source)?;
        if fs::read(&self.copy).ok().as_deref() != Some(token.0.as_bytes()) {
            write_private(&self.copy, token.0.as_bytes())
                .with_context(|| format!("could not copy the token to {}", self.copy.display()))?;
        }
        Ok(token)
    }
}

fn read(path: &Path) -> anyhow::Result<Token> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("could not read file {} (the dataplane token)", path.display()))?;
    let shown = path.display();
    let token = bytes.trim_ascii();
    anyhow::ensure!(
        !token.is_empty(),
        "token under file {shown} is empty; generate one with 'kumactl generate dataplane-token --dataplane=NAME --mesh=MESH > {shown}'"
    );
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_BYTES && token.iter().all(u8::is_ascii_graphic),
        "token under file {shown} is not a token: it must be a single word without blanks"
    );
    let mut value = HeaderValue::from_bytes(token).context("not fit for a header")?;
    value.set_sensitive(true);
    Ok(Token(value))
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
        let file = TokenFile::open(source, dir.path().join("copy"));
        (dir, file)
    }

    #[test]
    fn copy_is_trimmed_private_and_renewed() {
        let (dir, file) = open(b"\n eyJ.aaa.bbb\r\n");
        let file = file.unwrap();
        assert_eq!(fs::read(file.copy()).unwrap(), b"eyJ.aaa.bbb");
        assert_eq!(fs::metadata(file.copy()).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.path().join("token"), "eyJ.ccc.ddd\n").unwrap();
        assert_eq!(file.refresh().unwrap().header(), "eyJ.ccc.ddd");
        assert_eq!(fs::read(file.copy()).unwrap(), b"eyJ.ccc.ddd");
    }

    #[test]
    fn a_bad_renewal_keeps_the_last_good_copy() {
        let (dir, file) = open(b"good");
        let file = file.unwrap();
        fs::write(dir.path().join("token"), "").unwrap();
        file.refresh().unwrap_err();
        assert_eq!(fs::read(file.copy()).unwrap(), b"good");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let large = vec![b'a'; MAX_BYTES as usize + 1];
        for (content, message) in [
            (&b""[..], "is empty"),
            (b" \n", "is empty"),
            (b"two words", "is not a token"),
            (b"two\nlines", "is not a token"),
            (b"\xff\xfe", "is not a token"),
            (&large, "is not a token"),
        ] {
            let (_dir, file) = open(content);
            let Err(error) = file else { panic!("{content:?} was taken for a token") };
            assert!(error.to_string().contains(message), "{error}");
        }
        let Err(error) = TokenFile::open("/nonexistent/token".into(), "/nonexistent/copy".into()) else { panic!() };
        assert!(error.to_string().contains("could not read file /nonexistent/token"), "{error}");
    }

    #[test]
    fn cannot_be_printed() {
        let (_dir, file) = open(b"canary");
        assert_eq!(format!("{:?}", file.unwrap().refresh().unwrap()), "*****");
    }
}
