//! `kuma-cp store`: what an operator does with the file that documents are kept in.

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use kuma_store_sqlite::{MaintainError, Report};

use crate::config::Config;
use crate::state_folder::{FolderLock, LockError};
use crate::stores::FILE;

/// The exit code when a file is not what was written; 1 is everything else that was not done.
pub const DAMAGED: u8 = 3;

/// What is to be done with which file.
#[derive(Args)]
pub struct StoreArgs {
    /// Configuration file of the control plane, which tells where documents are kept. Variables of the environment
    /// override it.
    #[arg(short = 'c', long = "config-file", global = true)]
    pub config_file: Option<PathBuf>,
    #[command(subcommand)]
    command: StoreCommand,
}

/// What is to be done.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Look whether everything in the file is what was written, the history included.
    ///
    /// The control plane may run. The exit code is 3 if the file is damaged.
    Check {
        /// File to look at, such as a backup; by default the one that the control plane uses.
        file: Option<PathBuf>,
    },
    /// Copy the file to another one, and check the copy.
    ///
    /// The control plane may run. To copy the file by other means is no backup: its latest commits are in a second
    /// file. The copy holds keys and history; only this user can read it.
    Backup {
        /// File to write. It must not be there yet.
        file: PathBuf,
    },
    /// Put a backup in the place of the file that the control plane uses.
    ///
    /// The control plane must not run. The file that was there is kept beside it, with .replaced at the end of its
    /// name. After the start nothing is taken from proxies because it is missing in the backup, until
    /// `kumactl store accept`.
    Restore {
        /// File that `backup` has written.
        file: PathBuf,
    },
}

impl StoreArgs {
    /// Does it. Returns what to print.
    ///
    /// # Errors
    /// It was not done, and nothing was changed. [`exit_code`] tells the code.
    pub fn run(&self, config: &Config, home: Option<&Path>) -> anyhow::Result<String> {
        let file = file_of(config, home)?;
        match &self.command {
            StoreCommand::Check { file: other } => {
                let file = other.as_deref().unwrap_or(&file);
                Ok(told(file, "is whole", &kuma_store_sqlite::check(file)?))
            }
            StoreCommand::Backup { file: to } => {
                let report = kuma_store_sqlite::backup(&file, to)?;
                Ok(told(to, &format!("is a backup of {}", file.display()), &report))
            }
            StoreCommand::Restore { file: from } => {
                let _lock = lock(&file)?;
                let had_one = file.exists();
                let report = kuma_store_sqlite::restore(from, &file)?;
                let mut text = told(&file, &format!("was restored from {}", from.display()), &report);
                if had_one {
                    let _ = writeln!(text, "What was there is in {}.replaced; it holds keys, too.", file.display());
                }
                Ok(text)
            }
        }
    }
}

/// The exit code for an error of [`StoreArgs::run`].
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(MaintainError::Damaged { .. }) => DAMAGED,
        _ => 1,
    }
}

/// The file that the control plane uses.
fn file_of(config: &Config, home: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = &config.store.file.path;
    if !path.as_os_str().is_empty() {
        return Ok(path.clone());
    }
    Ok(config.work_dir(home).map_err(anyhow::Error::msg)?.join(FILE))
}

/// Makes sure that no control plane uses the file, and that none starts to.
fn lock(file: &Path) -> anyhow::Result<FolderLock> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    match FolderLock::beside(file) {
        Ok(lock) => Ok(lock),
        Err(error @ LockError::Taken { .. }) => bail!("{}: {error}; stop it first", file.display()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn told(file: &Path, what: &str, report: &Report) -> String {
    let Report { head, floor, documents, unknown } = report;
    let mut text = format!("{} {what}.\n", file.display());
    let _ = writeln!(text, "Store {}, revision {}", head.store, head.position.revision);
    let _ = writeln!(text, "{documents} documents, history from revision {floor} on");
    for (kind, count) in unknown {
        let _ = writeln!(text, "{count} more of type {kind}, which this version does not know");
    }
    text
}
