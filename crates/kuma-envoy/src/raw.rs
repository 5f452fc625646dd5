//! The raw resources of ProxyTemplates, which replace generated ones.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::ResourceType;
use kuma_mesh::{RawResource, Template};
use kuma_model::{DEFAULT_PROXY, ProxyTemplate, Violations};

use crate::encode::Encoded;
use crate::key::ResourceKey;
use crate::names;

/// The resources that no template can replace, with the reasons.
const NOT_FOR_TEMPLATES: [(ResourceType, &str, &str); 4] = [
    (ResourceType::Cluster, names::ADS_CLUSTER, IN_THE_BOOTSTRAP),
    (ResourceType::Cluster, names::ACCESS_LOG_SINK, IN_THE_BOOTSTRAP),
    (ResourceType::Secret, names::DATAPLANE_TOKEN, IN_THE_BOOTSTRAP),
    (ResourceType::Secret, names::IDENTITY_CERT, "the control plane issues it to each proxy"),
];
const IN_THE_BOOTSTRAP: &str = "the proxy starts with one of its own";

/// The parsed template, and all violations of its resources. Resources with a violation are left out.
pub fn template(spec: &ProxyTemplate) -> (Template, Violations) {
    let mut violations = Violations::default();
    let mut template = Template { selectors: spec.selectors.clone(), default_proxy: false, resources: Vec::new() };
    let Some(conf) = &spec.conf else { return (template, violations) };
    template.default_proxy = conf.imports.iter().any(|import| import == DEFAULT_PROXY);
    let mut given: HashMap<(&str, Arc<str>), usize> = HashMap::new();
    for (index, entry) in conf.resources.iter().enumerate() {
        let mut wrong = |reason: &str| {
            let field = format!("conf.resources[{index}].resource");
            violations.add(field, format!("native Envoy resource is not valid: {reason}"));
        };
        let resource = match envoy_raw::read(&entry.resource) {
            Ok(resource) => resource,
            Err(problems) => {
                problems.iter().for_each(|problem| wrong(&problem.to_string()));
                continue;
            }
        };
        let envoy_raw::Resource { resource_type, name, value, endpoints } = resource;
        let reserved = NOT_FOR_TEMPLATES.iter().find(|(of, reserved, _)| *of == resource_type && *reserved == name);
        if let Some((.., why)) = reserved {
            wrong(&format!("name: {resource_type:?} {name:?} cannot be given: {why}"));
            continue;
        }
        if names_the_token(&value) {
            wrong(&format!(
                "it refers to {:?}: by that a proxy proves itself to its control plane, and it is given to nobody else",
                names::DATAPLANE_TOKEN
            ));
            continue;
        }
        let name: Arc<str> = name.into();
        if let Some(first) = given.insert((resource_type.type_url(), name.clone()), index) {
            wrong(&format!("name: {resource_type:?} {name:?} is given by conf.resources[{first}] already"));
            continue;
        }
        template.resources.push(Arc::new(RawResource {
            type_url: resource_type.type_url(),
            name,
            value: value.as_ref().into(),
            endpoints: endpoints.map(Arc::from),
        }));
    }
    (template, violations)
}

/// Whether a resource contains the name of the secret with the proxy's token, in any field. As the credential of an
/// HTTP filter or of a gRPC service, the token would be sent to any host that the template names.
fn names_the_token(value: &[u8]) -> bool {
    let name = names::DATAPLANE_TOKEN.as_bytes();
    value.windows(name.len()).any(|part| part == name)
}

/// The keys of a template's resources. They follow the generated ones, so that they replace those of the same type and
/// name.
pub(crate) fn keys(template: &Template) -> impl Iterator<Item = ResourceKey> + '_ {
    template.resources.iter().filter_map(|resource| {
        let resource_type = ResourceType::from_type_url(resource.type_url)?;
        Some(ResourceKey::Raw { resource_type, resource: resource.clone() })
    })
}

/// A raw resource as it is served.
pub(crate) fn encoded(resource_type: ResourceType, resource: &RawResource) -> Encoded {
    Encoded {
        resource_type,
        name: resource.name.clone(),
        value: Bytes::copy_from_slice(&resource.value),
        requires: resource.endpoints.as_ref().map(|name| (ResourceType::Endpoint, name.clone())),
        placeholder: false,
    }
}
