//! Names of Prometheus' labels.

/// Whether Prometheus takes this as the name of a label. It refuses a whole file for one that it does not.
pub(crate) fn is_name(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| first(byte) || byte.is_ascii_digit();
    text.bytes().next().is_some_and(first) && text.bytes().all(other)
}

/// A tag's key as the name of a label: what a label cannot have becomes `_`. Names that begin with two underscores are
/// Prometheus' own, and mean something to it: one underscore is left of them.
pub(crate) fn of_tag(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with("__") {
        name.replace_range(..name.len() - name.trim_start_matches('_').len(), "_");
    }
    if !is_name(&name) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_becomes_a_name() {
        for (key, name) in [
            ("service", "service"),
            ("app.kubernetes.io/name", "app_kubernetes_io_name"),
            ("é", "_"),
            ("1st", "_1st"),
            ("", "_"),
            ("_own", "_own"),
            ("__address__", "_address__"),
            ("---", "_"),
        ] {
            assert_eq!(of_tag(key), name, "{key}");
            assert!(is_name(name));
        }
        for text in ["", "1st", "a-b", "é", "a b"] {
            assert!(!is_name(text), "{text}");
        }
    }
}
