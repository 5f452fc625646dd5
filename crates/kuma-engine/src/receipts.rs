//! Receipts: for each commit, which of the proxies that it concerns have accepted it.
//!
//! A proxy is *concerned* by a commit if a stream of it was given something else because of the commit. It has
//! *accepted* it once its streams have settled at the revision or a later one and nothing that was sent since is
//! refused or waits for something that does not exist. What was refused or unanswered before the commit is reported but
//! does not count against it.
//!
//! Every proxy has a slot, and a commit that not all proxies have accepted has a bit for each slot: 2 KB for 15,000
//! proxies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_mesh::{Affected, MeshSnapshot};
use kuma_model::Key;
use kuma_store::Revision;
use kuma_xds::{Refusal, ResourceType, Unanswered};
use rustc_hash::FxHashMap;

/// How many commits are remembered, complete or not.
const REMEMBERED: usize = 1024;

/// How many bytes the bits of proxies that have not accepted a commit may take. Beyond it the oldest commits are
/// forgotten: with 15,000 proxies of which none accepts anything, the latest 250 are remembered, and all of a mesh's
/// receipts take 2 MB (docs/performance.md, *Receipts*).
const MAX_BYTES_OF_BITS: usize = 512_000;

/// How many proxies that have not accepted a commit a receipt names.
const MAX_EXCEPTIONS: usize = 100;

/// The progress of a commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Progress {
    /// Every proxy that the commit concerns has accepted it, and none is unreachable.
    #[default]
    Live,
    /// As [`Progress::Live`], but some proxies accepted it together with a later commit that changed the same
    /// documents.
    Superseded,
    /// Every reachable proxy has accepted it. Some were silent before it, or keep their configuration from before a
    /// restart of the control plane.
    Reached,
    /// All have answered, and some have refused it.
    Refused,
    /// Some have not answered yet.
    Spreading,
}

/// Why a proxy has not accepted a commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ExceptionState {
    /// It has refused a resource.
    Refused,
    /// The proxy waits for a secret or an extension config that does not exist.
    Unanswered,
    /// The proxy was sent the change, and has not answered yet.
    Waiting,
    /// The stream of the proxy has ended without the proxy closing the connection: it may still run with its old
    /// configuration.
    Silent,
    /// The proxy keeps its configuration from before a restart of the control plane until its documents are written
    /// again.
    Held,
}

/// A proxy that has not accepted a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Name of the Dataplane.
    pub dataplane: Arc<str>,
    /// Why it has not accepted the commit.
    pub state: ExceptionState,
    /// The resource that it refused or waits for.
    pub resource: Option<(ResourceType, Arc<str>)>,
    /// The proxy's reason for a refusal.
    pub message: Option<Arc<str>>,
    /// The revision of a refusal or question, or the last one that a silent proxy had accepted.
    pub since_revision: Revision,
    /// When it became silent.
    pub since: Option<SystemTime>,
}

/// Counts of proxies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Proxies that were connected at the time of the commit and are concerned by it.
    pub concerned: u32,
    /// Concerned proxies that have accepted it.
    pub accepted: u32,
    /// Concerned proxies that have refused it.
    pub refused: u32,
    /// Concerned proxies that have not answered, silent ones included.
    pub waiting: u32,
    /// Concerned proxies that have accepted a later commit that wrote the same documents again.
    pub superseded: u32,
    /// Concerned Dataplanes without a connected proxy: they get the change when they connect.
    pub away: u32,
    /// Proxies whose stream has ended without the proxy closing the connection, and which have not reconnected.
    pub silent: u32,
    /// Proxies that keep their configuration from before a restart of the control plane.
    pub held: u32,
    /// Proxies that have connected since: they were given the change at once, and are not waited for.
    pub joined: u32,
}

/// The receipt of a commit in one mesh, or in all meshes together.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// Its revision.
    pub revision: Revision,
    /// Its progress.
    pub progress: Progress,
    /// Numbers of proxies.
    pub counts: Counts,
    /// When proxies accepted it, as durations since the commit was received: the first proxy, half of them, 99 of 100,
    /// the last.
    pub accepted_after: [Option<Duration>; 4],
    /// Proxies that have not accepted it, at most 100.
    pub exceptions: Vec<Exception>,
}

