//! One control plane for one state folder: two would issue from the same keys, each without a word of what the other
//! knows.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::StateFolder;

/// The file that is locked. It holds the id of the process that has the lock, for people.
const NAME: &str = "lock";

/// The lock, for as long as the value lives. The system lets it go when the process ends, however it does.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Why the folder is not ours alone.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another kuma-cp{} uses it", process.map(|id| format!(" (process {id})")).unwrap_or_default())]
    Taken {
        /// Its id, if it could be read.
        process: Option<u32>,
    },
    /// It cannot be locked here.
    #[error("it cannot be locked")]
    Impossible(#[source] io::Error),
}

impl StateFolder {
    /// Takes the folder for this process alone.
    ///
    /// # Errors
    /// Another process has it, or the file system knows no locks.
    pub fn lock(&self) -> Result<FolderLock, LockError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, NAME, flags, Mode::RUSR | Mode::WUSR);
        FolderLock::take(File::from(file.map_err(|error| LockError::Impossible(error.into()))?))
    }
}

impl FolderLock {
    /// Takes a file for this process alone, by another one beside it: `FILE.lock`.
    ///
    /// # Errors
    /// Another process has it, or the file system knows no locks.
    pub fn beside(path: &Path) -> Result<FolderLock, LockError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(Path::new(&name), flags, Mode::RUSR | Mode::WUSR);
        FolderLock::take(File::from(file.map_err(|error| LockError::Impossible(error.into()))?))
    }

    fn take(mut file: File) -> Result<FolderLock, LockError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Longer than any number; what is not one is not told.
                let _ = file.take(32).read_to_string(&mut text);
                return Err(LockError::Taken { process: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Impossible(error)),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(LockError::Impossible)?;
        Ok(FolderLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let open = || StateFolder::open(temp.path().join("state")).expect("opens");
        let lock = open().lock().expect("nobody else has it");
        let error = open().lock().expect_err("it is taken");
        assert_eq!(error.to_string(), format!("another kuma-cp (process {}) uses it", std::process::id()));
        drop(lock);
        open().lock().expect("it is free again");
    }
}
