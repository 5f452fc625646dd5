//! Every setting of `kuma-prometheus-sd run`.

use std::fmt;
use std::path::PathBuf;

use url::Url;

/// The settings as text. A variable that is set but empty counts as set.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// URL of the control plane's API server
    #[arg(long, env = "KUMA_CONTROL_PLANE_API_SERVER_URL", default_value = "http://localhost:5681")]
    cp_address: String,
    /// Name by which the control plane's log knows this client
    #[arg(long, env = "KUMA_MONITORING_ASSIGNMENT_CLIENT_NAME", default_value = "kuma_sd")]
    name: String,
    /// File to write, which `file_sd_configs` of Prometheus names
    #[arg(long, env = "KUMA_PROMETHEUS_OUTPUT_FILE", default_value = "kuma.file_sd.json")]
    output_file: PathBuf,
}

/// A configuration without mistakes.
#[derive(Debug)]
pub(crate) struct Config {
    /// Base URL of the control plane's HTTP API.
    pub(crate) cp_address: Url,
    /// The node id of this client.
    pub(crate) name: String,
    /// The file for Prometheus.
    pub(crate) output_file: PathBuf,
}

/// Every mistake in a configuration: the message, and the flag or variable.
#[derive(Debug)]
pub(crate) struct InvalidConfig(Vec<(&'static str, &'static str)>);

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn check(flags: Flags) -> Result<Config, InvalidConfig> {
        let Flags { cp_address, name, output_file } = flags;
        let mut mistakes = Vec::new();
        let url = Url::parse(&cp_address).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            mistakes.push(if cp_address.is_empty() {
                (".ControlPlane is not valid: .ApiServer is not valid: .URL must be non-empty", CP_ADDRESS)
            } else {
                (".ControlPlane is not valid: .ApiServer is not valid: .URL must be a valid absolute URI", CP_ADDRESS)
            });
        }
        if name.is_empty() {
            mistakes.push((".MonitoringAssignment is not valid: .Client is not valid: .Name must be non-empty", NAME));
        }
        if output_file.as_os_str().is_empty() {
            mistakes.push((".Prometheus is not valid: .OutputFile must be non-empty", OUTPUT_FILE));
        }
        match url {
            Some(cp_address) if mistakes.is_empty() => Ok(Config { cp_address, name, output_file }),
            _ => Err(InvalidConfig(mistakes)),
        }
    }
}

const CP_ADDRESS: &str = "--cp-address or KUMA_CONTROL_PLANE_API_SERVER_URL";
const NAME: &str = "--name or KUMA_MONITORING_ASSIGNMENT_CLIENT_NAME";
const OUTPUT_FILE: &str = "--output-file or KUMA_PROMETHEUS_OUTPUT_FILE";

impl fmt::Display for InvalidConfig {
    /// One documented line with all mistakes, then one line for each, with its flag or variable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<&str> = self.0.iter().map(|(message, _)| *message).collect();
        write!(f, "Invalid configuration: {}", messages.join("; "))?;
        for (message, setting) in &self.0 {
            let (_, last) = message.rsplit_once(": ").unwrap_or(("", message));
            write!(f, "\n  {setting}: {last}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cp_address: &str, name: &str, output_file: &str) -> Result<Config, String> {
        let flags = Flags { cp_address: cp_address.into(), name: name.into(), output_file: output_file.into() };
        Config::check(flags).map_err(|error| error.to_string())
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        assert_eq!(
            check("", "", "").expect_err("all is wrong"),
            "Invalid configuration: .ControlPlane is not valid: .ApiServer is not valid: .URL must be non-empty; \
             .MonitoringAssignment is not valid: .Client is not valid: .Name must be non-empty; \
             .Prometheus is not valid: .OutputFile must be non-empty\
             \n  --cp-address or KUMA_CONTROL_PLANE_API_SERVER_URL: .URL must be non-empty\
             \n  --name or KUMA_MONITORING_ASSIGNMENT_CLIENT_NAME: .Name must be non-empty\
             \n  --output-file or KUMA_PROMETHEUS_OUTPUT_FILE: .OutputFile must be non-empty"
        );
        for url in ["nowhere", "ftp://cp", "/catalog", "http://"] {
            assert!(check(url, "n", "f").expect_err(url).contains(".URL must be a valid absolute URI"), "{url}");
        }
        assert_eq!(check("https://cp:5681/kuma", "n", "f").expect("all is right").name, "n");
    }
}