impl Progress {
    /// Whether the progress cannot change any more without a further event: every reachable proxy has answered. With
    /// `all`, proxies that were silent before the commit are waited for as well.
    pub fn is_final(self, all: bool) -> bool {
        match self {
            Progress::Live | Progress::Superseded | Progress::Refused => true,
            Progress::Reached => !all,
            Progress::Spreading => false,
        }
    }
}

impl Receipt {
    /// Adds the receipt of the same commit in another mesh.
    pub fn merge(&mut self, other: Receipt) {
        let Receipt { revision, progress, counts, accepted_after, exceptions } = other;
        self.revision = self.revision.max(revision);
        self.progress = self.progress.max(progress);
        let mine = &mut self.counts;
        for (mine, theirs) in [
            (&mut mine.concerned, counts.concerned),
            (&mut mine.accepted, counts.accepted),
            (&mut mine.refused, counts.refused),
            (&mut mine.waiting, counts.waiting),
            (&mut mine.superseded, counts.superseded),
            (&mut mine.away, counts.away),
            (&mut mine.silent, counts.silent),
            (&mut mine.held, counts.held),
            (&mut mine.joined, counts.joined),
        ] {
            *mine += theirs;
        }
        // The later time of the two meshes is exact for the last, and an upper bound for the median and the 99th
        // percentile.
        let first = [self.accepted_after[0], accepted_after[0]].into_iter().flatten().min();
        for (mine, theirs) in self.accepted_after.iter_mut().zip(accepted_after) {
            *mine = (*mine).max(theirs);
        }
        self.accepted_after[0] = first;
        self.exceptions.extend(exceptions);
        self.exceptions.truncate(MAX_EXCEPTIONS);
    }
}

/// The answer of a stream's client for a revision; see [`kuma_xds::Event::Settled`].
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The revision of the snapshot.
    pub revision: Revision,
    /// Its generation.
    pub generation: u64,
    /// The resources that it has refused.
    pub refused: Vec<Refusal>,
    /// The resources that it has requested and that do not exist.
    pub unanswered: Vec<Unanswered>,
}

/// The answers of a proxy, combined from its streams.
#[derive(Default)]
pub(crate) struct Answered<'a> {
    /// All of its streams have answered everything that was given to them up to this revision.
    pub(crate) up_to: Revision,
    /// The oldest revision at which a stream of it has settled.
    pub(crate) revision: Revision,
    pub(crate) refused: Vec<&'a Refusal>,
    pub(crate) unanswered: Vec<&'a Unanswered>,
}

/// A remembered commit.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    received: SystemTime,
    documents: Vec<Key>,
    /// Slots of proxies that have not accepted it.
    waiting: Bits,
    /// Slots of those that have refused it.
    refused: BTreeMap<u32, Exception>,
    /// Slots of those that wait for a resource that does not exist.
    unanswered: BTreeMap<u32, Exception>,
    /// Slots of proxies that it concerns, but that keep their configuration from before a restart.
    held: Bits,
    /// A later commit that wrote one of the same documents.
    superseded_by: Option<Revision>,
    counts: Counts,
    accepted_after: [Option<Duration>; 4],
}

/// A proxy whose stream has ended without the proxy closing the connection.
#[derive(Clone, Debug)]
struct Silent {
    since: SystemTime,
    /// The latest commit at that time.
    at: Revision,
    /// The last revision that it had accepted.
    accepted: Revision,
}

/// The remembered commits of a mesh.
#[derive(Default)]
pub(crate) struct Receipts {
    slots: Slots,
    /// By revision. At most [`REMEMBERED`], with at most [`MAX_BYTES_OF_BITS`].
    commits: VecDeque<Commit>,
    /// For each slot, how many commits its proxy has not accepted. Most often 0, which makes a search unnecessary.
    outstanding: Vec<u32>,
    /// Proxies that are silent now, with the time and revision since when.
    silent: BTreeMap<Arc<str>, Silent>,
    /// Proxies that are held now.
    held: BTreeSet<Arc<str>>,
    /// Whether the last commit is being published: changes of streams are then caused by it.
    publishing: bool,
}

