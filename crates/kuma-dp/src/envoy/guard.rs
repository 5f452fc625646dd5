//! Makes sure that Envoy ends whenever kuma-dp ends, also by SIGKILL, for lack of memory, or by a crash.
//!
//! Linux can send a process a signal when its parent dies, but the child has to request that itself, after the fork and
//! before it becomes Envoy. Code in that place (`pre_exec`) is `unsafe`. So kuma-dp starts *itself* again, as `kuma-dp
//! envoy-guard`, which makes the request and then replaces itself by Envoy: the request survives exec (prctl(2),
//! PR_SET_PDEATHSIG), and Envoy is a direct child of kuma-dp.
//!
//! "Parent" is the *thread* that forked. kuma-dp starts Envoy from its main thread, which ends with the process.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::set_no_new_privs;

/// Replaces this process by `command`, whose first word is Envoy's path. Returns only if that fails.
///
/// `parent` is the process id of the kuma-dp that started this.
pub(crate) fn become_envoy(parent: i32, command: &[OsString]) -> anyhow::Error {
    match prepare(parent) {
        Err(error) => error,
        Ok(()) => match command {
            [] => anyhow!("there is nothing to start"),
            [envoy, arguments @ ..] => {
                let error = Command::new(envoy).args(arguments).exec();
                anyhow::Error::new(error).context(format!("could not start Envoy ({})", envoy.display()))
            }
        },
    }
}

fn prepare(parent: i32) -> anyhow::Result<()> {
    // SIGKILL also ends an Envoy that hangs or is stopped.
    set_parent_process_death_signal(Some(Signal::KILL)).context("could not make Envoy end together with kuma-dp")?;
    // If kuma-dp ended before the line above, the signal will not come.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        anyhow::bail!("kuma-dp has ended already");
    }
    // Envoy needs no more rights than kuma-dp has. And exec of a program that gains rights clears the request above.
    set_no_new_privs(true).context("could not forbid Envoy to gain privileges")?;
    // Envoy has the private key and the token in memory; they must not be written to a core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("could not forbid core files of Envoy")
}
