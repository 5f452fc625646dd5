//! Tags, the attributes of an inbound, and the selectors that match them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode};
use crate::violations::Violations;

/// The tag that every inbound has: the name of its service.
pub const SERVICE_TAG: &str = "service";

/// The tag that says what the application behind an inbound speaks: `http` or `tcp`, in any case. Without it nothing
/// but connections is known of it.
pub const PROTOCOL_TAG: &str = "protocol";

/// The value of [`PROTOCOL_TAG`] for HTTP/1 and HTTP/2, gRPC included.
pub(crate) const HTTP: &str = "http";

/// The value of [`PROTOCOL_TAG`] for anything else.
pub(crate) const TCP: &str = "tcp";

/// The value by which a selector takes any value of a tag.
pub const ANY: &str = "*";

/// Attributes of an inbound or a gateway, or what a selector asks of them. Displayed as `key=value` pairs by key.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    /// The value of the `service` tag.
    pub fn service(&self) -> Option<&str> {
        self.get(SERVICE_TAG).map(String::as_str)
    }

    /// Whether the application that has these tags speaks HTTP.
    pub fn speaks_http(&self) -> bool {
        self.get(PROTOCOL_TAG).is_some_and(|protocol| protocol.eq_ignore_ascii_case(HTTP))
    }
}