impl Receipts {
    /// A commit is about to be published.
    pub(crate) fn begin(&mut self, revision: Revision, documents: Vec<Key>, now: SystemTime) {
        for before in &mut self.commits {
            if before.superseded_by.is_none() && before.documents.iter().any(|key| documents.contains(key)) {
                before.superseded_by = Some(revision);
            }
        }
        let mut bytes: usize = self.commits.iter().map(|commit| commit.waiting.bytes() + commit.held.bytes()).sum();
        while self.commits.len() >= REMEMBERED || bytes > MAX_BYTES_OF_BITS {
            bytes -= self.forget_oldest();
        }
        self.commits.push_back(Commit {
            revision,
            received: now,
            documents,
            waiting: Bits::default(),
            refused: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            held: Bits::default(),
            superseded_by: None,
            counts: Counts::default(),
            accepted_after: [None; 4],
        });
        self.publishing = true;
    }

    /// The commit is published. Of the Dataplanes that it concerns, those without a connected proxy are away.
    pub(crate) fn end(&mut self, affected: &Affected, snapshot: &MeshSnapshot, is_connected: impl Fn(&str) -> bool) {
        self.publishing = false;
        let Some(commit) = self.commits.back_mut() else { return };
        // A proxy that was given the commit is connected: most are, and this is the quicker way to see it.
        let was_given = |name: &str| self.slots.get(name).is_some_and(|slot| commit.waiting.contains(slot));
        let is_away = |name: &str| !was_given(name) && !is_connected(name);
        let away = match affected {
            Affected::All => snapshot.dataplanes().filter(|dataplane| is_away(&dataplane.name)).count(),
            Affected::Proxies { whole, admission, flows, endpoints, services: _ } => {
                let names = [whole, admission, flows, endpoints].into_iter().flatten();
                let names = names.filter(|name| is_away(name) && snapshot.dataplane(name).is_some());
                // A name may be in several sets.
                names.collect::<BTreeSet<_>>().len()
            }
        };
        let away = away.saturating_sub(self.silent.len());
        commit.counts.away = u32::try_from(away).unwrap_or(u32::MAX);
    }

    /// Records that a stream of a proxy was given a changed snapshot.
    pub(crate) fn given(&mut self, proxy: &Arc<str>) {
        if !self.publishing {
            return;
        }
        let slot = self.slots.of(proxy);
        let Some(commit) = self.commits.back_mut() else { return };
        if commit.waiting.insert(slot) {
            commit.counts.concerned += 1;
            let at = slot as usize;
            if self.outstanding.len() <= at {
                self.outstanding.resize(at + 1, 0);
            }
            self.outstanding[at] += 1;
        }
    }

    /// A stream of a proxy is held where the commit would have given it something.
    pub(crate) fn held(&mut self, proxy: &Arc<str>) {
        if !self.publishing {
            return;
        }
        let slot = self.slots.of(proxy);
        if let Some(commit) = self.commits.back_mut() {
            commit.held.insert(slot);
            self.held.insert(proxy.clone());
        }
    }

    /// The first stream of a proxy was opened. If the proxy was silent, it stays so until it has answered, since it may
    /// run with its old configuration until then.
    pub(crate) fn connected(&mut self, proxy: &Arc<str>) {
        if self.silent.contains_key(proxy) {
            return;
        }
        let slot = self.slots.get(proxy);
        for commit in &mut self.commits {
            let is_waited_for = slot.is_some_and(|slot| commit.waiting.contains(slot));
            if !is_waited_for && !commit.waiting.is_empty() {
                commit.counts.joined += 1;
            }
        }
    }

