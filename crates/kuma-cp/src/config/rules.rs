//! Collects what is wrong with a configuration as a whole.

use std::collections::BTreeMap;

use go_duration::GoDuration;

use super::load::Mistake;

/// The list of broken rules, each with the place where the offending value was set.
pub(super) struct Rules<'a> {
    /// Path of a setting -> the variable or the line of the file that set it.
    sources: &'a BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(sources: &'a BTreeMap<String, String>) -> Self {
        Self { sources, mistakes: Vec::new() }
    }

    /// Records `message` on the setting at `path` unless `fine`.
    pub(super) fn require(&mut self, fine: bool, path: &str, message: &str) {
        if fine {
            return;
        }
        let source = match self.sources.get(path) {
            Some(source) => source.clone(),
            None => path.to_string(),
        };
        self.mistakes.push(Mistake { source, message: message.to_string() });
    }

    /// An interval of zero would mean "all the time".
    pub(super) fn positive(&mut self, interval: GoDuration, path: &str, message: &str) {
        self.require(interval != GoDuration::default(), path, message);
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }
}
