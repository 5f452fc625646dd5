//! `kumactl rollback`: restores resources of an earlier revision.

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Outcome;
use super::apply::finish;
use super::confirm::confirm;
use super::past::failure;
use crate::cli::{NoteFlag, Rollback, WaitFlag};
use crate::client::{CallError, Client, Written};
use crate::failure::Failure;
use crate::session::Session;
use crate::unified::{is_coloured, unified};

const ATTEMPT: &str = "failed to roll back";

/// The changes of a rollback, as the control plane returns them.
#[derive(Debug, Deserialize)]
struct Plan {
    to: u64,
    revision: u64,
    #[serde(default)]
    irreversible: Vec<String>,
    changes: Vec<Value>,
}

/// Runs `rollback`: shows the plan, asks for confirmation, and executes exactly this plan.
pub(super) async fn run(session: &Session, arguments: Rollback) -> Result<Outcome, Failure> {
    let Rollback { revision, kinds, dry_run, yes, force, note: NoteFlag { note }, wait: WaitFlag { wait } } = arguments;
    let client = session.writer().await?.with_note(note);
    let types: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let mut request = json!({"to": revision, "mesh": session.only_mesh, "types": types, "dryRun": true});
    let (answer, _) = post(&client, &request).await.map_err(|error| failure(error, ATTEMPT))?;
    let plan = Plan::read(&client, answer)?;
    if plan.changes.is_empty() {
        return Ok(format!("nothing to change: everything is as at revision {}\n", plan.to).into());
    }
    let shown = plan.show()?;
    if dry_run {
        return Ok(shown.into());
    }
    print(&shown);
    if !plan.irreversible.is_empty() && !force {
        return Err(Failure::new("the rollback cannot be undone")
            .note("Nothing was done.")
            .hint("use --force to execute it all the same"));
    }
    if !yes {
        confirm("Execute this plan?", "the rollback", "use --yes to execute the plan without confirmation")?;
    }
    request["dryRun"] = false.into();
    request["force"] = force.into();
    request["expected"] = plan.revision.into();
    match post(&client, &request).await {
        Ok((answer, written)) => {
            let Plan { to, revision, .. } = Plan::read(&client, answer)?;
            finish(&client, format!("rolled back to revision {to}, as revision {revision}\n"), vec![written], wait)
                .await
        }
        Err(CallError::Refused(refusal)) => {
            if let Some(plan) = refusal.plan() {
                print(&Plan::read(&client, plan.clone())?.show()?);
            }
            let is_outdated = refusal.is_conflict();
            // After a server error, it is unknown whether something was stored.
            let certain = refusal.status.is_client_error();
            let failure = Failure::from(refusal);
            let failure = if certain { failure.note("Nothing was done.") } else { failure };
            Err(if is_outdated { failure.hint("check the plan above, and run the command again") } else { failure })
        }
        Err(error) => Err(failure(error, ATTEMPT)),
    }
}

async fn post(client: &Client, request: &Value) -> Result<(Value, Option<Written>), CallError> {
    client.post_change(&["rollback"], request).await
}

impl Plan {
    fn read(client: &Client, answer: Value) -> Result<Plan, Failure> {
        serde_json::from_value(answer)
            .map_err(|error| client.garbled(format!("its plan cannot be read: {error}")).into())
    }

    fn show(&self) -> Result<String, Failure> {
        let Plan { to, revision, irreversible, changes } = self;
        let (now, then) = (format!("revision {revision}"), format!("revision {to}"));
        let mut text = unified(changes, &now, &then, is_coloured())?;
        let count = |what: &str| changes.iter().filter(|change| change["change"] == what).count();
        let counts = [("created", "created"), ("updated", "changed"), ("deleted", "deleted")];
        let counts = counts.map(|(change, word)| format!("{} {word}", count(change)));
        text.push_str(&format!("Restoring {then}: {}.\n", counts.join(", ")));
        for what in irreversible {
            text.push_str(&format!("Cannot be undone: {what}.\n"));
        }
        Ok(text)
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed stdout is no reason to stop.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
