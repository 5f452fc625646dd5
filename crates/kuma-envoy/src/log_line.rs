//! The format of an access log: that of the mesh's backend, with the placeholders filled in that only the control plane
//! knows.

use std::sync::Arc;

use kuma_mesh::{MeshDataplane, MeshSnapshot};
use kuma_model::LogSink;
use kuma_model::log_format::{self, Part, Placeholder};

use serde_json::{Map, Value};

use crate::key::{AccessLog, LogFormat};

/// The access log of a proxy's connections to a service, or of its requests with HTTP, if there is one.
pub(crate) fn access_log(
    snapshot: &MeshSnapshot,
    dataplane: &MeshDataplane,
    service: &str,
    http: bool,
) -> Option<AccessLog> {
    let backend = snapshot.log_backend(dataplane, service)?;
    let format = match &backend.json {
        Some(fields) => LogFormat::Json(object(fields, dataplane, service)?.to_string().into()),
        None => {
            let default = if http { log_format::DEFAULT_HTTP } else { log_format::DEFAULT };
            let written = if backend.format.is_empty() { default } else { &backend.format };
            LogFormat::Text(line(written, dataplane, service)?)
        }
    };
    match backend.sink.as_ref()? {
        LogSink::File { path } => Some(AccessLog::File { path: path.as_str().into(), format, attempt: 0 }),
        LogSink::Tcp { address } => Some(AccessLog::Tcp { address: address.as_str().into(), format }),
    }
}

/// The format as Envoy reads it, with the end of the line.
fn line(format: &str, dataplane: &MeshDataplane, service: &str) -> Option<Arc<str>> {
    let mut line = filled(format, dataplane, service)?;
    if !line.ends_with('\n') {
        line.push('\n');
    }
    Some(line.into())
}

/// The fields of a format in JSON, each as Envoy reads it.
fn object(fields: &Map<String, Value>, dataplane: &MeshDataplane, service: &str) -> Option<Value> {
    let read = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(format) => Value::String(filled(format, dataplane, service)?),
            Value::Object(fields) => object(fields, dataplane, service)?,
            _ => return None,
        };
        Some((name.clone(), value))
    };
    fields.iter().map(read).collect::<Option<Map<String, Value>>>().map(Value::Object)
}

/// A format with Kuma's placeholders filled in. `None` if it does not parse: Envoy would refuse the whole outbound for
/// it.
fn filled(format: &str, dataplane: &MeshDataplane, service: &str) -> Option<String> {
    let mut line = String::with_capacity(2 * format.len());
    for part in log_format::parse(format).ok()? {
        match part {
            Part::Envoys(text) => line.push_str(text),
            Part::Ours(placeholder) => line.push_str(&fill(placeholder, dataplane, service)),
        }
    }
    Some(line)
}

/// The value of a placeholder. Services and addresses contain no `%`, so Envoy finds no operator in it.
fn fill(placeholder: Placeholder, dataplane: &MeshDataplane, service: &str) -> String {
    let source = dataplane.spec.identifying_service();
    // The address of a gateway without an inbound is not known.
    let address = || {
        let inbound = dataplane.inbounds.iter().find(|inbound| inbound.service.as_ref() == source);
        inbound.map(|inbound| inbound.advertised.to_string()).unwrap_or_default()
    };
    match placeholder {
        Placeholder::SourceAddress => match address() {
            address if address.contains(':') => format!("[{address}]:0"),
            address => format!("{address}:0"),
        },
        Placeholder::SourceAddressWithoutPort => address(),
        Placeholder::SourceService => source.to_owned(),
        Placeholder::DestinationService => service.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kuma_model::{Dataplane, Mesh, Resource, TrafficLog, decode_spec, text};

    use super::*;

    fn spec<R: Resource>(yaml: &str) -> R {
        decode_spec(&text::parse_documents(yaml).expect("YAML")[0]).expect("a spec")
    }

    /// The log of a proxy to `redis` by a backend.
    fn log_of(dataplane: &str, backend: &str) -> Option<AccessLog> {
        let mut snapshot = MeshSnapshot::new("default", false);
        let mesh = format!("logging: {{defaultBackend: it, backends: [{{name: it, {backend}}}]}}");
        snapshot.set_mesh(Some(Arc::new(spec::<Mesh>(&mesh))));
        snapshot.set_dataplane(&Arc::from("web-1"), Some(spec::<Dataplane>(dataplane)));
        let policy = "sources: [{match: {service: '*'}}]\ndestinations: [{match: {service: redis}}]";
        snapshot.set_log(&Arc::from("all"), Some(Arc::new(spec::<TrafficLog>(policy))));
        let dataplane = snapshot.dataplane("web-1").expect("there");
        access_log(&snapshot, dataplane, "redis", false)
    }

    const ALL: &str = "format: '%KUMA_SOURCE_ADDRESS% %KUMA_SOURCE_ADDRESS_WITHOUT_PORT% %KUMA_SOURCE_SERVICE% \
        %KUMA_DOWNSTREAM_CLUSTER% %KUMA_DESTINATION_SERVICE% %DURATION% 100%%', tcp: {address: 'a:1'}";

    fn line_of(dataplane: &str) -> String {
        match log_of(dataplane, ALL) {
            Some(AccessLog::Tcp { address, format: LogFormat::Text(line) }) if &*address == "a:1" => line.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_envoy_does_not_know_is_filled_in() {
        // The service that identifies a proxy is the first by name, whatever the order of its inbounds.
        let two = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}, {interface: \
            '10.0.0.2:81:8081', tags: {service: api}}]}";
        assert_eq!(line_of(two), "10.0.0.2:0 10.0.0.2 api api redis %DURATION% 100%%\n");
        let gateway = "networking: {gateway: {tags: {service: edge}}}";
        assert_eq!(line_of(gateway), ":0  edge edge redis %DURATION% 100%%\n");
        let ipv6 = "networking: {inbound: [{interface: '[fd00::1]:80:8080', tags: {service: web}}]}";
        assert_eq!(line_of(ipv6), "[fd00::1]:0 fd00::1 web web redis %DURATION% 100%%\n");
    }

    #[test]
    fn a_backend_without_a_format_has_the_default() {
        let web = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}]}";
        let expected = AccessLog::File {
            path: "/log".into(),
            format: LogFormat::Text(
                "[%START_TIME%] 10.0.0.1:0(web)->%UPSTREAM_HOST%(redis) took %DURATION%ms, sent \
                %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes\n"
                    .into(),
            ),
            attempt: 0,
        };
        assert_eq!(log_of(web, "file: {path: /log}"), Some(expected));
        assert_eq!(log_of(web, "format: x"), None, "a backend that leads nowhere");
    }

    #[test]
    fn a_line_ends_once() {
        let web = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}]}";
        let Some(AccessLog::File { format, .. }) = log_of(web, "format: \"x\\n\", file: {path: /log}") else {
            panic!("no log")
        };
        assert_eq!(format, LogFormat::Text("x\n".into()));
    }

    #[test]
    fn json_has_its_fields_filled_in() {
        let web = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}]}";
        let json =
            "json: {z: '%KUMA_SOURCE_SERVICE% %DURATION%', a: {b: '%KUMA_DESTINATION_SERVICE%'}}, file: {path: /log}";
        let Some(AccessLog::File { format, .. }) = log_of(web, json) else { panic!("no log") };
        assert_eq!(format, LogFormat::Json(r#"{"z":"web %DURATION%","a":{"b":"redis"}}"#.into()));
    }
}
