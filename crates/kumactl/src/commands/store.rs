//! `kumactl store accept`: what the store of the control plane lacks is deleted.

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::confirm::confirm;
use crate::cli::AcceptStore;
use crate::client::CallError;
use crate::failure::Failure;
use crate::session::Session;

const ATTEMPT: &str = "failed to accept the store";

/// What the control plane says of its store.
#[derive(Debug, Deserialize)]
struct Store {
    store: String,
    revision: u64,
    complete: bool,
    missing: Missing,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Missing {
    documents: Vec<Value>,
    document_count: usize,
    proxies: Vec<Value>,
    proxy_count: usize,
}

/// Runs `store accept`: shows what is taken away, asks for confirmation, and accepts the store that was shown.
pub(super) async fn accept(session: &Session, arguments: AcceptStore) -> Result<String, Failure> {
    let client = session.writer().await?;
    let failed = |error: CallError| Failure::from(error).context(ATTEMPT);
    let answer = client.get(&["store"], &[]).await.map_err(failed)?;
    let store: Store = serde_json::from_value(answer)
        .map_err(|error| Failure::new(format!("{ATTEMPT}: the answer of the control plane is not usable: {error}")))?;
    if store.complete {
        return Ok(format!("the store is complete at revision {}: there is nothing to accept\n", store.revision));
    }
    // The question is put below it, on a terminal.
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(store.show().as_bytes()).and_then(|()| stdout.flush());
    if !arguments.yes {
        confirm("Accept this store?", "accepting a store", "use --yes to accept it without confirmation")?;
    }
    let request = json!({"store": store.store});
    client.post(&["store", "accept"], &request).await.map_err(failed)?;
    Ok(format!("accepted the store at revision {}\n", store.revision))
}

impl Store {
    fn show(&self) -> String {
        let Missing { documents, document_count, proxies, proxy_count } = &self.missing;
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let mut lines = vec![format!("the store {} is at revision {}", self.store, self.revision)];
        if *document_count > 0 {
            lines.push(format!("it lacks {document_count} resources that it had before, which are deleted:"));
            for document in documents {
                let (kind, name, mesh) = (text(document, "type"), text(document, "name"), text(document, "mesh"));
                let mesh = if mesh.is_empty() { String::new() } else { format!(" of mesh \"{mesh}\"") };
                lines.push(format!("  {kind} \"{name}\"{mesh}"));
            }
        }
        if *proxy_count > 0 {
            lines.push(format!("{proxy_count} connected proxies have no Dataplane in it, and lose all they have:"));
            let named = |proxy: &Value| format!("  {} of mesh \"{}\"", text(proxy, "name"), text(proxy, "mesh"));
            lines.extend(proxies.iter().map(named));
        }
        if documents.len() < *document_count || proxies.len() < *proxy_count {
            lines.push("  ... and more".to_owned());
        }
        if *document_count == 0 && *proxy_count == 0 {
            let text = "nothing is taken away; a proxy that comes back without a Dataplane will have nothing";
            lines.push(text.to_owned());
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
