//! A power cut: of what was not synced, the disk has all, nothing or some sectors. Such disks are made from the log of
//! what a process has written, for moments between any two of its writes.

use std::path::Path;
use std::time::Duration;

use crate::crash::{Acknowledged, Writer, acknowledgement, compare};
use crate::preloaded::{Action, FAIL_EVERY, Record, WRITES, library, read};
use crate::scene::{Folder, Random, setting};

/// A file on the disk.
#[derive(Clone, Default)]
struct File {
    /// What the disk has for certain. `None`: it has no file.
    content: Option<Vec<u8>>,
    /// What was done since then.
    pending: Vec<Action>,
    /// It was removed, and the folder may not say so yet.
    removed: Option<Vec<u8>>,
}

impl File {
    fn apply(&mut self, action: &Action, random: &mut Random) {
        match action {
            Action::Write { .. } | Action::Truncate { .. } => self.pending.push(action.clone()),
            Action::Sync(true) => {
                let mut content = self.content.take().unwrap_or_default();
                self.pending.drain(..).for_each(|action| perform(&action, &mut content, |_| true));
                *self = File { content: Some(content), ..File::default() };
            }
            // The system says it once and keeps the pages as if they were on the disk: no later sync writes them.
            Action::Sync(false) => self.content = self.left(random),
            Action::Unlink => *self = File { removed: self.content.take(), ..File::default() },
        }
        if matches!(action, Action::Sync(false)) {
            self.pending.clear();
        }
    }

    /// What is there after a power cut.
    fn left(&self, random: &mut Random) -> Option<Vec<u8>> {
        if self.removed.is_some() && random.below(2) == 0 {
            return self.removed.clone();
        }
        if self.content.is_none() && (self.pending.is_empty() || random.below(3) == 0) {
            return None;
        }
        let mut content = self.content.clone().unwrap_or_default();
        for action in &self.pending {
            match random.below(4) {
                0 => {}
                1 => perform(action, &mut content, |_| true),
                kind => {
                    let sector = if kind == 2 { 512 } else { 4096 };
                    let sectors = random.below(u64::MAX);
                    perform(action, &mut content, |at| sectors >> (at / sector % 64) & 1 == 1);
                }
            }
        }
        Some(content)
    }
}

/// Does something to a content, as far as the bytes at a place get to the disk.
fn perform(action: &Action, content: &mut Vec<u8>, mut gets_there: impl FnMut(usize) -> bool) {
    match action {
        Action::Write { at, bytes } => {
            for (number, chunk) in bytes.chunks(512).enumerate() {
                let from = at + number * 512;
                if gets_there(from) {
                    let to = from + chunk.len();
                    content.resize(content.len().max(to), 0);
                    content[from..to].copy_from_slice(chunk);
                }
            }
        }
        Action::Truncate { to } if gets_there(0) => content.resize(*to, 0),
        Action::Truncate { .. } => {}
        Action::Unlink | Action::Sync(_) => unreachable!("is not pending"),
    }
}

/// The disk after the first of these records, and what had been acknowledged.
fn after(records: &[Record], random: &mut Random) -> ([Option<Vec<u8>>; 2], Acknowledged) {
    let mut files = [File::default(), File::default()];
    let mut said = String::new();
    for record in records {
        match record {
            Record::Disk { is_log, action } => files[usize::from(*is_log)].apply(action, random),
            Record::Said(text) => said.push_str(text),
        }
    }
    (files.map(|file| file.left(random)), said.lines().filter_map(acknowledgement).collect())
}

fn put(path: &Path, content: Option<Vec<u8>>) {
    let _ = std::fs::remove_file(path);
    if let Some(content) = content {
        std::fs::write(path, content).expect("written");
    }
}

/// Has a process write, and cuts the power at many moments.
async fn cut(env: &[(&str, &str)], seed: u64) {
    let cuts = setting("KUMA_TEST_CUTS", 40);
    // Every log is good for some hundred cuts.
    for round in 0..cuts.div_ceil(200) {
        let (folder, disk) = (Folder::new(), Folder::new());
        let log = folder.path().join("writes");
        let library = library(folder.path());
        let paths = [("LD_PRELOAD", library.to_str()), (WRITES, log.to_str())];
        let paths = paths.map(|(name, path)| (name, path.expect("UTF-8")));
        let env = [&paths, env].concat();
        let writer = Writer::start_with(&folder.database(), "w", &env);
        writer.kill(Duration::from_millis(400));
        let records = read(&log);
        let first = records.iter().position(|record| matches!(record, Record::Said(text) if text.contains("stored")));
        let first = first.expect("something was acknowledged");
        let syncs = records.iter().filter(|one| matches!(one, Record::Disk { action: Action::Sync(_), .. })).count();
        assert!(syncs > 20, "{syncs} syncs in {} records: something escapes the log", records.len());
        let mut random = Random(seed + round);
        for number in 0..cuts.min(200) {
            let at = first + 1 + random.below((records.len() - first) as u64) as usize;
            let ([database, wal], acknowledged) = after(&records[..at], &mut random);
            put(&disk.path().join("store.db-shm"), None);
            put(&disk.path().join("store.db-wal"), wal);
            put(&disk.database(), database);
            println!("cut {number} of log {round}, after {at} of {} records", records.len());
            compare(&disk.database(), &acknowledged).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    cut(&[], 14).await;
}

/// What was acknowledged after a sync that failed lasts, too, although the system has given up what it was to sync.
#[tokio::test]
async fn a_power_cut_after_failed_syncs_takes_nothing_that_was_acknowledged() {
    cut(&[(FAIL_EVERY, "40")], 15).await;
}
