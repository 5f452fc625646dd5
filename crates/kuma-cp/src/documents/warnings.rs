//! What whoever writes documents should know although nothing refuses them: a Mesh that turns mTLS off, and policies
//! that have no effect, because no backend of the mesh is the one that they name.
//!
//! Nothing refuses these, because a policy may be there before the Mesh gets its backend, and be changed after the Mesh
//! loses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::{Key, Mesh, Resource, TrafficLog, TrafficTrace, decode_spec};
use kuma_store::{Store, StoreError, Write};
use serde_json::Value;

use super::prepare::Step;

/// Most warnings of one request.
const MOST: usize = 20;

/// What whoever writes documents should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The mesh that it is about.
    pub mesh: Arc<str>,
    /// One sentence without a full stop.
    pub text: String,
}

/// What to tell of documents that are written by `steps`.
///
/// # Errors
/// What the store does not answer.
pub(super) async fn warnings(store: &dyn Store, steps: &[Step]) -> Result<Vec<Warning>, StoreError> {
    let after = After::new(store, steps);
    let mut warnings = Vec::new();
    for (key, _) in after.written.iter().filter(|(_, spec)| spec.is_some()) {
        // Where the Mesh is written as well, it is told there.
        let with_mesh = after.written.contains_key(&Key::mesh(&key.mesh));
        let mut texts = Vec::new();
        match key.kind {
            Mesh::KIND => {
                texts.extend(after.mtls_turned_off(key).await?);
                texts.extend(after.of_all(&key.mesh, log_without_backend).await?);
                texts.extend(after.of_all(&key.mesh, trace_without_backend).await?);
            }
            TrafficLog::KIND if !with_mesh => texts.extend(after.of_one(key, log_without_backend).await?),
            TrafficTrace::KIND if !with_mesh => texts.extend(after.of_one(key, trace_without_backend).await?),
            _ => {}
        }
        warnings.extend(texts.into_iter().map(|text| Warning { mesh: key.mesh.clone(), text }));
    }
    if let Some(Warning { mesh, .. }) = warnings.get(MOST) {
        let text = format!("{} more policies have no effect for the same reason", warnings.len() - MOST);
        let last = Warning { mesh: mesh.clone(), text };
        warnings.truncate(MOST);
        warnings.push(last);
    }
    Ok(warnings)
}

/// The documents as they are after a request.
struct After<'a> {
    store: &'a dyn Store,
    /// Those that it writes; `None` for those that it deletes.
    written: BTreeMap<&'a Key, Option<&'a Value>>,
}

/// Says what is wrong with a policy of this name, if anything.
type Check<R> = fn(&Mesh, &str, &R) -> Option<String>;

impl<'a> After<'a> {
    fn new(store: &'a dyn Store, steps: &'a [Step]) -> After<'a> {
        let written = steps.iter().map(|step| match &step.write {
            Write::Create(document) | Write::Put(document) | Write::Update { document, .. } => {
                (&step.key, Some(&document.spec))
            }
            Write::Delete { .. } | Write::DeleteMesh { .. } => (&step.key, None),
        });
        After { store, written: written.collect() }
    }

    /// What to say of a Mesh that is replaced by one without mTLS. Its writer may have left the field out, to mean that
    /// it stays as it is.
    async fn mtls_turned_off(&self, key: &Key) -> Result<Option<String>, StoreError> {
        let before = self.store.get(key).await?.and_then(|stored| stored.decode::<Mesh>().ok());
        let was_on = before.is_some_and(|mesh| mesh.mtls_enabled());
        let is_on = self.get::<Mesh>(key).await?.is_some_and(|mesh| mesh.mtls_enabled());
        Ok((was_on && !is_on).then(|| {
            format!(
                "Mesh {:?}: this turns mTLS off. A document replaces the whole one before it; to keep mTLS, it needs \
                 mtls.enabled: true",
                key.name
            )
        }))
    }

    async fn of_one<R: Resource>(&self, key: &Key, check: Check<R>) -> Result<Option<String>, StoreError> {
        let (policy, mesh) = (self.get::<R>(key).await?, self.get::<Mesh>(&Key::mesh(&key.mesh)).await?);
        Ok(policy.zip(mesh).and_then(|(policy, mesh)| check(&mesh, &key.name, &policy)))
    }

    /// What is wrong with the policies of a mesh.
    async fn of_all<R: Resource>(&self, mesh: &str, check: Check<R>) -> Result<Vec<String>, StoreError> {
        let Some(the_mesh) = self.get::<Mesh>(&Key::mesh(mesh)).await? else { return Ok(Vec::new()) };
        let mut policies: BTreeMap<Arc<str>, R> = BTreeMap::new();
        for stored in self.store.list(R::KIND, Some(mesh)).await? {
            if !self.written.contains_key(&stored.key) {
                policies.extend(stored.decode().ok().map(|policy| (stored.key.name.clone(), policy)));
            }
        }
        for (key, spec) in self.written.iter().filter(|(key, _)| key.kind == R::KIND && *key.mesh == *mesh) {
            policies.extend(spec.and_then(|spec| decode_spec(spec).ok()).map(|policy| (key.name.clone(), policy)));
        }
        Ok(policies.iter().filter_map(|(name, policy)| check(&the_mesh, name, policy)).collect())
    }

    async fn get<R: Resource>(&self, key: &Key) -> Result<Option<R>, StoreError> {
        Ok(match self.written.get(key) {
            Some(spec) => spec.and_then(|spec| decode_spec(spec).ok()),
            None => self.store.get(key).await?.and_then(|stored| stored.decode().ok()),
        })
    }
}

