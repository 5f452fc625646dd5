//! Every setting of `kuma-dp run`, read in one place, once.
//!
//! A flag takes precedence over its environment variable, and that over the default. A variable that is set but empty
//! counts as set: `KUMA_DATAPLANE_ADMIN_PORT=` turns Envoy's admin interface off. All mistakes are reported together,
//! each with the flag or variable that it came from.

mod port_range;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use go_duration::{DurationError, GoDuration};
use url::Url;

pub(crate) use port_range::PortRange;

/// The flags of `kuma-dp run`, as text. [`Config::load`] parses them, together with environment variables, which have
/// the same syntax.
#[derive(clap::Args, Default)]
pub(crate) struct Flags {
    /// Name of the Dataplane [env: KUMA_DATAPLANE_NAME]
    #[arg(long)]
    pub(crate) name: Option<OsString>,
    /// Mesh that the Dataplane belongs to [env: KUMA_DATAPLANE_MESH] [default: default]
    #[arg(long)]
    pub(crate) mesh: Option<OsString>,
    /// URL of the control plane's API server; several with commas between them, if several control planes serve the
    /// mesh [env: KUMA_CONTROL_PLANE_API_SERVER_URL] [default: http://localhost:5681]
    #[arg(long)]
    pub(crate) cp_address: Option<OsString>,
    /// Port (or range to choose from) of Envoy's admin interface; empty turns it off [env: KUMA_DATAPLANE_ADMIN_PORT]
    /// [default: 30001-65535]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) admin_port: Option<OsString>,
    /// Envoy's executable: a path, or a name to look up in PATH [env: KUMA_DATAPLANE_RUNTIME_BINARY_PATH] [default:
    /// envoy]
    #[arg(long)]
    pub(crate) binary_path: Option<OsString>,
    /// Directory for Envoy's configuration; without it a temporary one is used and removed [env:
    /// KUMA_DATAPLANE_RUNTIME_CONFIG_DIR]
    #[arg(long)]
    pub(crate) config_dir: Option<OsString>,
    /// File with the dataplane token (`kumactl generate dataplane-token`) [env: KUMA_DATAPLANE_RUNTIME_TOKEN_PATH]
    #[arg(long)]
    pub(crate) dataplane_token_file: Option<OsString>,
}

/// A configuration without mistakes.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    /// Base URL of the control plane's HTTP API.
    pub(crate) cp_address: Addresses,
    pub(crate) mesh: String,
    pub(crate) name: String,
    /// Where Envoy's admin interface may listen; `None` turns it off.
    pub(crate) admin_port: Option<PortRange>,
    /// How long connections may take to end when kuma-dp is stopped.
    pub(crate) drain_time: Duration,
    pub(crate) binary_path: PathBuf,
    pub(crate) config_dir: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
}

/// Every mistake in a configuration.
#[derive(Debug)]
pub(crate) struct InvalidConfig(Vec<Violation>);

