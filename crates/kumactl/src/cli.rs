//! The syntax of the command line. [`crate::session`] and the commands give the arguments their meaning.

mod manage;
mod past;
mod transparent_proxy;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use go_duration::GoDuration;
use kuma_model::{KINDS, Kind};

pub(crate) use self::manage::{
    AddCertificate, BuiltinCa, BuiltinCertificates, DeleteCertificate, KeyPairFiles, ListCertificates, Manage,
    ManageCa, ProvidedCa, ProvidedCertificates, Rotate, RotateProvided,
};
pub(crate) use self::past::{AtFlag, Diff, Export, Form, History, Rollback};
pub(crate) use self::transparent_proxy::{InstallTransparentProxy, IpFamilyMode, UninstallTransparentProxy};
use crate::output::Format;

/// Management tool for Kuma.
#[derive(Debug, Parser)]
#[command(name = "kumactl", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Path to the configuration file to use [default: ~/.kumactl/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Mesh to use [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) mesh: Option<String>,
    /// Whether to report requests on stderr
    #[arg(long, global = true, value_name = "LEVEL", value_enum, default_value = "off", hide_possible_values = true)]
    pub(crate) log_level: LogLevel,
}

/// Value of `--log-level`. The two levels that are not off mean the same today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// Requests.
    Info,
    /// Requests.
    Debug,
}

/// One per verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or change resources, read from YAML or JSON
    #[command(after_help = APPLY_HELP)]
    Apply(Apply),
    /// Print the script that completes command lines in a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Manage which control planes kumactl talks to
    #[command(subcommand)]
    Config(Config),
    /// Delete resources: one by its name, or those that a file holds
    Delete(Delete),
    /// Show the differences between two revisions, or between files and what is stored
    #[command(after_help = past::DIFF_HELP)]
    Diff(Diff),
    /// Print all resources in a form that can be applied again
    #[command(after_help = past::EXPORT_HELP)]
    Export(Export),
    /// Generate dataplane tokens, and certificates for access to the admin server
    #[command(subcommand)]
    Generate(Generate),
    /// List resources of a kind, or show one
    Get(Get),
    /// List the changes of resources, with time, author and note
    #[command(after_help = past::HISTORY_HELP)]
    History(History),
    /// Show resources together with what is known about them
    #[command(subcommand)]
    Inspect(Inspect),
    /// Set up what runs beside a control plane
    #[command(subcommand)]
    Install(Install),
    /// Manage certificate authorities
    #[command(subcommand)]
    Manage(Manage),
    /// Print the manual page, or write those of all commands
    Man {
        /// Folder to write one page per command to
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
    /// Restore resources of an earlier revision
    #[command(after_help = past::ROLLBACK_HELP)]
    Rollback(Rollback),
    /// Manage where the control plane keeps its resources
    #[command(subcommand)]
    Store(Store),
    /// Remove what `install` has set up
    #[command(subcommand)]
    Uninstall(Uninstall),
    /// Print the version
    Version {
        /// Print tag, commit and date of the build as well
        #[arg(short = 'a', long)]
        detailed: bool,
    },
}

const APPLY_HELP: &str = "\
Without -f, standard input is read. A folder stands for its *.yaml, *.yml and *.json files. The input may hold \
several documents, separated by `---`, and lists as `kumactl get -o yaml` shows them. All of them are checked before \
anything is sent. Several are applied at once or not at all, where the control plane offers that; else one after the \
other, meshes first.

{{ name }} becomes the value given by --var name=value. Values are inserted as they are. A placeholder without a \
value is an error; {{! … }} is a comment.";

/// `apply`
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) input: Input,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    /// Show what is different from what is stored
    #[arg(long)]
    pub(crate) diff: bool,
    #[command(flatten)]
    pub(crate) note: NoteFlag,
    #[command(flatten)]
    pub(crate) wait: WaitFlag,
}

/// Flag of commands that change documents.
#[derive(Debug, Args)]
pub(crate) struct NoteFlag {
    /// Reason for the change, which the history shows; at most 1024 bytes
    #[arg(long, value_name = "TEXT", value_parser = note)]
    pub(crate) note: Option<String>,
}

/// A note is sent as an HTTP header.
fn note(text: &str) -> Result<String, String> {
    /// The limit of the control plane.
    const LONGEST: usize = 1024;
    if text.chars().any(char::is_control) {
        return Err("must be one line, without control characters".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("must not be longer than {LONGEST} bytes"));
    }
    Ok(text.to_owned())
}

/// Flag of commands that change documents.
#[derive(Debug, Args)]
pub(crate) struct WaitFlag {
    /// Wait until every proxy that the change concerns has accepted it, for a time such as 10s at most [default: 60s];
    /// with 'all', or 'all,10s', for proxies that were silent before as well. Exit code 3: time ran out, 4: a proxy
    /// refused
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s",
        value_parser = wait)]
    pub(crate) wait: Option<Wait>,
}

