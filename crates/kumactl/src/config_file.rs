//! The file of the configuration: `~/.kumactl/config`, or the one named by `--config-file`.
//!
//! It holds paths of keys, so only the user can read it (0600, in a folder with 0700). It is replaced atomically.
//! Temporary files are always created anew, so that a link of the same name is never followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::Configuration;
use crate::failure::Failure;
use crate::output;

/// The configuration file of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    /// Whether the user has named the file. Then it must exist to be read; the default file is created if it is
    /// missing.
    explicit: bool,
}

impl ConfigFile {
    /// The file given by `--config-file`, or the default file in the user's home.
    pub(crate) fn locate(explicit: Option<PathBuf>) -> Result<ConfigFile, Failure> {
        if let Some(path) = explicit {
            return Ok(ConfigFile { path, explicit: true });
        }
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let home = home.ok_or_else(|| {
            Failure::new("the user's home folder is not known").hint("set HOME, or use --config-file")
        })?;
        Ok(ConfigFile { path: home.join(".kumactl").join("config"), explicit: false })
    }

    /// Reads the configuration. If the default file is missing, it is created; if that fails, the default configuration
    /// is used all the same.
    pub(crate) fn load(&self) -> Result<Configuration, Failure> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.explicit => {
                return self.create();
            }
            Err(error) => return Err(self.inaccessible(error)),
        };
        serde_saphyr::from_str(&text).map_err(|error| {
            Failure::new(format!(
                "Failed to load invalid configuration from file {:?}: {}",
                self.path,
                first_line(&error.to_string())
            ))
        })
    }

    /// Reads the configuration in order to add to it: a missing file that the user has named counts as empty.
    pub(crate) fn load_or_begin(&self) -> Result<Configuration, Failure> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.explicit => Ok(Configuration::default()),
            _ => self.load(),
        }
    }

    /// Replaces the content of the file.
    pub(crate) fn save(&self, configuration: &Configuration) -> Result<(), Failure> {
        // If the file is a link, as tools for dotfiles create it, the link's target is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let write = || {
            let temporary = write_beside(&path, configuration)?;
            fs::rename(&temporary, &path).inspect_err(|_| drop(fs::remove_file(&temporary)))
        };
        write().map_err(|error| Failure::new(format!("could not write configuration file {path:?}: {error}")))
    }

    fn create(&self) -> Result<Configuration, Failure> {
        let configuration = Configuration::local();
        let create = || {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let temporary = write_beside(&self.path, &configuration)?;
            // Unlike a rename, a hard link does not replace a file that another command may have created in the
            // meantime.
            let linked = fs::hard_link(&temporary, &self.path);
            fs::remove_file(&temporary)?;
            linked
        };
        match create() {
            Ok(()) => Ok(configuration),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.path.is_file() => self.load(),
            Err(error) => {
                eprintln!("Warning: could not create configuration file {:?}: {error}", self.path);
                Ok(configuration)
            }
        }
    }

    fn inaccessible(&self, error: std::io::Error) -> Failure {
        Failure::new(format!("Failed to access configuration file {:?}: {error}", self.path))
    }
}

/// Writes a new file, readable only by the user, in the folder of `path`.
fn write_beside(path: &Path, configuration: &Configuration) -> std::io::Result<PathBuf> {
    let text = output::yaml(configuration).map_err(std::io::Error::other)?;
    let (temporary, mut file) = new_file_beside(path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(temporary)
}

fn new_file_beside(path: &Path) -> std::io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let name = format!(".config.{}.{attempt}", std::process::id());
        let temporary = path.with_file_name(name);
        // `create_new` fails if anything of that name exists, including links.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            opened => return opened.map(|file| (temporary, file)),
        }
    }
}

/// The first line of a parser's message, without its prefix. The other lines are an excerpt of the file.
fn first_line(message: &str) -> &str {
    let first = message.lines().next().unwrap_or(message);
    first.strip_prefix("error: ").unwrap_or(first)
}
