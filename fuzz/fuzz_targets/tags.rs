//! Tags and selectors. The input: `key=value` a line; those before an empty line are a selector's.
#![no_main]

use kuma_model::{ANY, Selector, Tags, check_name, check_service, spiffe_id};
use libfuzzer_sys::fuzz_target;

fn tags(text: &str) -> Tags {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fuzz_target!(|input: &str| {
    let (selector, tags_text) = input.split_once("\n\n").unwrap_or((input, ""));
    let selector = Selector { tags: tags(selector) };
    let tags = tags(tags_text);
    let expected =
        selector.tags.0.iter().all(|(key, value)| tags.0.get(key).is_some_and(|found| value == ANY || value == found));
    assert_eq!(selector.matches(&tags), expected);
    let same = Selector { tags: tags.clone() };
    assert_eq!(selector.rank().cmp(&same.rank()), same.rank().cmp(&selector.rank()).reverse());
    let _ = check_name(input);
    if let Some(service) = tags.service() {
        if check_service(service).is_none() {
            // It becomes the last part of a URI.
            let id = spiffe_id("default", service);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
            assert!(id.strip_prefix("spiffe://default/").is_some_and(|path| path.bytes().all(plain)), "{id}");
        }
    }
});
