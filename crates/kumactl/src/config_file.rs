//! Where the configuration is kept: `~/.kumactl/config`, or the file named by `--config-file`.
//!
//! It may lead to keys, so it is only the user's (0600, in a folder with 0700), and it is replaced as a whole: whoever
//! reads it sees the old content or the new. Temporary files are created anew and never followed to where a link leads.

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
    /// Named by the user, so it must exist for who reads it; the usual one is made when it is missing.
    explicit: bool,
}

impl ConfigFile {
    /// The file given by `--config-file`, or the usual one in the user's home.
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

    /// Reads the configuration. A missing usual file is made; where that can't be, the content it would have is used
    /// all the same.
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

    /// The same for who adds to it: a file that the user has named and that is not there yet begins without anything.
    pub(crate) fn load_or_begin(&self) -> Result<Configuration, Failure> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.explicit => Ok(Configuration::default()),
            _ => self.load(),
        }
    }

    /// Replaces the content of the file.
    pub(crate) fn save(&self, configuration: &Configuration) -> Result<(), Failure> {
        // A link, as tools that keep settings elsewhere make it, stays a link: what it leads to is replaced.
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
            // A link, unlike a rename, replaces nothing: another first command may have been quicker, and may have
            // added something.
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
        // `create_new` fails on whatever stands there already, links included.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            opened => return opened.map(|file| (temporary, file)),
        }
    }
}

/// The parser's messages go on with an excerpt of the file; the first line says it, after a word that is said already.
fn first_line(message: &str) -> &str {
    let first = message.lines().next().unwrap_or(message);
    first.strip_prefix("error: ").unwrap_or(first)
}
