//! Certificates checked with rustls and against the X509-SVID rules; tokens with a JWT library and many invalid ones.

mod certificates;
mod mesh_roots;
mod provided;
mod sealing;
mod tokens;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2020-01-26T00:53:20Z, the time that tests use.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_580_000_000)
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
