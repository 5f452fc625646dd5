//! The syntax of `history`, `diff`, `rollback` and `export`.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kuma_model::Kind;

use super::{Input, NoteFlag, WaitFlag, kind_parser};

pub(super) const HISTORY_HELP: &str = "Without --mesh, it lists the history of all meshes.";

pub(super) const DIFF_HELP: &str = "\
With -f, the resources of files are compared with those that are stored: what `kumactl apply` would change. With \
--from, two revisions are compared; without --mesh, all meshes of them. Exit code 3: they differ.";

pub(super) const ROLLBACK_HELP: &str = "\
It shows the plan first. Without --mesh, it rolls back all meshes. Without --type, it rolls back meshes and policies, \
but no dataplanes, since they say where processes run now. Secrets are never rolled back. A rollback is a change like \
any other: it passes the same checks, has its own revision, and can be rolled back.";

pub(super) const EXPORT_HELP: &str = "\
The output is YAML for `kumactl apply -f -`. It contains neither secrets, such as the CAs of meshes, nor what proxies \
report. Without --mesh, it exports all meshes.";

/// `history`
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only changes of resources of this kind
    #[arg(value_name = "TYPE", value_parser = kind_parser(|kind| kind.cli_one))]
    pub(crate) kind: Option<&'static Kind>,
    /// Only changes of the resource of this name
    #[arg(requires = "kind")]
    pub(crate) name: Option<String>,
    /// Only changes since then: a time such as 2026-11-30T14:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Only changes until then
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
    /// The largest number of changes; the latest come first
    #[arg(long, value_name = "NUMBER", default_value = "100",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    /// Format of the output
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value = "table")]
    pub(crate) form: Form,
}

/// Value of `-o` of `history`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// For people, with all details.
    Yaml,
    /// For programs.
    Json,
}

/// `diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The first state: a revision, or a time such as 2026-11-30T14:00:00Z
    #[arg(long, value_name = "REVISION", value_parser = moment, required_unless_present = "file",
        conflicts_with = "file")]
    pub(crate) from: Option<String>,
    /// The second state [default: the present one]
    #[arg(long, value_name = "REVISION", value_parser = moment, requires = "from")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) input: Input,
}

/// `rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The state to restore: a revision, or a time such as 2026-11-30T14:00:00Z
    #[arg(value_parser = moment)]
    pub(crate) revision: String,
    /// Only resources of this kind; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = kind_parser(|kind| kind.cli_one))]
    pub(crate) kinds: Vec<&'static Kind>,
    /// Only show the plan
    #[arg(long, conflicts_with_all = ["wait", "yes"])]
    pub(crate) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Allow changes that cannot be undone, such as a new CA for a mesh that was deleted since
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) note: NoteFlag,
    #[command(flatten)]
    pub(crate) wait: WaitFlag,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) at: AtFlag,
}

/// Flag of commands that read documents of an earlier state.
#[derive(Debug, Args)]
pub(crate) struct AtFlag {
    /// The state at a revision, or at a time such as 2026-11-30T14:00:00Z
    #[arg(long, value_name = "REVISION", value_parser = moment)]
    pub(crate) at: Option<String>,
}

/// A revision or a time. The control plane parses it.
fn moment(text: &str) -> Result<String, String> {
    let is_revision = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match is_revision || text.parse::<Timestamp>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("must be a revision such as 412, or a time such as 2026-11-30T14:00:00Z".to_owned()),
    }
}

/// A time, or a duration before now.
fn time(text: &str) -> Result<Timestamp, String> {
    let ago = || {
        let ago = text.parse::<kuma_model::Duration>().ok()?.to_std()?;
        Timestamp::now().checked_sub(ago).ok()
    };
    let wrong = || "must be a time such as 2026-11-30T14:00:00Z, or a duration such as 2h".to_owned();
    text.parse().ok().or_else(ago).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_times() {
        for good in ["0", "412", "2026-11-30T14:00:00Z", "2026-11-30T14:00:00.5+01:00"] {
            assert_eq!(moment(good), Ok(good.to_owned()));
        }
        for wrong in ["", "-1", "412 ", "latest", "yesterday", "2026-11-30", "2h"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("2026-11-30T14:00:00Z"), Ok("2026-11-30T14:00:00Z".parse().expect("a time")));
        let hour = time("1h").expect("a time");
        let expected = Timestamp::now().as_second() - 3600;
        assert!((expected - 60..=expected).contains(&hour.as_second()), "{hour}");
        for wrong in ["", "412", "soon", "2026-11-30"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
