//! What whoever writes a document should know although nothing refuses it: policies that have no effect, because no backend of the
//! mesh is the one that they name.
//!
//! Nothing refuses it, because a policy may be there before the Mesh gets its backend, and be changed after the Mesh loses it.

use axum::response::Response;
use http::HeaderValue;
use http::header::WARNING;
use kuma_model::{Key, Mesh, Resource, TrafficLog, TrafficTrace};

use super::Api;

/// Most warnings of one answer.
const MOST: usize = 20;

/// The answer to a write with its warnings, each in a header of its own (RFC 7234, 5.5: code 299, who warns, the text in quotes).
pub(super) fn attach(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        // Names are quoted as in Rust, without control characters, so this does not fail.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 kuma-cp \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

impl Api {
    /// What to tell of a document that was just written. It is logged as well. Where the store does not answer there is nothing to
    /// tell: what was written is written.
    pub(super) async fn warnings(&self, kind: &str, mesh: &str, name: &str) -> Vec<String> {
        let found = match kind {
            Mesh::KIND => self.of_mesh(mesh).await,
            TrafficLog::KIND => self.of_one(mesh, name, log_without_backend).await,
            TrafficTrace::KIND => self.of_one(mesh, name, trace_without_backend).await,
            _ => None,
        };
        let mut warnings = found.unwrap_or_default();
        for warning in &warnings {
            tracing::warn!(mesh, "{warning}");
        }
        if warnings.len() > MOST {
            let more = warnings.len() - MOST;
            warnings.truncate(MOST);
            warnings.push(format!("{more} more policies have no effect for the same reason"));
        }
        warnings
    }

    async fn of_mesh(&self, name: &str) -> Option<Vec<String>> {
        let mesh = self.written::<Mesh>(name, name).await?;
        let mut warnings = Vec::new();
        for stored in self.store.list(TrafficLog::KIND, Some(name)).await.ok()? {
            let log = stored.decode().ok();
            warnings.extend(log.and_then(|log| log_without_backend(&mesh, &stored.key.name, &log)));
        }
        for stored in self.store.list(TrafficTrace::KIND, Some(name)).await.ok()? {
            let trace = stored.decode().ok();
            warnings.extend(trace.and_then(|trace| trace_without_backend(&mesh, &stored.key.name, &trace)));
        }
        Some(warnings)
    }

    async fn of_one<R: Resource>(
        &self,
        mesh: &str,
        name: &str,
        warning: fn(&Mesh, &str, &R) -> Option<String>,
    ) -> Option<Vec<String>> {
        let policy = self.written::<R>(mesh, name).await?;
        let mesh = self.written::<Mesh>(mesh, mesh).await?;
        Some(warning(&mesh, name, &policy).into_iter().collect())
    }

    async fn written<R: Resource>(&self, mesh: &str, name: &str) -> Option<R> {
        self.store.get(&Key::new(R::KIND, mesh, name)).await.ok()??.decode().ok()
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
                Some(
                    r#"TrafficTrace "all" traces nothing: it names no backend and the Mesh has no tracing.defaultBackend"#,
                ),
            ),
        ] {
            let found = trace_without_backend(&spec(mesh), "all", &spec(&format!("conf: {conf}")));
            assert_eq!(found.as_deref(), expected, "{conf} in {mesh}");
        }
    }

    #[test]
    fn each_warning_is_a_header() {
        let response = attach(Response::default(), &[r#"of "a\nb""#.to_owned(), "of é".to_owned()]);
        let headers: Vec<&[u8]> = response.headers().get_all(WARNING).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(headers, [br#"299 kuma-cp "of \"a\\nb\"""#.as_slice(), "299 kuma-cp \"of é\"".as_bytes()]);
    }
}
