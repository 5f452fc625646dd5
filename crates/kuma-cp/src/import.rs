//! What the original Kuma (0.3, 0.4) has left in its PostgreSQL table `resources`, as documents of a store.
//!
//! Its rows have the kind, mesh and name of a document, and its spec in JSON. Secrets are JSON strings in base64: CAs,
//! in the form in which stores keep them here, too, and the key that signs dataplane tokens.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::{ImportedKey, mesh_secret};
use kuma_envoy::raw;
use kuma_model::{Ca, DataplaneInsight, Document, Key, Mesh, ProxyTemplate, Resource as _, SECRET_KIND, decode_spec};
use kuma_store::{Cause, Expect, Proposal, Store, StoreError, Write};
use kuma_store_postgres::OriginalRow;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::identity::AUTHOR;

/// The name of the Secret with the key that signs dataplane tokens.
const TOKEN_KEY: &str = "dataplane-token-signing-key";

/// What becomes of rows.
#[derive(Debug, Default, PartialEq)]
pub struct Import {
    /// Documents to create in one commit, secrets included.
    pub documents: Vec<Document>,
    /// Rows that cannot be taken over.
    pub left: Vec<Left>,
}

/// A row that is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is.
    pub row: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row, self.reason)
    }
}

/// Takes over what the original has left, in one commit, into a store in which nothing has ever been; says what it took
/// and what it could not. If another control plane was faster, it has done the same.
///
/// # Errors
/// The store does not work.
pub async fn take_over(store: &dyn Store, rows: &[OriginalRow]) -> Result<(), StoreError> {
    let Import { documents, left } = import(rows);
    let taken = names(&documents);
    let writes = documents.into_iter().map(Write::Create).collect();
    let note = "taken over from the table `resources` of the original Kuma".into();
    let cause = Cause { author: AUTHOR.into(), note, ..Cause::default() };
    match store.propose(Proposal { expected: vec![Expect::Head(0)], writes, cause }).await {
        Ok(_) => {}
        Err(StoreError::HeadMoved { .. }) => return Ok(()),
        Err(error) => return Err(error),
    }
    tracing::warn!("took over from the original Kuma, whose table `resources` stays as it is: {}", taken.join(", "));
    for left in &left {
        tracing::error!("not taken over from the original Kuma: {left}");
    }
    Ok(())
}

/// Reads all rows. What proxies had reported is left without a word: proxies report anew.
pub fn import(rows: &[OriginalRow]) -> Import {
    let mut import = Import::default();
    for row in rows.iter().filter(|row| row.kind != DataplaneInsight::KIND) {
        match document(row) {
            Ok(document) => import.documents.push(document),
            Err(reason) => import.left.push(Left::of(row, reason)),
        }
    }
    let meshes: BTreeSet<Arc<str>> =
        import.documents.iter().filter(|one| one.key.kind == Mesh::KIND).map(|one| one.key.name.clone()).collect();
    // A document exists only while its mesh does.
    let is_homeless =
        |document: &mut Document| !meshes.contains(mesh_secret::mesh_of(&document.key)) && !is_token_key(document);
    for Document { key, .. } in import.documents.extract_if(.., is_homeless) {
        let reason = format!("there is no Mesh {:?}, or it cannot be taken over", mesh_secret::mesh_of(&key));
        import.left.push(Left { row: key.to_string(), reason });
    }
    import
}

fn is_token_key(document: &Document) -> bool {
    document.key == ImportedKey::key()
}

impl Left {
    fn of(row: &OriginalRow, reason: String) -> Left {
        let OriginalRow { kind, mesh, name, .. } = row;
        Left { row: format!("{kind} {name:?} of mesh {mesh:?}"), reason }
    }
}

/// The document of a row, or why there is none.
fn document(row: &OriginalRow) -> Result<Document, String> {
    let spec = row.spec.as_deref().ok_or("it has no spec")?;
    let spec: Value =
        kuma_model::text::parse_json(spec.as_bytes()).map_err(|error| format!("its spec is not JSON: {error}"))?;
    if row.kind == SECRET_KIND {
        return secret(row, &spec);
    }
    let Value::Object(spec) = spec else { return Err("its spec is not an object".to_owned()) };
    let envelope = [("type", &row.kind), ("mesh", &row.mesh), ("name", &row.name)];
    let mut fields: Map<String, Value> =
        envelope.into_iter().map(|(field, text)| (field.to_owned(), Value::from(text.as_str()))).collect();
    if row.kind == Mesh::KIND {
        fields.remove("mesh");
    }
    fields.extend(spec);
    let document = Document::parse(&fields.into()).map_err(|violations| violations.to_string())?;
    if document.key.kind == ProxyTemplate::KIND {
        let template: ProxyTemplate = decode_spec(&document.spec).map_err(|violations| violations.to_string())?;
        let (_, violations) = raw::template(&template);
        if !violations.is_empty() {
            return Err(violations.to_string());
        }
    }
    Ok(document)
}

fn secret(row: &OriginalRow, spec: &Value) -> Result<Document, String> {
    let text = spec.as_str().ok_or("it is not a string in base64")?;
    let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| "it is not in base64")?);
    if row.name == TOKEN_KEY {
        let key = ImportedKey::new(bytes).ok_or("the key is too short to be safe")?;
        return Ok(key.document());
    }
    let cas = [(Ca::Builtin, mesh_secret::BUILTIN), (Ca::Provided, mesh_secret::PROVIDED)];
    for (ca, prefix) in cas {
        if let Some(mesh) = row.name.strip_prefix(prefix) {
            let spec = serde_json::from_slice(&bytes).map_err(|_| "the CA is not JSON")?;
            // What cannot be used is told now, and not when the first certificate is due.
            let roots = mesh_secret::read(ca, &spec).map_err(|error| crate::http::error::chain(&error))?;
            return Ok(mesh_secret::document(ca, mesh, roots.as_ref()));
        }
    }
    Err("no part of Kuma that is known keeps a Secret of that name".to_owned())
}

/// What documents are called, for people: a Secret by what is in it.
pub fn names(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| shown(&document.key)).collect()
}

fn shown(key: &Key) -> String {
    match (key.kind == SECRET_KIND, mesh_secret::kind(key)) {
        (true, Some(ca)) => format!("{} CA of mesh {:?}", ca.name(), mesh_secret::mesh_of(key)),
        (true, None) => "the key that signs dataplane tokens".to_owned(),
        _ => key.to_string(),
    }
}
