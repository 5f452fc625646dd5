//! A process whose writes to the disk are logged, and whose syncs fail when that is asked for: `preloaded.c` stands
//! between it and the C library.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The log, a variable of the process.
pub(crate) const WRITES: &str = "KUMA_TEST_WRITES";
/// While a file of this name exists syncs fail, a variable of the process.
pub(crate) const SYNCS_FAIL: &str = "KUMA_TEST_SYNCS_FAIL";
/// Of this many syncs the last three fail, a variable of the process.
pub(crate) const FAIL_EVERY: &str = "KUMA_TEST_FAIL_EVERY";

/// Compiles it. Rust needs a C compiler for linking, so there is one.
pub(crate) fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("preloaded.c"), folder.join("preloaded.so"));
    std::fs::write(&source, include_str!("preloaded.c")).expect("written");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let made = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
    let made = made.expect("a C compiler");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// Something was done to a file.
    Disk { is_log: bool, action: Action },
    /// The process has said this.
    Said(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        to: usize,
    },
    Unlink,
    /// A sync, and whether it succeeded.
    Sync(bool),
}

/// Reads a log. The last record may be cut off, if the process was killed.
pub(crate) fn read(log: &Path) -> Vec<Record> {
    let log = std::fs::read(log).expect("a log");
    let mut left = &*log;
    let mut records = Vec::new();
    while let Some((head, rest)) = left.split_at_checked(14) {
        let at = u64::from_le_bytes(head[2..10].try_into().expect("8 bytes")) as usize;
        let has_bytes = head[0] == b'W';
        let length = u32::from_le_bytes(head[10..].try_into().expect("4 bytes")) as usize;
        let Some((bytes, rest)) = rest.split_at_checked(if has_bytes { length } else { 0 }) else { break };
        left = rest;
        let action = match head[0] {
            b'W' if head[1] == b'o' => {
                records.push(Record::Said(String::from_utf8_lossy(bytes).into_owned()));
                continue;
            }
            b'W' => Action::Write { at, bytes: bytes.to_vec() },
            b'T' => Action::Truncate { to: at },
            b'U' => Action::Unlink,
            b'S' | b'F' => Action::Sync(head[0] == b'S'),
            other => panic!("no operation is {other}"),
        };
        records.push(Record::Disk { is_log: head[1] == b'w', action });
    }
    records
}