#[derive(Debug)]
struct Violation {
    section: Section,
    message: String,
    /// Where the value came from, or where to set it.
    origin: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Section {
    ControlPlane,
    Dataplane,
    DataplaneRuntime,
}

/// One setting: its names and its default. This is the only place where variables are named.
struct Setting {
    flag: Option<&'static str>,
    variable: &'static str,
    default: &'static str,
    section: Section,
}

const fn setting(
    section: Section,
    flag: Option<&'static str>,
    variable: &'static str,
    default: &'static str,
) -> Setting {
    Setting { flag, variable, default, section }
}

const CP_ADDRESS: Setting =
    setting(Section::ControlPlane, Some("--cp-address"), "KUMA_CONTROL_PLANE_API_SERVER_URL", "http://localhost:5681");
const MESH: Setting = setting(Section::Dataplane, Some("--mesh"), "KUMA_DATAPLANE_MESH", "default");
const NAME: Setting = setting(Section::Dataplane, Some("--name"), "KUMA_DATAPLANE_NAME", "");
const ADMIN_PORT: Setting =
    setting(Section::Dataplane, Some("--admin-port"), "KUMA_DATAPLANE_ADMIN_PORT", "30001-65535");
const DRAIN_TIME: Setting = setting(Section::Dataplane, None, "KUMA_DATAPLANE_DRAIN_TIME", "30s");
const BINARY_PATH: Setting =
    setting(Section::DataplaneRuntime, Some("--binary-path"), "KUMA_DATAPLANE_RUNTIME_BINARY_PATH", "envoy");
const CONFIG_DIR: Setting =
    setting(Section::DataplaneRuntime, Some("--config-dir"), "KUMA_DATAPLANE_RUNTIME_CONFIG_DIR", "");
const TOKEN_FILE: Setting =
    setting(Section::DataplaneRuntime, Some("--dataplane-token-file"), "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH", "");

/// Every setting.
const SETTINGS: [&Setting; 8] =
    [&CP_ADDRESS, &MESH, &NAME, &ADMIN_PORT, &DRAIN_TIME, &BINARY_PATH, &CONFIG_DIR, &TOKEN_FILE];

/// Prefixes of the variables of kuma-cp and other programs, which may be set in the same environment.
const OF_OTHER_PROGRAMS: [&str; 19] = [
    "KUMA_ADMIN_SERVER_",
    "KUMA_API_SERVER_",
    "KUMA_BOOTSTRAP_SERVER_",
    "KUMA_BUILD_",
    "KUMA_DATAPLANE_TOKEN_SERVER_",
    "KUMA_DEFAULTS_",
    "KUMA_DISCOVERY_",
    "KUMA_ENVIRONMENT",
    "KUMA_GENERAL_",
    "KUMA_GUI_SERVER_",
    "KUMA_INJECTOR_",
    "KUMA_KUBERNETES_",
    "KUMA_MONITORING_ASSIGNMENT_",
    "KUMA_PROMETHEUS_",
    "KUMA_REPORTS_",
    "KUMA_RUNTIME_",
    "KUMA_SDS_SERVER_",
    "KUMA_STORE_",
    "KUMA_XDS_SERVER_",
];

/// A warning for each variable that looks like a setting of kuma-dp but is none, with the setting that was probably
/// meant.
pub(crate) fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = || SETTINGS.iter().map(|setting| setting.variable);
    let is_unknown = |name: &String| {
        name.starts_with("KUMA_")
            && !known().any(|known| known == name)
            && !OF_OTHER_PROGRAMS.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut unknown: Vec<String> = names.into_iter().filter(is_unknown).collect();
    unknown.sort();
    let sentence = |name: String| {
        let score = |known: &&str| strsim::jaro_winkler(&name, known);
        let best = known().max_by(|one, other| score(one).total_cmp(&score(other)));
        let hint =
            best.filter(|known| score(known) > 0.85).map_or(String::new(), |known| format!("; did you mean {known}?"));
        format!("{name}: unknown environment variable, ignored{hint}")
    };
    unknown.into_iter().map(sentence).collect()
}

impl Config {
    /// Reads the settings from flags and from `variable`, which looks up an environment variable.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn load(flags: &Flags, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config, InvalidConfig> {
        let Flags { name, mesh, cp_address, admin_port, binary_path, config_dir, dataplane_token_file } = flags;
        let mut reader = Reader { variable: &variable, violations: Vec::new() };
        let cp_address = reader.read(&CP_ADDRESS, cp_address.as_ref(), parse_addresses);
        let mesh = reader.read(&MESH, mesh.as_ref(), |text| non_empty(text, ".Mesh"));
        let name = reader.read(&NAME, name.as_ref(), |text| non_empty(text, ".Name"));
        let admin_port = reader.read(&ADMIN_PORT, admin_port.as_ref(), PortRange::parse);
        let drain_time = reader.read(&DRAIN_TIME, None, parse_drain_time);
        let binary_path = reader.path(&BINARY_PATH, binary_path.as_ref());
        if binary_path.is_none() {
            reader.violation(&BINARY_PATH, None, ".BinaryPath must be non-empty".to_owned());
        }
        let config_dir = reader.path(&CONFIG_DIR, config_dir.as_ref());
        let token_file = reader.path(&TOKEN_FILE, dataplane_token_file.as_ref());
        match (cp_address, mesh, name, admin_port, drain_time, binary_path) {
            (Some(cp_address), Some(mesh), Some(name), Some(admin_port), Some(drain_time), Some(binary_path)) => {
                Ok(Config { cp_address, mesh, name, admin_port, drain_time, binary_path, config_dir, token_file })
            }
            _ => Err(InvalidConfig(reader.violations)),
        }
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    violations: Vec<Violation>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        setting: &Setting,
        flag: Option<&OsString>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self.text(setting, flag);
        let parsed = match text.to_str() {
            Some(text) => parse(text),
            None => Err(format!("invalid value {text:?}: it is not UTF-8")),
        };
        parsed.map_err(|message| self.violation(setting, origin, message)).ok()
    }

