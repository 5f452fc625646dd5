//! The messages that are served.

use bytes::Bytes;
use envoy_api::ResourceType;

use crate::descriptors::TYPE_URL_PREFIX;
use crate::tree::{Field, Message, Value};
use crate::{Problem, encode as wire};

/// A resource, ready to be served.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Resource {
    /// What it is: anything but an extension config.
    pub resource_type: ResourceType,
    /// The name that Envoy knows it by.
    pub name: String,
    /// The v3 message, encoded; the same each time it is read from the same text.
    pub value: Bytes,
    /// The name of the endpoints that it takes from the control plane, if it is a cluster that does (EDS over ADS).
    pub endpoints: Option<String>,
}

/// The field that holds the name of a resource of this type.
fn name_field(resource_type: ResourceType) -> &'static str {
    if resource_type == ResourceType::Endpoint { "cluster_name" } else { "name" }
}

/// What a message is served as, by its full name.
pub(crate) fn served_as(message: &str) -> Option<ResourceType> {
    let resource_type = ResourceType::from_type_url(&format!("{TYPE_URL_PREFIX}{message}"))?;
    (resource_type != ResourceType::ExtensionConfig).then_some(resource_type)
}

/// What a user may give, in words.
pub(crate) const SERVED: &str = "only Listener, Cluster, ClusterLoadAssignment, RouteConfiguration and Secret are";

/// Encodes a message that is served.
pub(crate) fn encode(message: &Message) -> Result<Resource, Vec<Problem>> {
    let Some(resource_type) = served_as(message.descriptor.full_name()) else {
        return Err(crate::whole(format!("a {} is not served", message.descriptor.name())));
    };
    let field = name_field(resource_type);
    let name = message.text(field);
    if name.is_empty() {
        return Err(vec![Problem { path: field.to_owned(), reason: "cannot be empty".to_owned() }]);
    }
    Ok(Resource {
        resource_type,
        name: name.to_owned(),
        endpoints: (resource_type == ResourceType::Cluster).then(|| endpoints_by_ads(message)).flatten(),
        value: wire::message(message).into(),
    })
}

/// The name of the endpoints of a cluster of type EDS whose source is the control plane's own stream.
fn endpoints_by_ads(cluster: &Message) -> Option<String> {
    const EDS: i32 = 3;
    let Some(Field::One(Value::Enum(EDS))) = cluster.field("type") else { return None };
    let eds = cluster.message("eds_cluster_config")?;
    eds.message("eds_config")?.message("ads")?;
    let name = match eds.text("service_name") {
        "" => cluster.text("name"),
        name => name,
    };
    Some(name.to_owned())
}
