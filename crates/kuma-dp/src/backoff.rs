//! Growing, jittered pauses between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// The pause after [`Backoff::slow_down`].
const LONG: Duration = Duration::from_secs(30);

/// Pauses that double from one second to at most five. Each is shortened at random, by up to half, so that a thousand
/// proxies that have lost their control plane at the same time do not all reconnect at the same time.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { base: FIRST }
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        self.jittered(rand::random_range(0.0..1.0))
    }

    /// Starts again from the shortest pause, after something has worked.
    pub(crate) fn reset(&mut self) {
        self.base = FIRST;
    }

    /// Makes the next pause a long one, when the next attempt will most likely fail as well.
    pub(crate) fn slow_down(&mut self) {
        self.base = LONG;
    }

    /// The pause for a random number from 0 to 1.
    fn jittered(&mut self, jitter: f64) -> Duration {
        let pause = self.base.mul_f64(0.5 + 0.5 * jitter);
        self.base = (self.base * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u64> = (0..7).map(|_| backoff.jittered(1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.jittered(0.0), Duration::from_millis(500));
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let mut backoff = Backoff { base: LONGEST };
        for _ in 0..100 {
            let pause = backoff.next();
            assert!(LONGEST / 2 <= pause && pause <= LONGEST, "{pause:?}");
        }
    }
}
