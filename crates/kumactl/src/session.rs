//! The settings that all commands share.

use crate::admin;
use crate::cli::{Global, LogLevel};
use crate::client::{API_TIMEOUT, Client};
use crate::config::Configuration;
use crate::config_file::ConfigFile;
use crate::failure::Failure;

/// The global flags, resolved.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where the configuration is.
    pub(crate) config_file: ConfigFile,
    /// Value of `--mesh`, or `default`.
    pub(crate) mesh: String,
    /// Value of `--mesh`, for commands that concern all meshes without it.
    pub(crate) only_mesh: Option<String>,
    /// Whether requests are reported on stderr.
    pub(crate) log: bool,
}

impl Session {
    /// Resolves the global flags.
    pub(crate) fn new(global: Global) -> Result<Session, Failure> {
        let Global { config_file, mesh, log_level } = global;
        Ok(Session {
            config_file: ConfigFile::locate(config_file)?,
            mesh: mesh.clone().unwrap_or_else(|| "default".to_owned()),
            only_mesh: mesh,
            log: log_level != LogLevel::Off,
        })
    }

    /// Reads the user's configuration.
    pub(crate) fn configuration(&self) -> Result<Configuration, Failure> {
        self.config_file.load()
    }

    /// A client of the HTTP API of the control plane in use.
    pub(crate) fn api(&self) -> Result<Client, Failure> {
        Client::new(self.configuration()?.active()?.address, API_TIMEOUT, self.log)
    }

    /// A client for writes to the control plane in use.
    pub(crate) async fn writer(&self) -> Result<Client, Failure> {
        admin::writer(self.configuration()?.active()?, self.log).await
    }

    /// The same, and whether the control plane accepts several documents in one request.
    pub(crate) async fn writer_of_changes(&self) -> Result<(Client, bool), Failure> {
        admin::writer_of_changes(self.configuration()?.active()?, self.log).await
    }
}