    /// Paths need not be UTF-8. Empty means not set.
    fn path(&mut self, setting: &Setting, flag: Option<&OsString>) -> Option<PathBuf> {
        let (text, _) = self.text(setting, flag);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    /// The value and where it came from (`None` = the default).
    fn text(&self, setting: &Setting, flag: Option<&OsString>) -> (OsString, Option<&'static str>) {
        if let (Some(value), Some(name)) = (flag, setting.flag) {
            return (value.clone(), Some(name));
        }
        match (self.variable)(setting.variable) {
            Some(value) => (value, Some(setting.variable)),
            None => (setting.default.into(), None),
        }
    }

    fn violation(&mut self, setting: &Setting, origin: Option<&'static str>, message: String) {
        let origin = match (origin, setting.flag) {
            (Some(origin), _) => origin.to_owned(),
            (None, Some(flag)) => format!("set {flag} or {}", setting.variable),
            (None, None) => format!("set {}", setting.variable),
        };
        self.violations.push(Violation { section: setting.section, message, origin });
    }
}

fn non_empty(text: &str, field: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{field} must be non-empty")) } else { Ok(text.to_owned()) }
}

/// The base URLs of the HTTP APIs of one or several control planes that serve the same mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addresses {
    pub(crate) first: Url,
    pub(crate) others: Vec<Url>,
}

impl Addresses {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.others.iter().try_for_each(|url| write!(f, ",{url}"))
    }
}

fn parse_addresses(text: &str) -> Result<Addresses, String> {
    if text.is_empty() {
        return Err(".URL must be non-empty".to_owned());
    }
    let mut addresses = text.split(',').map(|address| match Url::parse(address.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ if address == text => Err(".URL must be a valid absolute URI".to_owned()),
        _ => {
            Err(format!(".URL must be a valid absolute URI, or several with commas between them: {address:?} is none"))
        }
    });
    // `split` gives at least one.
    let first = addresses.next().unwrap_or_else(|| Err(".URL must be non-empty".to_owned()))?;
    Ok(Addresses { first, others: addresses.collect::<Result<_, _>>()? })
}

fn parse_drain_time(text: &str) -> Result<Duration, String> {
    match text.parse::<GoDuration>() {
        Ok(time) if time > GoDuration::default() => Ok(time.get()),
        Ok(_) | Err(DurationError::Negative) => Err(".DrainTime must be positive".to_owned()),
        Err(DurationError::Syntax | DurationError::OutOfRange) => {
            Err(format!(".DrainTime: invalid value {text:?}: write a duration such as 30s, 1m30s or 500ms"))
        }
    }
}

impl Section {
    const ALL: [Section; 3] = [Section::ControlPlane, Section::Dataplane, Section::DataplaneRuntime];

    /// The section's name in messages.
    fn prefix(self) -> &'static str {
        match self {
            Section::ControlPlane => ".ControlPlane is not valid: .ApiServer is not valid",
            Section::Dataplane => ".Dataplane is not valid",
            Section::DataplaneRuntime => ".DataplaneRuntime is not valid",
        }
    }
}

