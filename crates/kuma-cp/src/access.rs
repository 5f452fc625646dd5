//! Who may do what: every route and method of every port, and the proof that it needs.
//!
//! What is not in [`RULES`] is not served. A test walks the table with no, bad, foreign, expired and right credentials,
//! and holds it against the lists of the servers themselves.

use http::Method;

/// A listening port of the control plane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Port {
    /// 5676
    Mads,
    /// 5677
    Sds,
    /// 5678
    Xds,
    /// 5679, in plain text
    Admin,
    /// 5679 or another, over TLS
    PublicAdmin,
    /// 5680
    Diagnostics,
    /// 5681
    Api,
    /// 5682
    Bootstrap,
}

/// What somebody has to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// That it comes from this machine, directly, and from no page of another site (see [`crate::http::locality`]).
    ThisMachine,
    /// The key to one of the admin server's client certificates.
    ClientCertificate,
    /// Over TLS, the token of the Dataplane that the first message names.
    Token,
    /// The same, where the mesh has mTLS. A token that is shown has to be good everywhere.
    TokenUnderMtls,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// On this port,
    pub port: Port,
    /// with these methods (gRPC is POST),
    pub methods: &'static [Method],
    /// at this path, in which `{…}` stands for one segment,
    pub path: &'static str,
    /// this is needed.
    pub proof: Proof,
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const WRITE: &[Method] = &[Method::PUT, Method::DELETE];
const POST: &[Method] = &[Method::POST];
const READ_OR_POST: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
const DELETE: &[Method] = &[Method::DELETE];

const fn rule(port: Port, methods: &'static [Method], path: &'static str, proof: Proof) -> Rule {
    Rule { port, methods, path, proof }
}

/// Every route. `{global}` is the collection of a kind that is in no mesh, `{kind}` that of one that is.
pub const RULES: &[Rule] = &[
    rule(
        Port::Mads,
        POST,
        "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/StreamMonitoringAssignments",
        Proof::Nothing,
    ),
    rule(
        Port::Mads,
        POST,
        "/kuma.observability.v1alpha1.MonitoringAssignmentDiscoveryService/FetchMonitoringAssignments",
        Proof::Nothing,
    ),
    rule(Port::Mads, POST, "/v3/discovery:monitoringassignments", Proof::Nothing),
    rule(Port::Sds, POST, "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", Proof::Token),
    rule(Port::Sds, POST, "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", Proof::Token),
    rule(
        Port::Xds,
        POST,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        Proof::TokenUnderMtls,
    ),
    rule(
        Port::Xds,
        POST,
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        Proof::TokenUnderMtls,
    ),
    rule(Port::Xds, POST, "/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report", Proof::TokenUnderMtls),
    rule(Port::Admin, POST, "/tokens", Proof::ThisMachine),
    rule(Port::Admin, READ_OR_POST, "/meshes/{mesh}/ca/provided/certificates", Proof::ThisMachine),
    rule(Port::Admin, DELETE, "/meshes/{mesh}/ca/provided/certificates/{name}", Proof::ThisMachine),
    rule(Port::Admin, READ_OR_POST, "/meshes/{mesh}/ca/provided/rotation", Proof::ThisMachine),
    rule(Port::Admin, READ, "/meshes/{mesh}/ca/builtin/certificates", Proof::ThisMachine),
    rule(Port::Admin, DELETE, "/meshes/{mesh}/ca/builtin/certificates/{name}", Proof::ThisMachine),
    rule(Port::Admin, READ_OR_POST, "/meshes/{mesh}/ca/builtin/rotation", Proof::ThisMachine),
    rule(Port::PublicAdmin, POST, "/tokens", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ_OR_POST, "/meshes/{mesh}/ca/provided/certificates", Proof::ClientCertificate),
    rule(Port::PublicAdmin, DELETE, "/meshes/{mesh}/ca/provided/certificates/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ_OR_POST, "/meshes/{mesh}/ca/provided/rotation", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/meshes/{mesh}/ca/builtin/certificates", Proof::ClientCertificate),
    rule(Port::PublicAdmin, DELETE, "/meshes/{mesh}/ca/builtin/certificates/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ_OR_POST, "/meshes/{mesh}/ca/builtin/rotation", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/catalog", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/config", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/openapi.json", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/{global}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/{global}/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, WRITE, "/{global}/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/meshes/{mesh}/{kind}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/meshes/{mesh}/{kind}/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, WRITE, "/meshes/{mesh}/{kind}/{name}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/changes", Proof::ClientCertificate),
    rule(Port::PublicAdmin, POST, "/changes", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/changes/{revision}", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/store", Proof::ClientCertificate),
    rule(Port::PublicAdmin, POST, "/store/accept", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/history", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/diff", Proof::ClientCertificate),
    rule(Port::PublicAdmin, POST, "/rollback", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/meshes/{mesh}/dataplanes+insights", Proof::ClientCertificate),
    rule(Port::PublicAdmin, READ, "/meshes/{mesh}/dataplanes+insights/{name}", Proof::ClientCertificate),
    rule(Port::Diagnostics, READ, "/healthy", Proof::Nothing),
    rule(Port::Diagnostics, READ, "/ready", Proof::Nothing),
    rule(Port::Diagnostics, READ, "/metrics", Proof::Nothing),
    rule(Port::Api, READ, "/", Proof::Nothing),
    rule(Port::Api, READ, "/catalog", Proof::Nothing),
    rule(Port::Api, READ, "/config", Proof::Nothing),
    rule(Port::Api, READ, "/openapi.json", Proof::Nothing),
    rule(Port::Api, READ, "/{global}", Proof::Nothing),
    rule(Port::Api, READ, "/{global}/{name}", Proof::Nothing),
    rule(Port::Api, WRITE, "/{global}/{name}", Proof::ThisMachine),
    rule(Port::Api, READ, "/meshes/{mesh}/{kind}", Proof::Nothing),
    rule(Port::Api, READ, "/meshes/{mesh}/{kind}/{name}", Proof::Nothing),
    rule(Port::Api, WRITE, "/meshes/{mesh}/{kind}/{name}", Proof::ThisMachine),
    rule(Port::Api, READ, "/changes", Proof::Nothing),
    rule(Port::Api, POST, "/changes", Proof::ThisMachine),
    rule(Port::Api, READ, "/changes/{revision}", Proof::Nothing),
    rule(Port::Api, READ, "/store", Proof::Nothing),
    rule(Port::Api, POST, "/store/accept", Proof::ThisMachine),
    rule(Port::Api, READ, "/history", Proof::Nothing),
    rule(Port::Api, READ, "/diff", Proof::Nothing),
    rule(Port::Api, POST, "/rollback", Proof::ThisMachine),
    rule(Port::Api, READ, "/meshes/{mesh}/dataplanes+insights", Proof::Nothing),
    rule(Port::Api, READ, "/meshes/{mesh}/dataplanes+insights/{name}", Proof::Nothing),
    rule(Port::Bootstrap, POST, "/bootstrap", Proof::Nothing),
];

/// What a request needs; `None`: there is no such thing.
pub fn proof(port: Port, method: &Method, path: &str) -> Option<Proof> {
    let rule = RULES.iter().find(|rule| rule.port == port && rule.path == path && rule.methods.contains(method))?;
    Some(rule.proof)
}
