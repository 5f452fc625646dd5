//! Raw Envoy configuration for chosen proxies.

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields, element};
use crate::resource::Resource;
use crate::selectors::{self, Allowed};
use crate::tags::Selector;
use crate::text;
use crate::violations::Violations;

/// Name of the one profile there is: what a proxy gets without any ProxyTemplate.
pub const DEFAULT_PROXY: &str = "default-proxy";

/// Replaces what is generated for the proxies that it selects.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct ProxyTemplate {
    /// Which proxies.
    pub selectors: Vec<Selector>,
    /// What they get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conf: Option<ProxyTemplateConf>,
}

/// What the proxies of a [`ProxyTemplate`] get.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct ProxyTemplateConf {
    /// Profiles whose resources they get.
    pub imports: Vec<String>,
    /// Further Envoy resources.
    pub resources: Vec<RawResource>,
}

/// An Envoy resource as the user wrote it.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct RawResource {
    /// Name of the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its version, for people: proxies get versions made from the content.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The resource in YAML or JSON, its type in `@type`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

impl Resource for ProxyTemplate {
    const KIND: &'static str = "ProxyTemplate";
    const API_PATH: &'static str = "proxytemplates";
    const CLI_LIST: &'static str = "proxytemplates";
    const CLI_ONE: &'static str = "proxytemplate";

    fn decode(fields: &mut Fields<'_>) -> ProxyTemplate {
        ProxyTemplate { selectors: fields.get("selectors"), conf: fields.opt("conf") }
    }

    fn validate(&self, violations: &mut Violations) {
        selectors::check_each("selectors", &self.selectors, Allowed::Any, violations);
        let Some(conf) = &self.conf else { return };
        for (index, import) in conf.imports.iter().enumerate() {
            let path = element("conf.imports", index);
            match import.as_str() {
                "" => violations.add(path, "cannot be empty"),
                DEFAULT_PROXY => {}
                _ => violations.add(path, format!("profile not found. Available profiles: {DEFAULT_PROXY}")),
            }
        }
        for (index, resource) in conf.resources.iter().enumerate() {
            resource.validate(&element("conf.resources", index), violations);
        }
    }
}

impl RawResource {
    fn validate(&self, path: &str, violations: &mut Violations) {
        for (field, value) in [("name", &self.name), ("version", &self.version), ("resource", &self.resource)] {
            if value.is_empty() {
                violations.add(format!("{path}.{field}"), "cannot be empty");
            }
        }
        if !self.resource.is_empty()
            && let Err(reason) = check_envoy_resource(&self.resource)
        {
            violations.add(format!("{path}.resource"), format!("native Envoy resource is not valid: {reason}"));
        }
    }
}

/// Checks the outer form alone: which messages Envoy has is not known here.
fn check_envoy_resource(text: &str) -> Result<(), String> {
    let resource = text::parse_one(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = resource else {
        return Err("expected a mapping".into());
    };
    match fields.get("@type") {
        Some(Value::String(url)) if !url.is_empty() => Ok(()),
        Some(Value::String(_)) | None => Err("\"@type\" is missing".into()),
        Some(_) => Err("\"@type\" must be a string".into()),
    }
}

impl Decode for ProxyTemplateConf {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<ProxyTemplateConf> {
        decode::object(value, path, violations, |fields| ProxyTemplateConf {
            imports: fields.get("imports"),
            resources: fields.get("resources"),
        })
    }
}

impl Decode for RawResource {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<RawResource> {
        decode::object(value, path, violations, |fields| RawResource {
            name: fields.get("name"),
            version: fields.get("version"),
            resource: fields.get("resource"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{refused, stored};

    #[test]
    fn selectors_and_conf_are_optional_and_empty_lists_kept() {
        for (yaml, expected) in [
            ("", "{}"),
            ("{selectors: null, conf: null}", "{}"),
            ("{selectors: [], conf: {}}", r#"{"selectors":[],"conf":{}}"#),
            ("conf: {imports: [], resources: []}", r#"{"conf":{"imports":[],"resources":[]}}"#),
            ("conf: {imports: [default-proxy]}", r#"{"conf":{"imports":["default-proxy"]}}"#),
            (
                "selectors: [{match: {service: backend, version: '*'}}]",
                r#"{"selectors":[{"match":{"service":"backend","version":"*"}}]}"#,
            ),
        ] {
            assert_eq!(stored::<ProxyTemplate>(yaml), expected);
        }
    }

    #[test]
    fn envoy_resources_are_kept_as_written() {
        let yaml = r#"
            conf:
              resources:
              - name: raw
                version: v1
                resource: |
                  '@type': type.googleapis.com/envoy.api.v2.Cluster
                  connectTimeout: 5s
              - {name: json, version: v1, resource: '{"@type": "type.googleapis.com/envoy.api.v2.Listener"}'}"#;
        let expected = r#"{"conf":{"resources":[{"name":"raw","version":"v1","resource":"#.to_owned()
            + r#""'@type': type.googleapis.com/envoy.api.v2.Cluster\nconnectTimeout: 5s\n"},"#
            + concat!(
                r#"{"name":"json","version":"v1","resource":"{\"@type\": "#,
                r#"\"type.googleapis.com/envoy.api.v2.Listener\"}"}]}}"#,
            );
        assert_eq!(stored::<ProxyTemplate>(yaml), expected);
    }

    #[test]
    fn selectors_take_any_tags_with_the_service() {
        refused::<ProxyTemplate>(
            "selectors: [{match: {}}, {match: {version: ''}}, {match: {service: '*'}}]",
            r#"
            selectors[0].match: must have at least one tag
            selectors[0].match: mandatory tag "service" is missing
            selectors[1].match["version"]: tag value must be non-empty
            selectors[1].match: mandatory tag "service" is missing"#,
        );
    }

    #[test]
    fn imports_and_resources_are_checked() {
        refused::<ProxyTemplate>(
            r#"
            conf:
              imports: ['', default-proxy, other]
              resources:
              - {}
              - {name: a, version: b, resource: "- 1"}
              - {name: a, version: b, resource: "a: 1"}
              - {name: a, version: b, resource: "'@type': 1"}
              - {name: a, version: b, resource: "a: 1\nb: [\n"}
              - {name: a, version: b, resource: "---\na: 1\n---\nb: 1"}
              - {name: a, version: b, resource: " # nothing"}"#,
            r#"
            conf.imports[0]: cannot be empty
            conf.imports[2]: profile not found. Available profiles: default-proxy
            conf.resources[0].name: cannot be empty
            conf.resources[0].version: cannot be empty
            conf.resources[0].resource: cannot be empty
            conf.resources[1].resource: native Envoy resource is not valid: expected a mapping
            conf.resources[2].resource: native Envoy resource is not valid: "@type" is missing
            conf.resources[3].resource: native Envoy resource is not valid: "@type" must be a string
            conf.resources[4].resource: native Envoy resource is not valid: line 2, column 4: unclosed bracket '['
            conf.resources[5].resource: native Envoy resource is not valid: expected one document, found 2
            conf.resources[6].resource: native Envoy resource is not valid: there is no document"#,
        );
    }
}