/// What to say of a log that goes nowhere.
fn log_without_backend(mesh: &Mesh, name: &str, log: &TrafficLog) -> Option<String> {
    let named = log.conf.as_ref().map_or("", |conf| &conf.backend);
    let missing = missing("log", "logging.defaultBackend", named);
    mesh.log_backend(log).is_none().then(|| format!("TrafficLog {name:?} logs nothing: {missing}"))
}

/// What to say of a trace that goes nowhere.
fn trace_without_backend(mesh: &Mesh, name: &str, trace: &TrafficTrace) -> Option<String> {
    let named = trace.conf.as_ref().map_or("", |conf| &conf.backend);
    let missing = missing("trace", "tracing.defaultBackend", named);
    mesh.trace_backend(trace).is_none().then(|| format!("TrafficTrace {name:?} traces nothing: {missing}"))
}

fn missing(what: &str, default: &str, named: &str) -> String {
    match named {
        "" => format!("it names no backend and the Mesh has no {default}"),
        named => format!("the Mesh has no {what} backend {named:?}"),
    }
}

#[cfg(test)]
mod tests {
    use kuma_model::{decode_spec, text};

    use super::*;

    fn spec<R: Resource>(yaml: &str) -> R {
        decode_spec(&text::parse_one(yaml).expect("YAML")).expect("a spec")
    }

    const BACKENDS: &str = "
        logging: {backends: [{name: file, file: {path: /log}}]}
        tracing: {defaultBackend: zipkin, backends: [{name: zipkin, zipkin: {url: 'http://zipkin:9411'}}]}";

    #[test]
    fn a_log_without_its_backend_is_told() {
        for (mesh, conf, expected) in [
            (BACKENDS, "{backend: file}", None),
            (BACKENDS, "{backend: fiel}", Some(r#"TrafficLog "all" logs nothing: the Mesh has no log backend "fiel""#)),
            (
                BACKENDS,
                "{}",
                Some(
                    r#"TrafficLog "all" logs nothing: it names no backend and the Mesh has no logging.defaultBackend"#,
                ),
            ),
            ("{}", "{backend: file}", Some(r#"TrafficLog "all" logs nothing: the Mesh has no log backend "file""#)),
        ] {
            let found = log_without_backend(&spec(mesh), "all", &spec(&format!("conf: {conf}")));
            assert_eq!(found.as_deref(), expected, "{conf} in {mesh}");
        }
    }

    #[test]
    fn a_trace_without_its_backend_is_told() {
        for (mesh, conf, expected) in [
            (BACKENDS, "{backend: zipkin}", None),
            (BACKENDS, "null", None),
            (
                BACKENDS,
                "{backend: \"a\\nb\"}",
                Some(r#"TrafficTrace "all" traces nothing: the Mesh has no trace backend "a\nb""#),
            ),
            (
                "{}",
                "{}",
                Some(concat!(
                    r#"TrafficTrace "all" traces nothing: it names no backend and the Mesh has no "#,
                    r#"tracing.defaultBackend"#,
                )),
            ),
        ] {
            let found = trace_without_backend(&spec(mesh), "all", &spec(&format!("conf: {conf}")));
            assert_eq!(found.as_deref(), expected, "{conf} in {mesh}");
        }
    }
}
