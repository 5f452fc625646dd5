//! Revisions that never go back.
//!
//! Proxies answer for revisions, and a commit counts as accepted once a later one is answered. When the store is
//! replaced by an older one, its next commits have numbers that proxies have answered already, for other commits. So
//! the engine counts on from the highest number that it has used, and translates.

use kuma_store::Revision;

/// How revisions of the store are counted here.
#[derive(Debug)]
pub(crate) struct Numbering {
    /// Which store it is; see [`kuma_store::Contents::generation`].
    generation: Option<u64>,
    /// The highest number that was used here.
    highest: Revision,
    /// From which number here on, how much higher it is than in the store. Ordered.
    spans: Vec<(Revision, Revision)>,
}

impl Numbering {
    /// As in the store, until it is replaced.
    pub(crate) fn new() -> Numbering {
        Numbering { generation: None, highest: 0, spans: vec![(0, 0)] }
    }

    /// Everything was read at `revision` of the store. Says whether it is another one than before, so that what was
    /// known of its commits means nothing any more.
    pub(crate) fn load(&mut self, revision: Revision, generation: u64) -> bool {
        let is_another = self.generation.replace(generation).is_some_and(|before| before != generation);
        if is_another {
            let first = self.highest.max(revision) + 1;
            self.spans.push((first, first - revision));
        }
        is_another
    }

    /// The number here of a revision of the store.
    pub(crate) fn internal(&self, revision: Revision) -> Revision {
        revision + self.spans.last().map_or(0, |(_, offset)| *offset)
    }

    /// The same, of a commit that is heard of now.
    pub(crate) fn heard(&mut self, revision: Revision) -> Revision {
        let internal = self.internal(revision);
        self.highest = self.highest.max(internal);
        internal
    }

    /// The revision of the store that has this number here: of the store that was there then.
    pub(crate) fn external(&self, internal: Revision) -> Revision {
        let span = self.spans.iter().rev().find(|(first, _)| *first <= internal);
        internal - span.map_or(0, |(_, offset)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_go_back_whatever_the_store_does() {
        let mut numbering = Numbering::new();
        assert!(!numbering.load(100, 0));
        assert_eq!(numbering.heard(100), 100);
        assert_eq!(numbering.heard(105), 105);
        // Behind, and loaded again from the same store.
        assert!(!numbering.load(107, 0));
        assert_eq!(numbering.heard(107), 107);
        // Rewound, to a lower revision, to 0, and to one with as many other commits.
        let mut last = 107;
        for (generation, revision) in [(1, 95), (2, 0), (4, 3), (5, 900)] {
            assert!(numbering.load(revision, generation));
            for revision in revision..revision + 3 {
                let internal = numbering.heard(revision);
                assert!(internal > last, "{revision} became {internal} after {last}");
                assert_eq!(numbering.external(internal), revision);
                last = internal;
            }
        }
        // What was answered before still means what it meant then.
        assert_eq!(numbering.external(0), 0);
        assert_eq!(numbering.external(107), 107);
        assert_eq!(numbering.external(108), 95);
    }
}
