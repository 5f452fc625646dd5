//! Every message of Envoy 1.40.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, ExtensionDescriptor, MessageDescriptor};

/// `FileDescriptorSet`, compressed by zlib.
const COMPRESSED: &[u8] = include_bytes!("descriptors.bin.zz");

/// What the type URL of an `Any` starts with.
pub(crate) const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// Unpacked at the first use: some tens of milliseconds and megabytes, which nobody pays who writes no ProxyTemplate.
static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(Descriptors::load);

/// Envoy's messages, and what their options say.
pub(crate) struct Descriptors {
    pub(crate) pool: DescriptorPool,
    /// Names of v2 messages, and the messages of v3 that they became.
    from_v2: HashMap<String, MessageDescriptor>,
    /// `validate.rules`, the constraints of a field.
    pub(crate) field_rules: ExtensionDescriptor,
    /// `validate.required`, of a oneof.
    pub(crate) oneof_required: ExtensionDescriptor,
    /// `validate.disabled`, of a message.
    pub(crate) message_disabled: ExtensionDescriptor,
    /// `validate.ignored`, of a message.
    pub(crate) message_ignored: ExtensionDescriptor,
    /// Of a deprecated field that Envoy refuses unless its runtime allows it.
    pub(crate) disallowed: ExtensionDescriptor,
    /// Of a field that holds a secret.
    pub(crate) sensitive: ExtensionDescriptor,
}

/// Envoy's messages.
pub(crate) fn get() -> &'static Descriptors {
    &DESCRIPTORS
}

impl Descriptors {
    #[expect(clippy::expect_used, reason = "what is compiled in is whole: every test reads it")]
    fn load() -> Descriptors {
        let set = miniz_oxide::inflate::decompress_to_vec_zlib(COMPRESSED).expect("the descriptors unpack");
        let pool = DescriptorPool::decode(set.as_slice()).expect("the descriptors are read");
        let extension =
            |name: &str| pool.get_extension_by_name(name).expect("Envoy's options are among the descriptors");
        let versioning = extension("udpa.annotations.versioning");
        let mut from_v2 = HashMap::new();
        for message in pool.all_messages() {
            let options = message.options();
            if !options.has_extension(&versioning) {
                continue;
            }
            let versioning = options.get_extension(&versioning);
            let previous = versioning.as_message().and_then(|versioning| {
                versioning.get_field_by_name("previous_message_type")?.as_str().map(str::to_owned)
            });
            from_v2.extend(previous.map(|previous| (previous, message)));
        }
        Descriptors {
            field_rules: extension("validate.rules"),
            oneof_required: extension("validate.required"),
            message_disabled: extension("validate.disabled"),
            message_ignored: extension("validate.ignored"),
            sensitive: extension("udpa.annotations.sensitive"),
            disallowed: extension("envoy.annotations.disallowed_by_default"),
            from_v2,
            pool,
        }
    }

    /// The message that a type URL names, and whether it named the v2 message of it.
    pub(crate) fn resolve(&self, type_url: &str) -> Result<(MessageDescriptor, bool), String> {
        let name = type_url.strip_prefix(TYPE_URL_PREFIX).unwrap_or(type_url);
        let message = match self.from_v2.get(name) {
            Some(message) => Some((message.clone(), true)),
            None => self.pool.get_message_by_name(name).map(|message| (message, false)),
        };
        match message {
            Some(found) if name != type_url => Ok(found),
            Some(_) => Err(format!("unknown type {type_url:?}; did you mean \"{TYPE_URL_PREFIX}{name}\"?")),
            None => Err(self.unknown(type_url, name)),
        }
    }

    fn unknown(&self, type_url: &str, name: &str) -> String {
        let v3 = self.pool.all_messages().map(|message| message.full_name().to_owned());
        let nearest = nearest(name, v3.chain(self.from_v2.keys().cloned()));
        let hint = nearest.map(|nearest| format!("; did you mean \"{TYPE_URL_PREFIX}{nearest}\"?"));
        format!("unknown type {type_url:?}{}", hint.unwrap_or_default())
    }
}

/// The name that is spelled most like another, if one is spelled alike at all.
pub(crate) fn nearest(name: &str, among: impl Iterator<Item = String>) -> Option<String> {
    const ALIKE: f64 = 0.85;
    // Long names are nobody's slip of the finger, and cost the square of their length.
    const LONGEST: usize = 128;
    if name.len() > LONGEST {
        return None;
    }
    let scored = among.map(|other| (strsim::jaro_winkler(name, &other), other));
    // Of two that are alike the same one is named each time.
    let best = scored.max_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| right.cmp(left)));
    best.filter(|(score, _)| *score >= ALIKE).map(|(_, name)| name)
}
