//! Names of labels in Prometheus.

/// Whether Prometheus accepts this as the name of a label. It refuses a whole file because of one invalid name.
pub(crate) fn is_name(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| first(byte) || byte.is_ascii_digit();
    text.bytes().next().is_some_and(first) && text.bytes().all(other)
}

/// The label for a tag: characters that are not allowed become `_`. Names that begin with two underscores have a
/// meaning in Prometheus, so these are reduced to one.
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
