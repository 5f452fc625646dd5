//! `kumactl export`: prints all resources of one revision in a form that can be applied again.

use kuma_model::{KINDS, Scope};
use serde_json::Value;

use super::past::{failure, read};
use super::{name_of, segment};
use crate::cli::{AtFlag, Export};
use crate::failure::Failure;
use crate::output::{json_text, sorted, yaml};
use crate::session::Session;

const ATTEMPT: &str = "failed to export";

/// Runs `export`. Meshes come first, so that the documents can also be applied one by one.
pub(super) async fn run(session: &Session, arguments: Export) -> Result<String, Failure> {
    let Export { at: AtFlag { at } } = arguments;
    let client = session.api()?;
    let failed = |error| failure(error, ATTEMPT);
    // All lists must be of the same revision.
    let (meshes, revision) = read(&client, &["meshes"], at.as_deref().unwrap_or("latest")).await.map_err(failed)?;
    let mut documents = client.items(meshes)?;
    if let Some(mesh) = &session.only_mesh {
        documents.retain(|document| name_of(document) == mesh);
        if documents.is_empty() {
            return Err(Failure::new(format!("there is no Mesh with name {mesh:?} at revision {revision}")));
        }
    }
    let meshes: Vec<String> = documents.iter().map(|mesh| name_of(mesh).to_owned()).collect();
    let kinds = || KINDS.iter().filter(|kind| kind.scope == Scope::Mesh && !kind.server_made);
    for mesh in &meshes {
        for kind in kinds() {
            let path = ["meshes", segment(mesh)?, kind.api_path];
            let (answer, _) = read(&client, &path, &revision.to_string()).await.map_err(failed)?;
            documents.extend(client.items(answer)?);
        }
    }
    let mut text = format!("# Revision {revision}: {} resources, without secrets.\n", documents.len());
    for document in documents {
        text.push_str("---\n");
        text.push_str(&print(document)?);
    }
    Ok(text)
}

/// A document as YAML. If it contains `{{`, which is a placeholder for `apply`, as JSON with an escape instead: JSON is
/// YAML too.
fn print(document: Value) -> Result<String, Failure> {
    let document = sorted(document);
    let text = yaml(&document).map_err(|error| Failure::new(format!("could not write YAML: {error}")))?;
    match text.contains("{{") {
        // In JSON, `{{` occurs only in strings.
        true => Ok(json_text(&document).replace("{{", "{\\u007b")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::render;

    #[test]
    fn what_is_printed_reads_back_as_it_was() {
        for text in ["plain", "{{ name }}", "{{{x}}}", "{{{{", "a\\{{b}}\"", "é: {{#x}}"] {
            let document = json!({"type": "ProxyTemplate", "conf": {"resource": text}});
            let printed = print(document.clone()).expect("a text");
            let rendered = render(&printed, &Default::default()).expect("no placeholder");
            let read: Value = serde_saphyr::from_str(&rendered).unwrap_or_else(|error| panic!("{error}: {rendered}"));
            assert_eq!(read, document, "{printed}");
        }
    }
}
