//! How long ago something happened, in the format of tables.

use jiff::Timestamp;

/// `2h3m4s`, `3m0s`, `19s`; `never` if it has not happened. Whole seconds. A time in the future, by the clock of
/// another machine, is `0s`.
pub(crate) fn ago(now: Timestamp, then: Option<Timestamp>) -> String {
    let Some(then) = then else {
        return "never".to_owned();
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = Timestamp::from_second(1_580_000_000).expect("a time");
        let check = |milliseconds: i64, expected: &str| {
            let then = Timestamp::from_millisecond(1_580_000_000_000 - milliseconds).expect("a time");
            assert_eq!(ago(now, Some(then)), expected);
        };
        check(0, "0s");
        check(999, "0s");
        check(19_999, "19s");
        check(60_000, "1m0s");
        check(3_600_000, "1h0m0s");
        check(7_384_000, "2h3m4s");
        check(360_000_000, "100h0m0s");
        check(-5_000, "0s");
        assert_eq!(ago(now, None), "never");
    }
}