    /// The last stream of a proxy has ended. `by_far_end`: because the proxy closed the connection; `accepted`: the
    /// last revision that it had accepted; `is_known`: whether its Dataplane exists.
    pub(crate) fn disconnected(
        &mut self,
        proxy: &Arc<str>,
        by_far_end: bool,
        is_known: bool,
        accepted: Revision,
        now: SystemTime,
    ) {
        self.held.remove(proxy);
        if by_far_end || !is_known {
            return self.stop_waiting(proxy, true);
        }
        let at = self.commits.back().map_or(0, |commit| commit.revision);
        let silent = self.silent.entry(proxy.clone()).or_insert(Silent { since: now, at, accepted });
        silent.accepted = silent.accepted.max(accepted);
        let Some(slot) = self.slots.get(proxy) else { return };
        for commit in self.commits.iter_mut().filter(|commit| commit.waiting.contains(slot)) {
            commit.refused.remove(&slot);
            commit.unanswered.remove(&slot);
        }
    }

    /// The Dataplane of a proxy is deleted: if the proxy is silent, commits do not wait for it any more.
    pub(crate) fn deleted(&mut self, proxy: &Arc<str>) {
        if self.silent.contains_key(proxy) {
            self.stop_waiting(proxy, false);
        }
    }

    /// Removes a proxy from all commits: it is `away`, or its Dataplane is deleted.
    fn stop_waiting(&mut self, proxy: &Arc<str>, away: bool) {
        self.silent.remove(proxy);
        let Some(slot) = self.slots.get(proxy) else { return };
        for commit in &mut self.commits {
            commit.held.remove(slot);
            commit.refused.remove(&slot);
            commit.unanswered.remove(&slot);
            if commit.waiting.remove(slot) {
                commit.counts.concerned -= 1;
                commit.counts.away += u32::from(away);
            }
        }
        if let Some(outstanding) = self.outstanding.get_mut(slot as usize) {
            *outstanding = 0;
        }
        self.slots.release(proxy);
    }

    /// A proxy has answered. For each commit that it has now accepted, adds the time since the commit was received to
    /// `accepted_after`.
    pub(crate) fn answered(
        &mut self,
        proxy: &Arc<str>,
        answered: &Answered<'_>,
        now: SystemTime,
        accepted_after: &mut Vec<Duration>,
    ) {
        if self.silent.contains_key(proxy) || self.held.contains(proxy) {
            self.silent.remove(proxy);
            self.held.remove(proxy);
            if let Some(slot) = self.slots.get(proxy) {
                for commit in self.commits.iter_mut().filter(|commit| commit.revision <= answered.up_to) {
                    commit.held.remove(slot);
                }
            }
        }
        let Some(slot) = self.slots.get(proxy) else { return };
        let Some(outstanding) = self.outstanding.get_mut(slot as usize) else { return };
        let mut left = *outstanding;
        // Most proxies have not accepted the latest commits only.
        for commit in self.commits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            if !commit.waiting.contains(slot) {
                continue;
            }
            left -= 1;
            if commit.revision > answered.up_to {
                continue;
            }
            let refusal = answered.refused.iter().find(|one| one.revision >= commit.revision);
            let question = answered.unanswered.iter().find(|one| one.revision >= commit.revision);
            commit.refused.remove(&slot);
            commit.unanswered.remove(&slot);
            if let Some(refusal) = refusal {
                commit.refused.insert(slot, Exception::refused(proxy, refusal));
            } else if let Some(question) = question {
                commit.unanswered.insert(slot, Exception::unanswered(proxy, question));
            } else {
                commit.waiting.remove(slot);
                *outstanding -= 1;
                accepted_after.push(commit.accepted_by(answered.revision, now));
            }
        }
    }

    /// The receipt of a revision; `None` if its commit is not known here, or not any more. If a revision has several
    /// parts, the receipt is that of all.
    pub(crate) fn receipt(&self, revision: Revision) -> Option<Receipt> {
        let mut receipt: Option<Receipt> = None;
        for commit in self.of(revision) {
            let next = commit.receipt(&self.slots, &self.silent);
            match &mut receipt {
                Some(receipt) => receipt.merge(next),
                None => receipt = Some(next),
            }
        }
        receipt
    }

    /// The progress of a revision; cheaper than a whole receipt.
    pub(crate) fn progress(&self, revision: Revision) -> Option<Progress> {
        self.of(revision).map(|commit| commit.progress(commit.counts(&self.slots, &self.silent))).max()
    }

    /// The parts of a commit: one, unless the mesh was loaded at the revision of a commit that it had already received.
    fn of(&self, revision: Revision) -> impl Iterator<Item = &Commit> {
        let first = self.commits.partition_point(|commit| commit.revision < revision);
        self.commits.range(first..).take_while(move |commit| commit.revision == revision)
    }

    /// Returns how many bytes its bits took.
    fn forget_oldest(&mut self) -> usize {
        let Some(oldest) = self.commits.pop_front() else { return 0 };
        for slot in oldest.waiting.iter() {
            if let Some(outstanding) = self.outstanding.get_mut(slot as usize) {
                *outstanding -= 1;
            }
        }
        oldest.waiting.bytes() + oldest.held.bytes()
    }
}

