//! `kumactl diff`: shows the differences between two revisions, or between files and what is stored.

use super::Outcome;
use super::compare::differences;
use super::past::failure;
use super::read::read;
use crate::cli::Diff;
use crate::failure::Failure;
use crate::session::Session;
use crate::unified::{is_coloured, unified};

/// Exit code if there is a difference.
const DIFFERENT: u8 = 3;

/// Runs `diff`.
pub(super) async fn run(session: &Session, arguments: Diff) -> Result<Outcome, Failure> {
    let Diff { from, to, input } = arguments;
    let client = session.api()?;
    let Some(from) = from else {
        let text = differences(&client, &read(input).await?).await?;
        let code = if text.is_empty() { 0 } else { DIFFERENT };
        return Ok(Outcome { text, code });
    };
    let mut query = vec![("from", from)];
    query.extend(to.map(|to| ("to", to)));
    query.extend(session.only_mesh.clone().map(|mesh| ("mesh", mesh)));
    let answer = client.get(&["diff"], &query).await.map_err(|error| failure(error, "failed to compare"))?;
    let state = |field: &str| format!("revision {}", answer.get(field).and_then(|at| at.as_u64()).unwrap_or_default());
    let (from, to) = (state("from"), state("to"));
    let items = client.items(answer)?;
    let code = if items.is_empty() { 0 } else { DIFFERENT };
    Ok(Outcome { text: unified(&items, &from, &to, is_coloured())?, code })
}