/// Value of `--wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// For how long.
    pub(crate) limit: Duration,
    /// Whether for proxies that were silent before the change as well.
    pub(crate) all: bool,
}

fn wait(text: &str) -> Result<Wait, String> {
    let mut wait = Wait { limit: Duration::from_secs(60), all: false };
    for part in text.split(',') {
        match part {
            "all" => wait.all = true,
            time => match time.parse::<kuma_model::Duration>().map(kuma_model::Duration::to_std) {
                Ok(Some(limit)) => wait.limit = limit,
                _ => return Err("must be a duration such as 10s or 1m30s, 'all', or 'all,10s'".to_owned()),
            },
        }
    }
    Ok(wait)
}

/// Flags of commands that read documents.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// File, folder, pattern such as 'mesh/*.yaml', http(s) URL, or - for standard input; may be repeated
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<String>,
    /// Value of a placeholder; may be repeated, or hold several separated by commas
    #[arg(short, long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = assignment)]
    pub(crate) var: Vec<(String, String)>,
}

/// `config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Manage known control planes
    #[command(subcommand)]
    ControlPlanes(ControlPlanes),
    /// Show the configuration
    View,
}

/// `config control-planes`
#[derive(Debug, Subcommand)]
pub(crate) enum ControlPlanes {
    /// Add a control plane and make it the active one
    Add(AddControlPlane),
    /// List known control planes
    List,
    /// Remove a control plane
    Remove {
        /// Name of the control plane
        #[arg(long)]
        name: String,
    },
    /// Make another control plane the active one
    Switch {
        /// Name of the control plane
        #[arg(long)]
        name: String,
    },
}

/// `config control-planes add`
#[derive(Debug, Args)]
pub(crate) struct AddControlPlane {
    /// Name for the control plane
    #[arg(long)]
    pub(crate) name: String,
    /// Address of its HTTP API, such as http://localhost:5681
    #[arg(long, value_name = "URL")]
    pub(crate) address: String,
    /// Replace a control plane of the same name
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// File with the client certificate for its admin server, in PEM
    #[arg(long, value_name = "FILE", requires = "admin_client_key")]
    pub(crate) admin_client_cert: Option<String>,
    /// File with the key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "admin_client_cert")]
    pub(crate) admin_client_key: Option<String>,
    /// File with the certificate of the admin server or of the CA that signed it, in PEM; without it the server's
    /// identity is not checked
    #[arg(long, value_name = "FILE", requires = "admin_client_cert")]
    pub(crate) admin_server_cert: Option<String>,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Kind of the resource
    #[arg(value_name = "TYPE", value_parser = kind_parser(|kind| kind.cli_one), required_unless_present = "file",
        conflicts_with = "file")]
    pub(crate) kind: Option<&'static Kind>,
    /// Name of the resource
    #[arg(required_unless_present = "file")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) note: NoteFlag,
    #[command(flatten)]
    pub(crate) wait: WaitFlag,
}

/// `generate`
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Generate the token that proves the identity of a dataplane
    DataplaneToken(DataplaneToken),
    /// Generate a key and a self-signed certificate for access to an admin server from another machine
    TlsCertificate(TlsCertificate),
}

/// `generate tls-certificate`
#[derive(Debug, Args)]
pub(crate) struct TlsCertificate {
    /// Who is to show it: `server` is the admin server, `client` is kumactl
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub(crate) holder: CertificateType,
    /// File for the key
    #[arg(long, value_name = "FILE", default_value = "key.pem")]
    pub(crate) key_file: PathBuf,
    /// File for the certificate
    #[arg(long, value_name = "FILE", default_value = "cert.pem")]
    pub(crate) cert_file: PathBuf,
    /// Host name or address of the admin server, with --type=server; may be repeated, or hold several separated by
    /// commas
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) cp_hostname: Vec<String>,
}

/// Value of `--type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CertificateType {
    /// For kumactl.
    Client,
    /// For the admin server.
    Server,
}

/// `generate dataplane-token`
#[derive(Debug, Args)]
pub(crate) struct DataplaneToken {
    /// Name of the dataplane
    #[arg(long, visible_alias = "name", value_name = "NAME")]
    pub(crate) dataplane: String,
    /// How long the token is valid, such as 24h; without it, it does not expire
    #[arg(long, value_name = "DURATION", value_parser = valid_for)]
    pub(crate) valid_for: Option<GoDuration>,
}

fn valid_for(text: &str) -> Result<GoDuration, String> {
    match text.parse::<GoDuration>() {
        Ok(valid_for) if valid_for >= GoDuration::from_secs(1) => Ok(valid_for),
        _ => Err("it must be a length of time of at least 1s, such as 24h or 90m".to_owned()),
    }
}

