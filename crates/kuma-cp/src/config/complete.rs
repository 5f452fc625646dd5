//! Settings that follow from others.

use std::path::{Path, PathBuf};

use super::Config;

impl Config {
    /// Fills in what was left open: addresses that proxies are told, the address that the GUI reads from. Call it once
    /// the servers are bound and the ports that the system chose are written back into `self`; `/config` shows the
    /// result.
    pub fn complete(&mut self) {
        let params = &mut self.bootstrap_server.params;
        if params.xds_host.is_empty() {
            params.xds_host = self.general.advertised_hostname.clone();
        }
        if params.xds_port == 0 {
            params.xds_port = self.xds_server.grpc_port;
        }
        if self.admin_server.public.port == 0 {
            self.admin_server.public.port = self.admin_server.local.port;
        }
        if self.gui_server.api_server_url.is_empty() {
            self.gui_server.api_server_url = format!("http://localhost:{}", self.api_server.port);
        }
    }

    /// `general.workDir` with a leading `~` replaced by `home`; an error if that is needed and unknown.
    pub fn work_dir(&self, home: Option<&Path>) -> Result<PathBuf, String> {
        let text = &self.general.work_dir;
        let Some(rest) = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Ok(PathBuf::from(text));
        };
        let home = home.filter(|home| home.is_absolute()).ok_or_else(|| {
            format!("general.workDir (KUMA_GENERAL_WORK_DIR) is {text:?}, and HOME, which it needs, is not set")
        })?;
        Ok(home.join(rest.trim_start_matches('/')))
    }
}
