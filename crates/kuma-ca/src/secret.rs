//! Text that must not be shown.

use std::fmt;

use zeroize::Zeroizing;

/// Secret text, such as a private key in PEM or a token.
///
/// It prints as `*****`, does not implement `Serialize`, and is overwritten when dropped. [`expose`](Secret::expose) is
/// the only access to the text, so that every use can be found.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of `text`. The caller has to erase other copies.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text. It must not be written to a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn is_never_printed() {
        let secret = Secret::new("hunter2".to_string());
        assert_eq!(format!("{secret} {secret:?} {secret:#?} {:?}", Some(&secret)), "***** ***** ***** Some(*****)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