/// `get`
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Kind of the resources
    #[arg(value_name = "TYPE", value_parser = kind_parser(|kind| kind.cli_list))]
    pub(crate) kind: &'static Kind,
    /// Name of the one to show
    pub(crate) name: Option<String>,
    /// Go on, and show it again whenever it has changed
    #[arg(short, long, conflicts_with = "at")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) at: AtFlag,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `install`
#[derive(Debug, Subcommand)]
pub(crate) enum Install {
    /// Redirect the connections of this machine to the proxy, so that applications need not know it
    #[command(after_help = transparent_proxy::HELP)]
    TransparentProxy(InstallTransparentProxy),
    /// Print the SQL that makes the tables of kuma-cp in a database
    #[command(after_help = "For example: kumactl install database-schema | psql --host=db --username=postgres kuma")]
    DatabaseSchema(InstallDatabaseSchema),
}

/// `install database-schema`
#[derive(Debug, Args)]
pub(crate) struct InstallDatabaseSchema {
    /// The database
    #[arg(long, value_enum, default_value_t = Database::Postgres)]
    pub(crate) target: Database,
}

/// A kind of database.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Database {
    /// PostgreSQL
    Postgres,
}

/// `store`
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Delete what a store lacks that was replaced by another or an older one
    #[command(after_help = ACCEPT_HELP)]
    Accept(AcceptStore),
}

const ACCEPT_HELP: &str = "\
A control plane whose store is not the one that it was does not take for deleted what is missing there: proxies keep \
what they have. This command ends that. It shows first what it takes away.";

/// `store accept`
#[derive(Debug, Args)]
pub(crate) struct AcceptStore {
    /// Accept it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `uninstall`
#[derive(Debug, Subcommand)]
pub(crate) enum Uninstall {
    /// Redirect nothing any more
    TransparentProxy(UninstallTransparentProxy),
}

/// `inspect`
#[derive(Debug, Subcommand)]
pub(crate) enum Inspect {
    /// Show dataplanes, whether they are connected, and what they have been sent
    Dataplanes(InspectDataplanes),
    /// Show one dataplane: what it has been sent and has accepted, what it refused last and why, and why it is not
    /// dialled
    Dataplane(InspectDataplane),
}

/// `inspect dataplane`
#[derive(Debug, Args)]
pub(crate) struct InspectDataplane {
    /// Name of the dataplane
    pub(crate) name: String,
    /// Go on, and show it again whenever it has changed
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `inspect dataplanes`
#[derive(Debug, Args)]
pub(crate) struct InspectDataplanes {
    /// Only dataplanes with this tag; may be repeated, or hold several separated by commas
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', value_parser = assignment)]
    pub(crate) tag: Vec<(String, String)>,
    /// Go on, and show it again whenever it has changed
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Flag of commands that show resources.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// Takes a kind under the name that `spelling` gives it, or any other name that it has here and in the HTTP API. Kinds
/// that only the control plane writes are not offered.
fn kind_parser(spelling: fn(&Kind) -> &'static str) -> impl TypedValueParser<Value = &'static Kind> {
    let offered = || KINDS.iter().filter(|kind| !kind.server_made);
    let names = |kind: &Kind| [kind.cli_list, kind.cli_one, kind.api_path];
    let others = move |kind: &'static Kind| names(kind).into_iter().filter(move |name| *name != spelling(kind));
    let values = offered().map(move |kind| PossibleValue::new(spelling(kind)).aliases(others(kind)));
    PossibleValuesParser::new(values).try_map(move |given| {
        let named = |kind: &&'static Kind| names(kind).contains(&given.as_str());
        offered().find(named).ok_or_else(|| format!("no kind is called {given}"))
    })
}

/// `name=value`; the value may be empty and may hold further equals signs.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("it must have the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_kind_can_be_listed_and_deleted_under_its_names() {
        for kind in KINDS.iter().filter(|kind| !kind.server_made) {
            for name in [kind.cli_list, kind.cli_one, kind.api_path] {
                let cli = Cli::try_parse_from(["kumactl", "get", name]).expect(name);
                assert!(
                    matches!(cli.command, Command::Get(Get { kind: found, .. }) if found.name == kind.name),
                    "{name}"
                );
            }
            for name in [kind.cli_one, kind.cli_list, kind.api_path] {
                let cli = Cli::try_parse_from(["kumactl", "delete", name, "x"]).expect(name);
                assert!(
                    matches!(cli.command, Command::Delete(Delete { kind: Some(found), .. }) if found.name == kind.name),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn assignments() {
        assert_eq!(assignment("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(assignment("a="), Ok(("a".to_owned(), String::new())));
        assert!(assignment("a").is_err());
        assert!(assignment("=b").is_err());
    }
}