impl Commit {
    /// Another proxy has accepted it, by settling at `revision`.
    fn accepted_by(&mut self, revision: Revision, now: SystemTime) -> Duration {
        let took = now.duration_since(self.received).unwrap_or_default();
        match self.superseded_by {
            Some(later) if revision >= later => self.counts.superseded += 1,
            _ => self.counts.accepted += 1,
        }
        let done = self.counts.accepted + self.counts.superseded;
        let concerned = self.counts.concerned;
        let share = |part: u32| u64::from(done) * 100 >= u64::from(concerned) * u64::from(part);
        let [first, half, most, last] = &mut self.accepted_after;
        first.get_or_insert(took);
        if share(50) {
            half.get_or_insert(took);
        }
        if share(99) {
            most.get_or_insert(took);
        }
        *last = Some(took);
        took
    }

    /// Whether a silent proxy may still run with a configuration from before the commit.
    fn misses(&self, name: &str, silent: &Silent, slots: &Slots) -> bool {
        silent.at < self.revision || slots.get(name).is_some_and(|slot| self.waiting.contains(slot))
    }

    fn counts(&self, slots: &Slots, silent: &BTreeMap<Arc<str>, Silent>) -> Counts {
        let mut counts = self.counts;
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        counts.refused = count(self.refused.len());
        counts.silent = count(silent.iter().filter(|(name, silent)| self.misses(name, silent, slots)).count());
        counts.held = self.held.len();
        counts.waiting = self.waiting.len().saturating_sub(counts.refused);
        counts
    }

    fn progress(&self, counts: Counts) -> Progress {
        if counts.waiting > 0 {
            Progress::Spreading
        } else if counts.refused > 0 {
            Progress::Refused
        } else if counts.silent > 0 || counts.held > 0 {
            Progress::Reached
        } else if counts.superseded > 0 {
            Progress::Superseded
        } else {
            Progress::Live
        }
    }

    fn receipt(&self, slots: &Slots, silent: &BTreeMap<Arc<str>, Silent>) -> Receipt {
        let counts = self.counts(slots, silent);
        Receipt {
            revision: self.revision,
            progress: self.progress(counts),
            counts,
            accepted_after: self.accepted_after,
            exceptions: self.exceptions(slots, silent),
        }
    }

    fn exceptions(&self, slots: &Slots, silent: &BTreeMap<Arc<str>, Silent>) -> Vec<Exception> {
        let answers = self.refused.values().chain(self.unanswered.values()).cloned();
        let missing = silent.iter().filter(|(name, silent)| self.misses(name, silent, slots));
        let silences = missing.map(|(name, silent)| Exception {
            since_revision: silent.accepted,
            since: Some(silent.since),
            ..Exception::new(name, ExceptionState::Silent)
        });
        let held = self.held.iter().filter_map(|slot| slots.name(slot));
        let held = held.map(|name| Exception::new(name, ExceptionState::Held));
        let is_quiet = |slot: &u32| !self.refused.contains_key(slot) && !self.unanswered.contains_key(slot);
        let waiting = self.waiting.iter().filter(is_quiet).filter_map(|slot| slots.name(slot));
        let waiting = waiting.filter(|name| !silent.contains_key(*name));
        let waiting = waiting.map(|name| Exception::new(name, ExceptionState::Waiting));
        answers.chain(silences).chain(held).chain(waiting).take(MAX_EXCEPTIONS).collect()
    }
}

