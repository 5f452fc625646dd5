//! Text that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// Secret text, such as a private key in PEM or a token.
///
/// It prints as `*****`, has no `Serialize`, and is overwritten when dropped. [`expose`](Secret::expose) is the only
/// way to the text, so that a reader finds every place that uses it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies that the caller made before are the caller's to erase.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself: for writing it where it belongs, never for a log or an error.
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
