//! The private directory of a running kuma-dp and its Envoy.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{self, Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::files::write_private;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, one of them the final NUL (unix(7)). Envoy refuses a
/// bootstrap with a longer path.
const SOCKET_PATH_MAX: usize = 107;
const PREFIX: &str = "kuma-dp-";
const RANDOM_LETTERS: usize = 6;
const SOCKET: &str = "access-logs.sock";
const LOCK: &str = "lock";

/// A directory of mode 0700 with a random name, removed with its content when this is dropped. It holds the copy of the
/// token, sockets, and Envoy's bootstrap, unless `--config-dir` gives that another place.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    private: TempDir,
    bootstrap: PathBuf,
    /// Locked for as long as the directory is in use. The kernel releases the lock however this process ends.
    _lock: File,
}

impl RuntimeDir {
    /// Creates the directory, in `config_dir` (created if missing) or in the system's folder for temporary files.
    pub(crate) fn create(config_dir: Option<&Path>) -> anyhow::Result<RuntimeDir> {
        let parent = match config_dir {
            // Absolute, since Envoy and the control plane get these paths too.
            Some(dir) => path::absolute(dir).with_context(|| format!("could not use {}", dir.display()))?,
            None => std::env::temp_dir(),
        };
        if config_dir.is_some() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&parent)
                .with_context(|| format!("could not create the configuration directory {}", parent.display()))?;
        }
        // A socket below a very long path could not be bound.
        let private_parent = if fits_a_socket(&parent) { parent.clone() } else { PathBuf::from("/tmp") };
        let private = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(RANDOM_LETTERS)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&private_parent)
            .with_context(|| format!("could not create a private directory in {}", private_parent.display()))?;
        let lock = lock(private.path()).context("could not lock the private directory")?;
        remove_abandoned(&private_parent);
        let bootstrap_parent = if config_dir.is_some() { &parent } else { private.path() };
        let bootstrap = bootstrap_parent.join("bootstrap.yaml");
        Ok(RuntimeDir { private, bootstrap, _lock: lock })
    }

    /// Path of kuma-dp's copy of the token.
    pub(crate) fn token(&self) -> PathBuf {
        self.private.path().join("token")
    }

    /// Path of the socket that receives Envoy's access logs.
    pub(crate) fn access_log_socket(&self) -> PathBuf {
        self.private.path().join(SOCKET)
    }

    /// Writes Envoy's configuration with mode 0600, and returns its path.
    pub(crate) fn write_bootstrap(&self, text: &[u8]) -> anyhow::Result<&Path> {
        write_private(&self.bootstrap, text)
            .with_context(|| format!("could not write Envoy's configuration {}", self.bootstrap.display()))?;
        Ok(&self.bootstrap)
    }

    /// Removes the directory now, and warns if that fails.
    pub(crate) fn remove(self) {
        let path = self.private.path().to_owned();
        if let Err(error) = self.private.close()
            && fs::exists(&path).unwrap_or(true)
        {
            tracing::warn!("could not remove {}: {error}", path.display());
        }
    }
}

fn fits_a_socket(parent: &Path) -> bool {
    let below = "/".len() + PREFIX.len() + RANDOM_LETTERS + "/".len() + SOCKET.len();
    parent.as_os_str().as_bytes().len() + below <= SOCKET_PATH_MAX
}

/// Marks a directory as in use. The file is empty until it is locked: see [`is_abandoned`].
fn lock(dir: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(LOCK))?;
    file.try_lock()?;
    file.write_all(b"The kuma-dp that holds this lock uses this directory.\n")?;
    Ok(file)
}

/// Removes the directories that killed kuma-dps have left in `parent`, mainly because they hold copies of tokens.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.as_bytes().strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| rest.len() == RANDOM_LETTERS);
        if ours && is_abandoned(&entry.path()) {
            tracing::debug!("removing {}, which a killed kuma-dp has left", entry.path().display());
            // Another kuma-dp may be removing it at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a directory was created by a kuma-dp of this user that does not run any more. False when in doubt.
fn is_abandoned(dir: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let is_mine = |metadata: &fs::Metadata| metadata.uid() == me;
    if !fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir() && is_mine(&metadata)) {
        return false;
    }
    let Ok(file) = OpenOptions::new().write(true).open(dir.join(LOCK)) else { return false };
    // An empty one belongs to a kuma-dp that is about to lock it.
    file.try_lock().is_ok() && file.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_and_gone_afterwards() {
        let dir = RuntimeDir::create(None).unwrap();
        let bootstrap = dir.write_bootstrap(b"{}").unwrap().to_owned();
        let private = bootstrap.parent().unwrap().to_owned();
        assert!(private.file_name().unwrap().to_str().unwrap().starts_with("kuma-dp-"));
        assert_eq!((mode(&private), mode(&bootstrap)), (0o700, 0o600));
        dir.remove();
        assert!(!private.exists());
    }

    #[test]
    fn config_dir_keeps_the_bootstrap_and_nothing_else() {
        let outer = tempfile::tempdir().unwrap();
        let config_dir = outer.path().join("made/if/missing");
        let dir = RuntimeDir::create(Some(&config_dir)).unwrap();
        assert_eq!(dir.write_bootstrap(b"{}").unwrap(), config_dir.join("bootstrap.yaml"));
        assert!(dir.token().starts_with(&config_dir));
        assert_eq!((mode(&config_dir), mode(dir.token().parent().unwrap())), (0o700, 0o700));
        dir.remove();
        let left: Vec<_> = fs::read_dir(&config_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["bootstrap.yaml"]);
    }

    #[test]
    fn sockets_fit_however_long_the_directory() {
        let outer = tempfile::tempdir().unwrap();
        for length in [1, 40, 60, 100, 200] {
            let config_dir = outer.path().join("d".repeat(length));
            let dir = RuntimeDir::create(Some(&config_dir)).unwrap();
            let socket = dir.access_log_socket();
            assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX, "{}", socket.display());
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
        }
    }

    #[test]
    fn what_a_killed_one_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dir = |name: &str| parent.path().join(name);
        for name in ["kuma-dp-killed", "kuma-dp-starts", "kuma-dp-nolock", "kuma-dp-longer-name", "somebody-else"] {
            fs::create_dir(dir(name)).unwrap();
        }
        for name in ["kuma-dp-killed", "kuma-dp-longer-name", "somebody-else"] {
            drop(lock(&dir(name)).unwrap());
        }
        fs::write(dir("kuma-dp-starts").join(LOCK), "").unwrap();
        let running = RuntimeDir::create(Some(parent.path())).unwrap();
        let another = RuntimeDir::create(Some(parent.path())).unwrap();
        assert!(!dir("kuma-dp-killed").exists());
        for name in ["kuma-dp-starts", "kuma-dp-nolock", "kuma-dp-longer-name", "somebody-else"] {
            assert!(dir(name).exists(), "{name}");
        }
        assert!(running.private.path().exists() && another.private.path().exists());
    }
}