impl fmt::Display for InvalidConfig {
    /// One documented line with everything that is wrong, then one line for each value with its origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invalid configuration: ")?;
        let sections = Section::ALL.iter().filter_map(|section| {
            let messages: Vec<&str> = (self.0.iter())
                .filter(|violation| violation.section == *section)
                .map(|violation| violation.message.as_str())
                .collect();
            (!messages.is_empty()).then(|| format!("{}: {}", section.prefix(), messages.join("; ")))
        });
        f.write_str(&sections.collect::<Vec<_>>().join("; "))?;
        for Violation { message, origin, .. } in &self.0 {
            write!(f, "\n  {origin}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &Flags, environment: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        Config::load(flags, |wanted| {
            environment.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
        })
    }

    fn named(name: &str) -> Flags {
        Flags { name: Some(name.into()), ..Flags::default() }
    }

    #[test]
    fn several_control_planes_have_commas_between_them() {
        let addresses = |text: &str| {
            parse_addresses(text).map(|addresses| addresses.iter().map(Url::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            addresses("http://a:5681, https://b/kuma"),
            Ok(vec!["http://a:5681/".into(), "https://b/kuma".into()])
        );
        for wrong in ["http://a:5681,", "http://a,b", ",", "http://a:5681,,http://b:5681", "http://a:5681 http://b"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
        let error = addresses("http://a:5681,b:5681").unwrap_err();
        assert!(error.contains("\"b:5681\" is none"), "{error}");
    }

    #[test]
    fn variables_that_are_mistyped_are_told() {
        let names = [
            "KUMA_DATAPLANE_NAME",
            "KUMA_DATAPLAN_NAME",
            "KUMA_DATAPLANE_RUNTIME_TOKEN_FILE",
            "KUMA_CONTROLPLANE_API_SERVER_URL",
            "KUMA_X",
            "KUMA_STORE_TYPE",
            "KUMA_DATAPLANE_TOKEN_SERVER_ENABLED",
            "PATH",
        ];
        assert_eq!(
            unknown_variables(names.map(str::to_owned)),
            [
                "KUMA_CONTROLPLANE_API_SERVER_URL: unknown environment variable, ignored; did you mean \
                 KUMA_CONTROL_PLANE_API_SERVER_URL?",
                "KUMA_DATAPLANE_RUNTIME_TOKEN_FILE: unknown environment variable, ignored; did you mean \
                 KUMA_DATAPLANE_RUNTIME_TOKEN_PATH?",
                "KUMA_DATAPLAN_NAME: unknown environment variable, ignored; did you mean KUMA_DATAPLANE_NAME?",
                "KUMA_X: unknown environment variable, ignored",
            ]
        );
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        assert_eq!(
            load(&named("web-1"), &[]).unwrap(),
            Config {
                cp_address: parse_addresses("http://localhost:5681").unwrap(),
                mesh: "default".to_owned(),
                name: "web-1".to_owned(),
                admin_port: Some(PortRange { low: 30001, high: 65535 }),
                drain_time: Duration::from_secs(30),
                binary_path: "envoy".into(),
                config_dir: None,
                token_file: None,
            }
        );
    }

    #[test]
    fn every_variable_is_read() {
        let config = load(
            &Flags::default(),
            &[
                ("KUMA_CONTROL_PLANE_API_SERVER_URL", "https://cp.internal:443/kuma"),
                ("KUMA_DATAPLANE_MESH", "blue"),
                ("KUMA_DATAPLANE_NAME", "web-1"),
                ("KUMA_DATAPLANE_ADMIN_PORT", "9901"),
                ("KUMA_DATAPLANE_DRAIN_TIME", "1m30s"),
                ("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", "/usr/local/bin/envoy"),
                ("KUMA_DATAPLANE_RUNTIME_CONFIG_DIR", "/etc/kuma"),
                ("KUMA_DATAPLANE_RUNTIME_TOKEN_PATH", "/etc/kuma/token"),
            ],
        );
        assert_eq!(
            config.unwrap(),
            Config {
                cp_address: parse_addresses("https://cp.internal/kuma").unwrap(),
                mesh: "blue".to_owned(),
                name: "web-1".to_owned(),
                admin_port: Some(PortRange { low: 9901, high: 9901 }),
                drain_time: Duration::from_secs(90),
                binary_path: "/usr/local/bin/envoy".into(),
                config_dir: Some("/etc/kuma".into()),
                token_file: Some("/etc/kuma/token".into()),
            }
        );
    }

    #[test]
    fn flags_beat_the_environment() {
        let flags = Flags {
            name: Some("flag".into()),
            mesh: Some("flag".into()),
            cp_address: Some("http://flag:1".into()),
            admin_port: Some("1".into()),
            binary_path: Some("flag".into()),
            config_dir: Some("flag".into()),
            dataplane_token_file: Some("flag".into()),
        };
        let environment = [
            ("KUMA_DATAPLANE_NAME", "env"),
            ("KUMA_DATAPLANE_MESH", "env"),
            ("KUMA_CONTROL_PLANE_API_SERVER_URL", "http://env:2"),
            ("KUMA_DATAPLANE_ADMIN_PORT", "2"),
            ("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", "env"),
            ("KUMA_DATAPLANE_RUNTIME_CONFIG_DIR", "env"),
            ("KUMA_DATAPLANE_RUNTIME_TOKEN_PATH", "env"),
        ];
        let printed = format!("{:?}", load(&flags, &environment).unwrap());
        assert!(!printed.contains("env") && printed.contains("low: 1,"), "{printed}");
    }

    #[test]
    fn a_variable_set_to_nothing_counts_as_set() {
        let config = load(&named("web-1"), &[("KUMA_DATAPLANE_ADMIN_PORT", "")]).unwrap();
        assert_eq!(config.admin_port, None);
        let error = load(&named("web-1"), &[("KUMA_DATAPLANE_MESH", "")]).unwrap_err();
        assert!(error.to_string().contains(".Mesh must be non-empty"), "{error}");
    }

    #[test]
    fn all_mistakes_are_reported_together_with_their_origin() {
        let flags = Flags {
            cp_address: Some("localhost:5681".into()),
            admin_port: Some("9901-".into()),
            binary_path: Some("".into()),
            ..Flags::default()
        };
        let error = load(&flags, &[("KUMA_DATAPLANE_DRAIN_TIME", "0s"), ("KUMA_DATAPLANE_MESH", "")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid configuration: .ControlPlane is not valid: .ApiServer is not valid: .URL must be a valid \
             absolute URI; .Dataplane is not valid: .Mesh must be non-empty; .Name must be non-empty; .DrainTime must \
             be positive; .DataplaneRuntime is not valid: .BinaryPath must be non-empty\
             \n  --cp-address: .URL must be a valid absolute URI\
             \n  KUMA_DATAPLANE_MESH: .Mesh must be non-empty\
             \n  set --name or KUMA_DATAPLANE_NAME: .Name must be non-empty\
             \n  KUMA_DATAPLANE_DRAIN_TIME: .DrainTime must be positive\
             \n  set --binary-path or KUMA_DATAPLANE_RUNTIME_BINARY_PATH: .BinaryPath must be non-empty"
        );
    }

    #[test]
    fn odd_values_are_refused() {
        for (variable, value, message) in [
            ("KUMA_CONTROL_PLANE_API_SERVER_URL", "", ".URL must be non-empty"),
            ("KUMA_CONTROL_PLANE_API_SERVER_URL", "ftp://cp", ".URL must be a valid absolute URI"),
            ("KUMA_CONTROL_PLANE_API_SERVER_URL", "/catalog", ".URL must be a valid absolute URI"),
            ("KUMA_DATAPLANE_DRAIN_TIME", "-30s", ".DrainTime must be positive"),
            ("KUMA_DATAPLANE_DRAIN_TIME", "soon", ".DrainTime: invalid value \"soon\""),
            ("KUMA_DATAPLANE_ADMIN_PORT", "x", "invalid value \"x\". Valid port range formats:"),
        ] {
            let error = load(&named("web-1"), &[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(&format!("\n  {variable}: ")), "{value:?}: {error}");
        }
    }
}
