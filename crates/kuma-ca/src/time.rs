//! Time in the unit of X.509 and JWT: whole seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long before its creation a certificate becomes valid, so that a peer whose clock is slow accepts it.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// 9999-12-31T23:59:59Z, the last second that X.509 can express (RFC 5280, 4.1.2.5).
pub(crate) const LAST_SECOND: u64 = 253_402_300_799;

/// Whole seconds since 1970; times before are 0, times that X.509 can't express are its last second.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(LAST_SECOND))
}

/// The reverse, with the same bounds.
pub(crate) fn from_unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND))
}

/// The validity period of a certificate, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Validity {
    /// From [`BACKDATE`] before `now` until `length` after it.
    pub(crate) fn starting(now: SystemTime, length: Duration) -> Validity {
        let now = unix_seconds(now);
        Validity {
            not_before: now.saturating_sub(BACKDATE.as_secs()),
            not_after: now.saturating_add(length.as_secs()).min(LAST_SECOND),
        }
    }

    /// Sets the period in the parameters of a certificate.
    pub(crate) fn apply(self, params: &mut rcgen::CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.not_before);
        params.not_after = epoch + Duration::from_secs(self.not_after);
    }
}
