//! When an identity certificate is renewed, and when a certificate that a proxy already has is still good.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};

use crate::time::{BACKDATE, LAST_SECOND, from_unix, unix_seconds};

/// When to renew a certificate that was issued at `issued` (not its back-dated start) and ends at `not_after`: after
/// half of its life for a `jitter` of 0, and after two thirds for a `jitter` of 1, so that certificates that were
/// issued together are not renewed together.
pub fn renewal_time(issued: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let life = not_after.duration_since(issued).unwrap_or(Duration::ZERO);
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    issued + life.mul_f64(1.0 / 2.0 + jitter / 6.0)
}

/// A hash of all inputs of an identity certificate except time and randomness. It is the same in every process and
/// version of the program, so that a certificate stays valid when the control plane is replaced.
pub fn identity_inputs(root_fingerprint: &[u8; 32], mesh: &str, services: &BTreeSet<&str>) -> u64 {
    let mut hash = Context::new(&SHA256);
    // Increase the number when certificates change in another way: all are replaced then.
    hash.update(b"kuma identity 1");
    hash.update(root_fingerprint);
    // The length comes first, so that ("a", "bc") and ("ab", "c") differ.
    for text in std::iter::once(mesh).chain(services.iter().copied()) {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let digest = hash.finish();
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The version of the secret `identity_cert`. A hash of its bytes would need the private key, which is not stored. So
/// the version holds a hash of the certificate's inputs and its end. A proxy that reconnects reports the version, which
/// tells whether it needs a new certificate.
///
/// Written as 16 hexadecimal digits, a dash, and the seconds since 1970 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityVersion {
    /// See [`identity_inputs`].
    pub inputs: u64,
    /// The end of the certificate, in seconds since 1970.
    pub not_after: u64,
}

impl IdentityVersion {
    /// The version of a certificate with these inputs and this end.
    pub fn new(inputs: u64, not_after: SystemTime) -> IdentityVersion {
        IdentityVersion { inputs, not_after: unix_seconds(not_after) }
    }

    /// The end of the certificate.
    pub fn not_after(&self) -> SystemTime {
        from_unix(self.not_after)
    }

    /// Whether a proxy with this version may keep its certificate: it has the same `inputs`, and more than a third of
    /// `life` left, which is how long a new certificate would be valid.
    ///
    /// A certificate that ends later than a new one would, by more than clocks may differ, is not good: the configured
    /// life has been shortened since.
    pub fn still_good(&self, inputs: u64, life: Duration, now: SystemTime) -> bool {
        let left = self.not_after.saturating_sub(unix_seconds(now));
        self.inputs == inputs && left > life.as_secs() / 3 && left <= (life + BACKDATE).as_secs()
    }
}

impl fmt::Display for IdentityVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.inputs, self.not_after)
    }
}

/// The text is not a version of an identity certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the version of an identity certificate")]
pub struct ParseIdentityVersionError;

impl FromStr for IdentityVersion {
    type Err = ParseIdentityVersionError;

    fn from_str(text: &str) -> Result<IdentityVersion, ParseIdentityVersionError> {
        let parse = || {
            let (inputs, not_after) = text.split_once('-')?;
            let version = IdentityVersion {
                inputs: u64::from_str_radix(inputs, 16).ok()?,
                not_after: u64::from_str_radix(not_after, 16).ok().filter(|seconds| *seconds <= LAST_SECOND)?,
            };
            // Only the canonical form: no signs, no capitals, no other number of zeros.
            (version.to_string() == text).then_some(version)
        };
        parse().ok_or(ParseIdentityVersionError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        from_unix(seconds)
    }

    #[test]
    fn renewal_is_between_half_and_two_thirds_of_the_life() {
        let check =
            |jitter, expected| assert_eq!(renewal_time(at(1000), at(1600), jitter), at(expected), "jitter {jitter}");
        check(0.0, 1300);
        check(0.5, 1350);
        check(1.0, 1400);
        check(7.0, 1400);
        check(-1.0, 1300);
        check(f64::NAN, 1300);
        assert_eq!(renewal_time(at(1000), at(900), 0.5), at(1000), "one that is over is replaced at once");
    }

    #[test]
    fn inputs_tell_everything_apart_and_never_change() {
        let hash = |root: u8, mesh: &str, services: &[&str]| {
            identity_inputs(&[root; 32], mesh, &services.iter().copied().collect())
        };
        let all = [
            hash(1, "default", &["web"]),
            hash(2, "default", &["web"]),
            hash(1, "default", &["web", "api"]),
            hash(1, "default", &["webapi"]),
            hash(1, "defaultw", &["eb"]),
            hash(1, "default", &[]),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(hash(1, "default", &["b", "a"]), hash(1, "default", &["a", "b"]));
        // If this number changes, every proxy of every mesh gets a new certificate after an upgrade.
        assert_eq!(format!("{:016x}", all[0]), "99e5999f9bfffcea");
    }

    #[test]
    fn versions_are_read_back_as_written_and_nothing_else_is() {
        let version = IdentityVersion { inputs: 0xab, not_after: 0x5e2c_0000 };
        assert_eq!(version.to_string(), "00000000000000ab-5e2c0000");
        assert_eq!(version.to_string().parse(), Ok(version));
        for bad in [
            "",
            "-",
            "ab-5e2c0000",
            "00000000000000AB-5e2c0000",
            "+0000000000000ab-5e2c0000",
            "00000000000000ab-+5e2c0000",
            "00000000000000ab-05e2c0000",
            "00000000000000ab-ffffffffffffffff",
            "00000000000000ab-5e2c0000-",
            "0123456789abcdef",
            "00000000000000äb-5e2c0000",
        ] {
            assert_eq!(bad.parse::<IdentityVersion>(), Err(ParseIdentityVersionError), "{bad:?}");
        }
    }

    #[test]
    fn a_reported_certificate_is_kept_while_a_third_of_its_life_is_left() {
        let life = Duration::from_secs(300);
        let version = IdentityVersion::new(7, at(1300));
        let check = |inputs, now, expected| {
            assert_eq!(version.still_good(inputs, life, at(now)), expected, "inputs {inputs} at {now}")
        };
        check(7, 1000, true);
        check(7, 1199, true);
        check(7, 1200, false);
        check(7, 1299, false);
        check(7, 5000, false);
        check(8, 1000, false);
        check(7, 700, true); // the clock of the control plane that issued it was ahead
        check(7, 699, false);
    }

    #[test]
    fn what_was_just_issued_is_good_until_it_is_renewed() {
        let (issued, life) = (at(1_000_000), Duration::from_secs(24 * 3600));
        let version = IdentityVersion::new(1, issued + life);
        for jitter in [0.0, 0.3, 0.999] {
            let before = renewal_time(issued, issued + life, jitter) - Duration::from_secs(1);
            assert!(version.still_good(1, life, before));
        }
    }
}