impl Deref for Tags {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Tags {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Tags {
        Tags(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Tags {
    fn from(pairs: [(K, V); N]) -> Tags {
        pairs.into_iter().collect()
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let separator = if index > 0 { " " } else { "" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

impl Decode for Tags {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Tags> {
        let Value::Object(entries) = value else {
            return decode::wrong_type(path, violations, "an object", value);
        };
        let read = |(key, value): (&String, &Value)| {
            let value = String::decode(value, &decode::entry(path, key), violations)?;
            Some((key.clone(), value))
        };
        // Sorted first, so that violations come in the order of the keys.
        let sorted: BTreeMap<&String, &Value> = entries.iter().collect();
        Some(sorted.into_iter().filter_map(read).collect())
    }
}

/// Asks for tags: each key present, with its value or, for `*`, any. Empty, it matches everything.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub struct Selector {
    /// The tags asked for.
    #[serde(rename = "match")]
    pub tags: Tags,
}

impl Selector {
    /// Whether one set of tags has everything that is asked for.
    pub fn matches(&self, tags: &Tags) -> bool {
        let has =
            |(key, wanted): (&String, &String)| tags.get(key).is_some_and(|value| wanted == ANY || wanted == value);
        self.tags.iter().all(has)
    }

    /// How specific it is.
    pub fn rank(&self) -> Rank {
        let wildcard = self.tags.values().filter(|value| *value == ANY).count();
        let exact = self.tags.len() - wildcard;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Rank { exact: count(exact), wildcard: count(wildcard) }
    }
}

impl<T: Into<Tags>> From<T> for Selector {
    fn from(tags: T) -> Selector {
        Selector { tags: tags.into() }
    }
}

impl Decode for Selector {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Selector> {
        decode::object(value, path, violations, |fields| Selector { tags: fields.get("match") })
    }
}

/// How specific a selector is: more tags are more specific, and of as many tags, more exact values.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Rank {
    /// Tags asked for with a value.
    pub exact: u32,
    /// Tags asked for with any value.
    pub wildcard: u32,
}

impl Rank {
    fn weight(self) -> (u64, u32) {
        (u64::from(self.exact) + u64::from(self.wildcard), self.exact)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        self.weight().cmp(&other.weight())
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is wrong with the name of a service, if anything.
///
/// It becomes the last segment of a SPIFFE id (`spiffe://<mesh>/<service>`), whose alphabet the SPIFFE-ID standard
/// (2.2, path) limits to letters, digits, `.`, `_` and `-`, and forbids `.` and `..`. The colon is ours: the names that
/// are made for Kubernetes services end with the port.
pub fn check_service(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if name == "." || name == ".." {
        Some("service name cannot be '.' or '..'")
    } else if name.len() > 253 {
        Some("service name cannot be longer than 253 characters")
    } else if !name.bytes().all(allowed) {
        Some("service name can only consist of latin letters, digits and '.', '_', ':', '-' symbols")
    } else {
        None
    }
}

/// What is wrong with the key of a tag, beyond being empty.
pub(crate) fn check_key(key: &str) -> Option<&'static str> {
    key.contains(char::is_control).then_some("tag key cannot contain control characters")
}

/// What is wrong with the value of a tag, beyond being empty.
pub(crate) fn check_value(key: &str, value: &str) -> Option<&'static str> {
    if value.contains(char::is_control) {
        Some("tag value cannot contain control characters")
    } else if key == SERVICE_TAG {
        check_service(value)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_selector_asks_for_every_tag() {
        let tags = Tags::from([("service", "web"), ("version", "v1")]);
        let matches = |wanted: &[(&str, &str)]| Selector::from(wanted.iter().copied().collect::<Tags>()).matches(&tags);
        assert!(matches(&[]));
        assert!(matches(&[("service", "web")]));
        assert!(matches(&[("service", "*"), ("version", "v1")]));
        assert!(!matches(&[("service", "web"), ("version", "v2")]));
        assert!(!matches(&[("region", "*")]));
        assert!(!matches(&[("service", "we")]));
    }

    #[test]
    fn more_tags_are_more_specific_and_then_more_exact_ones() {
        let rank = |exact, wildcard| Rank { exact, wildcard };
        let ascending = [rank(0, 0), rank(0, 1), rank(1, 0), rank(0, 2), rank(1, 1), rank(2, 0), rank(0, 3)];
        assert!(ascending.is_sorted());
        assert_eq!(Selector::from([("service", "web"), ("region", "*"), ("zone", "*")]).rank(), rank(1, 2));
        assert!(rank(u32::MAX, u32::MAX) > rank(u32::MAX, 0));
    }

    #[test]
    fn tags_read_as_pairs_in_the_order_of_their_keys() {
        assert_eq!(Tags::from([("version", "v1"), ("service", "web")]).to_string(), "service=web version=v1");
        assert_eq!(Tags::default().to_string(), "");
    }

    #[test]
    fn service_names_fit_into_a_spiffe_id() {
        for good in ["a", "web.default.svc:80", "A_b-c", "...", "a".repeat(253).as_str()] {
            assert_eq!(check_service(good), None, "{good}");
        }
        for bad in [".", "..", "a/b", "a b", "a%20", "ü", "*", "a\n", "a".repeat(254).as_str()] {
            assert!(check_service(bad).is_some(), "{bad}");
        }
    }

    fn rank() -> impl Strategy<Value = Rank> {
        (0..4_u32, 0..4_u32).prop_map(|(exact, wildcard)| Rank { exact, wildcard })
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::btree_map("[a-c]", "[x-z*]", 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn ranks_are_totally_ordered(a in rank(), b in rank(), c in rank()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn the_order_in_which_tags_are_written_does_not_matter(
            (wanted, shuffled) in pairs().prop_flat_map(|pairs| (Just(pairs.clone()), Just(pairs).prop_shuffle())),
            tags in pairs(),
        ) {
            let tags: Tags = tags.into_iter().collect();
            let (first, second) = (wanted.into_iter().collect::<Tags>(), shuffled.into_iter().collect::<Tags>());
            prop_assert_eq!(&first, &second);
            prop_assert_eq!(Selector::from(first).matches(&tags), Selector::from(second).matches(&tags));
        }

        #[test]
        fn a_selector_that_asks_for_more_is_more_specific(wanted in pairs(), key in "[d-f]", value in "[x*]") {
            let narrow: Tags = wanted.iter().cloned().chain([(key, value)]).collect();
            let (wide, narrow) = (Selector::from(wanted.into_iter().collect::<Tags>()), Selector::from(narrow));
            prop_assert!(narrow.rank() > wide.rank());
        }
    }
}