impl Exception {
    fn new(dataplane: &Arc<str>, state: ExceptionState) -> Exception {
        let dataplane = dataplane.clone();
        Exception { dataplane, state, resource: None, message: None, since_revision: 0, since: None }
    }

    fn refused(dataplane: &Arc<str>, refusal: &Refusal) -> Exception {
        Exception {
            resource: Some((refusal.resource_type, refusal.name.clone())),
            message: Some(refusal.message.clone()),
            since_revision: refusal.revision,
            ..Exception::new(dataplane, ExceptionState::Refused)
        }
    }

    fn unanswered(dataplane: &Arc<str>, question: &Unanswered) -> Exception {
        Exception {
            resource: Some((question.resource_type, question.name.clone())),
            since_revision: question.revision,
            ..Exception::new(dataplane, ExceptionState::Unanswered)
        }
    }
}

/// A small number for each proxy.
#[derive(Debug, Default)]
struct Slots {
    by_name: FxHashMap<Arc<str>, u32>,
    names: Vec<Option<Arc<str>>>,
    free: Vec<u32>,
}

impl Slots {
    fn of(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
        });
        self.names[slot as usize] = Some(name.clone());
        self.by_name.insert(name.clone(), slot);
        slot
    }

    fn get(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    fn name(&self, slot: u32) -> Option<&Arc<str>> {
        self.names.get(slot as usize)?.as_ref()
    }

    fn release(&mut self, name: &str) {
        if let Some(slot) = self.by_name.remove(name) {
            self.names[slot as usize] = None;
            self.free.push(slot);
        }
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
struct Bits {
    words: Vec<u64>,
    len: u32,
}

impl Bits {
    fn len(&self) -> u32 {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that it takes.
    fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    fn contains(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Returns whether it was not there before.
    fn insert(&mut self, number: u32) -> bool {
        let at = number as usize / 64;
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let is_new = !self.contains(number);
        self.words[at] |= 1 << (number % 64);
        self.len += u32::from(is_new);
        is_new
    }

    /// Returns whether it was there. Memory is freed when the set becomes empty.
    fn remove(&mut self, number: u32) -> bool {
        let was_there = self.contains(number);
        if was_there {
            self.words[number as usize / 64] &= !(1 << (number % 64));
            self.len -= 1;
            if self.len == 0 {
                self.words = Vec::new();
            }
        }
        was_there
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let base = u32::try_from(at * 64).unwrap_or(u32::MAX);
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| base + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    /// The receipts of a large mesh whose proxies accept nothing take a bounded amount of memory.
    #[test]
    fn the_oldest_commits_that_nobody_accepts_are_forgotten() {
        // Here, not in the module: a bench includes this file and compiles it without its tests.
        use super::*;

        let names: Vec<Arc<str>> = (0..15_000).map(|number| format!("web-{number}").into()).collect();
        let (mut receipts, now) = (Receipts::default(), SystemTime::UNIX_EPOCH);
        for revision in 1..=600 {
            receipts.begin(revision, vec![Key::mesh("default")], now);
            names.iter().for_each(|name| receipts.given(name));
        }
        let bytes: usize = receipts.commits.iter().map(|commit| commit.waiting.bytes()).sum();
        assert!(bytes <= MAX_BYTES_OF_BITS + 2048, "{bytes}");
        assert_eq!(receipts.receipt(401).map(|receipt| receipt.counts.waiting), Some(15_000));
        assert!(receipts.receipt(300).is_none());
        // What is forgotten is not waited for: each proxy waits for the remembered commits alone.
        let remembered = u32::try_from(receipts.commits.len()).unwrap();
        assert!(receipts.outstanding.iter().all(|&outstanding| outstanding == remembered));
    }
}
