//! The buffer of records for one collector, bounded in number and size.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Largest number of buffered records: half a minute at a thousand connections a second.
const MAX_RECORDS: usize = 32_768;
/// Largest size of buffered records in bytes, so that kuma-dp needs little memory beside Envoy.
const MAX_BYTES: usize = 4 << 20;

/// The records of one collector, in order.
#[derive(Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Notified when a record was added or the buffer was closed.
    changed: Notify,
    /// Notified when a record was dropped.
    dropped: Notify,
}

#[derive(Default)]
struct State {
    records: VecDeque<Box<str>>,
    bytes: usize,
    dropped: u64,
    closed: bool,
}

/// A copy of the oldest records, to be written.
#[derive(Default)]
pub(super) struct Chunk {
    /// The records, concatenated.
    pub(super) bytes: Vec<u8>,
    /// The end of each record in `bytes`.
    ends: Vec<usize>,
}

impl Chunk {
    /// How many records are complete within the first `written` bytes.
    fn whole(&self, written: usize) -> usize {
        self.ends.partition_point(|&end| end <= written)
    }
}

impl Buffer {
    /// Adds a record; drops it if the buffer is full. Never waits.
    pub(super) fn push(&self, record: Box<str>) {
        let mut state = self.lock();
        if state.records.len() >= MAX_RECORDS || state.bytes + record.len() > MAX_BYTES {
            state.dropped += 1;
            drop(state);
            self.dropped.notify_one();
            return;
        }
        state.bytes += record.len();
        state.records.push_back(record);
        drop(state);
        self.changed.notify_one();
    }

    /// Declares that no record will be added any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Whether [`Buffer::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for records. False if the buffer is empty and closed. Only one task may wait.
    pub(super) async fn filled(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.records.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    /// A copy of the oldest records: as many as are needed for at least `size` bytes. [`Buffer::taken`] removes them
    /// from the buffer.
    pub(super) fn oldest(&self, size: usize) -> Chunk {
        let state = self.lock();
        let mut chunk = Chunk::default();
        for record in &state.records {
            if chunk.bytes.len() >= size {
                break;
            }
            chunk.bytes.extend_from_slice(record.as_bytes());
            chunk.ends.push(chunk.bytes.len());
        }
        chunk
    }

    /// Removes the records of a chunk of which `written` bytes were written; an incomplete record stays.
    pub(super) fn taken(&self, chunk: &Chunk, written: usize) {
        let mut state = self.lock();
        for _ in 0..chunk.whole(written) {
            if let Some(record) = state.records.pop_front() {
                state.bytes -= record.len();
            }
        }
    }

    /// The number of buffered records.
    pub(super) fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Waits until a record has been dropped since the last [`Buffer::take_dropped`]. Only one task may wait.
    pub(super) async fn overflowed(&self) {
        while self.lock().dropped == 0 {
            self.dropped.notified().await;
        }
    }

    /// The number of records dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(chunk: &Chunk) -> &str {
        std::str::from_utf8(&chunk.bytes).expect("UTF-8")
    }

    #[test]
    fn only_what_was_written_whole_is_gone() {
        let buffer = Buffer::default();
        for record in ["one\n", "two\n", "three\n"] {
            buffer.push(record.into());
        }
        let chunk = buffer.oldest(5);
        assert_eq!(records(&chunk), "one\ntwo\n");
        buffer.taken(&chunk, 7);
        assert_eq!(records(&buffer.oldest(100)), "two\nthree\n");
        let chunk = buffer.oldest(100);
        buffer.taken(&chunk, 0);
        assert_eq!(buffer.len(), 2);
        buffer.taken(&chunk, chunk.bytes.len());
        assert_eq!(buffer.len(), 0);
        assert_eq!(buffer.lock().bytes, 0);
    }

    #[test]
    fn both_bounds_hold_and_what_is_dropped_is_counted() {
        let many = Buffer::default();
        for _ in 0..MAX_RECORDS + 3 {
            many.push("x\n".into());
        }
        assert_eq!((many.len(), many.take_dropped(), many.take_dropped()), (MAX_RECORDS, 3, 0));

        let large = Buffer::default();
        let record: Box<str> = "x".repeat(MAX_BYTES / 4 + 1).into();
        for _ in 0..4 {
            large.push(record.clone());
        }
        assert_eq!((large.len(), large.take_dropped()), (3, 1));
        large.push("a small one still fits\n".into());
        assert_eq!(large.len(), 4);
    }

    #[tokio::test]
    async fn what_was_there_before_the_end_is_not_lost() {
        let buffer = Buffer::default();
        buffer.push("x\n".into());
        buffer.close();
        assert!(buffer.filled().await);
        let chunk = buffer.oldest(1);
        buffer.taken(&chunk, chunk.bytes.len());
        assert!(!buffer.filled().await);
    }
}
