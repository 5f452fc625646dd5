//! The rules for what a policy selects.

use crate::decode::{element, entry};
use crate::tags::{ANY, SERVICE_TAG, Selector, Tags, check_key, check_value};
use crate::violations::Violations;

/// Which tags a selector may ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Any tags, `service` or not.
    Tags,
    /// `service` and any other tags.
    Any,
    /// `service` and nothing else.
    Service,
    /// `service` and nothing else, because a certificate tells nothing else.
    Certified,
}

/// Checks a list of selectors that must have an element.
pub(crate) fn check_list(path: &str, selectors: &[Selector], allowed: Allowed, violations: &mut Violations) {
    if selectors.is_empty() {
        violations.add(path, "must have at least one element");
    }
    check_each(path, selectors, allowed, violations);
}

/// Checks a list of selectors that may be empty.
pub(crate) fn check_each(path: &str, selectors: &[Selector], allowed: Allowed, violations: &mut Violations) {
    for (index, selector) in selectors.iter().enumerate() {
        check_map(&format!("{}.match", element(path, index)), &selector.tags, allowed, true, violations);
    }
}

/// Checks the tags of a destination that traffic is sent to.
pub(crate) fn check_destination(path: &str, tags: &Tags, violations: &mut Violations) {
    check_map(path, tags, Allowed::Any, false, violations);
}

fn check_map(path: &str, tags: &Tags, allowed: Allowed, any_service: bool, violations: &mut Violations) {
    match allowed {
        Allowed::Any | Allowed::Tags if tags.is_empty() => violations.add(path, "must have at least one tag"),
        Allowed::Service | Allowed::Certified if tags.len() != 1 => {
            violations.add(path, format!("must consist of exactly one tag {SERVICE_TAG:?}"));
        }
        _ => {}
    }
    for (key, value) in tags.iter() {
        let at = || entry(path, key);
        if key.is_empty() {
            violations.add(path, "tag key must be non-empty");
        } else if let Some(problem) = check_key(key) {
            violations.add(at(), problem);
        } else if key != SERVICE_TAG && allowed == Allowed::Service {
            violations.add(at(), format!("tag {key:?} is not allowed"));
        } else if key != SERVICE_TAG && allowed == Allowed::Certified {
            let why = "sources are told apart by their certificates, which carry the service alone";
            violations.add(at(), format!("tag {key:?} is not allowed: {why}"));
        }
        if value.is_empty() {
            violations.add(at(), "tag value must be non-empty");
        } else if let Some(problem) = check_value(key, value).filter(|_| !(any_service && value == ANY)) {
            violations.add(at(), problem);
        }
    }
    if allowed != Allowed::Tags && !tags.contains_key(SERVICE_TAG) {
        violations.add(path, format!("mandatory tag {SERVICE_TAG:?} is missing"));
    }
}
