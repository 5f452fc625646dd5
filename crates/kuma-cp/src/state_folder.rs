//! The state folder: what must outlive the process, above all the keys that running proxies trust.
//!
//! The folder is ours alone (0700), its files too (0600). A file is written whole or not at all, links are not
//! followed, and what others could have read or changed is not used.

mod lock;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

pub use lock::{FolderLock, LockError};

/// Largest file that is read; a key is a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// An open state folder. It stays the same folder whatever happens to its path.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    folder: OwnedFd,
}

/// What was attempted on the state folder, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} {}", path.display())]
pub struct StateFolderError {
    /// The verb and, if it says more than the path, its object.
    pub attempt: &'static str,
    /// The folder, or the file in it.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub source: io::Error,
}

impl StateFolder {
    /// Opens the folder; makes it, and the folders above it, if they are not there.
    ///
    /// # Errors
    /// If it cannot be made or written, is a link, or belongs to somebody else.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateFolderError> {
        let path = path.into();
        let fail =
            |attempt, path: &Path, source: io::Error| StateFolderError { attempt, path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| fail("create the folder", parent, error))?;
        }
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail("create the state folder", &path, error.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| fail("open the state folder", &path, error.into()))?;
        let stat = rustix::fs::fstat(&folder).map_err(|error| fail("open the state folder", &path, error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(fail("use the state folder", &path, io::Error::other("it belongs to another user")));
        }
        if Mode::from_raw_mode(stat.st_mode) & (Mode::RWXG | Mode::RWXO) != Mode::empty() {
            rustix::fs::fchmod(&folder, Mode::RWXU)
                .map_err(|error| fail("keep others out of the state folder", &path, error.into()))?;
        }
        let folder = Self { path, folder };
        folder.prove_writable()?;
        Ok(folder)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file; `None` if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateFolderError> {
        self.check(name)?;
        let fail = |error: io::Error| self.error("read", name, error);
        // Not blocking: somebody could have put a pipe there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(fail(error.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| fail(error.into()))?;
        let others = Mode::from_raw_mode(stat.st_mode) & (Mode::RWXG | Mode::RWXO);
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(fail(io::Error::other("it is not a file")));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() || others != Mode::empty() {
            return Err(fail(io::Error::other(
                "others may read or change it; its mode must be 0600 and its owner this user",
            )));
        }
        let mut content = Zeroizing::new(Vec::new());
        file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(fail)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(fail(io::Error::other("it is too large")));
        }
        Ok(Some(content))
    }

    /// The names of all files that begin with `prefix`, in order.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, StateFolderError> {
        let fail = |error: Errno| self.error("list", "", error.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            names.extend(entry.file_name().to_str().ok().filter(|name| name.starts_with(prefix)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Writes a file that is not there yet. If it is, or if another process is faster, nothing is changed. Returns what
    /// is there now.
    pub fn write_new(&self, name: &str, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, StateFolderError> {
        self.check(name)?;
        let temporary = self.write_temporary(name, content)?;
        let linked = rustix::fs::linkat(&self.folder, &temporary, &self.folder, name, AtFlags::empty());
        let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        match linked {
            Ok(()) => self.sync(name).map(|()| Zeroizing::new(content.to_vec())),
            Err(Errno::EXIST) => self
                .read(name)?
                .ok_or_else(|| self.error("write", name, io::Error::other("it was removed at the same moment"))),
            Err(error) => Err(self.error("write", name, error.into())),
        }
    }

    /// Writes a file, in place of the one that may be there.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateFolderError> {
        self.check(name)?;
        let temporary = self.write_temporary(name, content)?;
        if let Err(error) = rustix::fs::renameat(&self.folder, &temporary, &self.folder, name) {
            let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
            return Err(self.error("write", name, error.into()));
        }
        self.sync(name)
    }

    /// Removes a file; it may be gone already.
    pub fn remove(&self, name: &str) -> Result<(), StateFolderError> {
        self.check(name)?;
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) => self.sync(name),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error("remove", name, error.into())),
        }
    }

    /// A full disk or a read-only file system shows at the start, not when the first key is made.
    fn prove_writable(&self) -> Result<(), StateFolderError> {
        let temporary = self.write_temporary("state", b"")?;
        rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty())
            .map_err(|error| self.error("write", &temporary, error.into()))
    }

    /// A new file, complete and on the disk, under a name that nobody reads.
    fn write_temporary(&self, name: &str, content: &[u8]) -> Result<String, StateFolderError> {
        let temporary = format!(".{name}.{}", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = rustix::fs::openat(&self.folder, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(content)?;
                file.sync_all()
            });
        match written {
            Ok(()) => Ok(temporary),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
                Err(self.error("write", name, error))
            }
        }
    }

    /// Makes a change of names last.
    fn sync(&self, name: &str) -> Result<(), StateFolderError> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.error("write", name, error.into()))
    }

    /// Names come from names of meshes, which users choose.
    fn check(&self, name: &str) -> Result<(), StateFolderError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a name for a file");
            return Err(self.error("use", name, error));
        }
        Ok(())
    }

    fn error(&self, attempt: &'static str, name: &str, source: io::Error) -> StateFolderError {
        StateFolderError { attempt, path: self.path.join(name), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = StateFolder::open(temp.path().join("a/b")).expect("opens");
        (temp, folder)
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().expect("exists").permissions().mode() & 0o777
    }

    fn text(content: &[u8]) -> &str {
        std::str::from_utf8(content).expect("text")
    }

    #[test]
    fn keeps_files_for_the_owner_alone() {
        let (_temp, folder) = folder();
        folder.replace("key", b"one").expect("writes");
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("key")), 0o600);
        assert_eq!(folder.read("key").expect("reads").as_deref().map(Vec::as_slice), Some(b"one".as_slice()));
        assert!(folder.read("other").expect("reads").is_none());
        folder.replace("kept", b"").expect("writes");
        assert_eq!(folder.names("ke").expect("lists"), ["kept", "key"]);
        assert_eq!(folder.names("key").expect("lists"), ["key"]);
    }

    #[test]
    fn the_first_writer_wins() {
        let (_temp, folder) = folder();
        assert_eq!(text(&folder.write_new("key", b"one").expect("writes")), "one");
        assert_eq!(text(&folder.write_new("key", b"two").expect("reads")), "one");
        folder.replace("key", b"three").expect("writes");
        assert_eq!(text(&folder.write_new("key", b"four").expect("reads")), "three");
        folder.remove("key").expect("removes");
        folder.remove("key").expect("removes nothing");
        assert_eq!(text(&folder.write_new("key", b"five").expect("writes")), "five");
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("lists").collect();
        assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
    }

    #[test]
    fn many_writers_agree() {
        let (_temp, folder) = folder();
        let seen: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let folder = &folder;
            let writers: Vec<_> = (0..8u8)
                .map(|n| scope.spawn(move || folder.write_new("key", &[n; 4096]).expect("writes").to_vec()))
                .collect();
            writers.into_iter().map(|writer| writer.join().expect("ends")).collect()
        });
        assert!(seen.iter().all(|content| *content == seen[0] && content.len() == 4096));
    }

    #[test]
    fn follows_no_links_and_leaves_the_folder_never() {
        let (temp, folder) = folder();
        let outside = temp.path().join("outside");
        std::fs::write(&outside, "x").expect("writes");
        symlink(&outside, folder.path().join("key")).expect("links");
        assert!(folder.read("key").is_err());
        assert!(folder.write_new("key", b"y").is_err());
        folder.replace("key", b"y").expect("replaces the link itself");
        assert_eq!(std::fs::read_to_string(&outside).expect("reads"), "x");
        for name in ["", ".", "..", "../outside", "a/b", ".hidden", "a\0b"] {
            assert!(folder.read(name).is_err(), "{name:?}");
            assert!(folder.replace(name, b"").is_err(), "{name:?}");
        }
        symlink(folder.path(), temp.path().join("link")).expect("links");
        assert!(StateFolder::open(temp.path().join("link")).is_err());
    }

    #[test]
    fn refuses_what_others_could_have_read() {
        let (_temp, folder) = folder();
        folder.replace("key", b"one").expect("writes");
        let path = folder.path().join("key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("sets");
        let error = folder.read("key").expect_err("refuses");
        assert!(error.to_string().contains("key"), "{error}");
        assert!(error.source.to_string().contains("0600"), "{}", error.source);
    }

    #[test]
    fn closes_a_folder_that_was_open_to_others() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).expect("sets");
        let folder = StateFolder::open(temp.path()).expect("opens");
        assert_eq!(mode(folder.path()), 0o700);
    }

    #[test]
    fn says_which_folder_cannot_be_made() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("file");
        std::fs::write(&file, "").expect("writes");
        for path in [file.clone(), file.join("below")] {
            let error = StateFolder::open(&path).expect_err("not a folder");
            assert!(error.to_string().contains("file"), "{error}");
        }
    }
}
