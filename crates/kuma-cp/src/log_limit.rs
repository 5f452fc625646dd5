//! Messages that strangers cause are logged at a limited rate: else whoever can connect fills the disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many messages of one kind are logged in each [`PERIOD`].
const AT_MOST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(60);

/// The messages of one kind.
#[derive(Debug)]
pub struct LogLimit(Mutex<Period>);

#[derive(Debug)]
struct Period {
    began: Option<Instant>,
    messages: u32,
}

impl LogLimit {
    /// None yet.
    pub const fn new() -> LogLimit {
        LogLimit(Mutex::new(Period { began: None, messages: 0 }))
    }

    /// Whether another one is logged. Says once in a period that more of them are left out.
    pub fn allows(&self) -> bool {
        let allows = self.counts(Instant::now());
        if allows == Some(false) {
            tracing::warn!("more messages of the kind of the one before are left out for up to {PERIOD:?}");
        }
        allows == Some(true)
    }

    /// `Some(false)` for the first that is not.
    fn counts(&self, now: Instant) -> Option<bool> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if period.began.is_none_or(|began| now - began >= PERIOD) {
            *period = Period { began: Some(now), messages: 0 };
        }
        period.messages = period.messages.saturating_add(1);
        match period.messages {
            ..=AT_MOST => Some(true),
            messages => (messages == AT_MOST + 1).then_some(false),
        }
    }
}

impl Default for LogLimit {
    fn default() -> LogLimit {
        LogLimit::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_comes_later_is_logged() {
        let (limit, now) = (LogLimit::new(), Instant::now());
        let logged = (0..1000).filter(|_| limit.counts(now) == Some(true)).count();
        assert_eq!(logged, AT_MOST as usize);
        assert_eq!(limit.counts(now + PERIOD), Some(true));
    }
}
