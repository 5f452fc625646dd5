//! The database's clock, which all control planes go by.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// From which difference on a warning is due.
const FAR: i64 = 60_000_000;

/// How far the database's clock is ahead of ours.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    microseconds: AtomicI64,
    warned: AtomicBool,
}

impl Clock {
    /// The time there.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_micros(self.microseconds.load(Ordering::Relaxed));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    /// The database has told the time; it was asked at `asked`, by our clock.
    pub(crate) fn told(&self, asked: Timestamp, there: Timestamp) {
        let (before, after) = (asked.as_microsecond(), Timestamp::now().as_microsecond());
        let (earliest, latest) = (there.as_microsecond() - after, there.as_microsecond() - before);
        let known = self.microseconds.load(Ordering::Relaxed);
        // What is known stays while it may be right: an answer that took long tells little.
        if !(earliest..=latest).contains(&known) {
            self.microseconds.store(earliest.midpoint(latest), Ordering::Relaxed);
        }
        let is_far = earliest > FAR || latest < -FAR;
        if is_far && !self.warned.swap(true, Ordering::Relaxed) {
            let seconds = earliest / 1_000_000;
            tracing::warn!(seconds, "the clock of this machine and that of the database differ; check both");
        } else if !is_far {
            self.warned.store(false, Ordering::Relaxed);
        }
    }
}
