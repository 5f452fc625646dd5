//! The permissions of an inbound as RBAC filters. The TLS handshake already refuses clients without permission
//! (`secret.rs`); RBAC checks again, and counts what is allowed and denied.

use envoy_api::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_api::envoy::config::rbac::v3::{self, Permission, Principal, permission, rbac};
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac;

use crate::key::{Peer, Policy};
use crate::{names, tls};

/// The RBAC filter of an inbound. Without a policy it denies all.
pub(crate) fn filter(inbound: &str, policies: &[Policy]) -> Rbac {
    Rbac { stat_prefix: format!("{}.", names::stat_prefix(inbound)), rules: Some(rules(policies)), ..Rbac::default() }
}

/// Name of the policy for requests on connections that were opened before mTLS was enabled. No permission can have it.
const BEFORE_MTLS: &str = "kuma:before-mtls";

/// The RBAC filter for requests, so that a change of permissions also holds on open connections. `None` enforces
/// nothing.
pub(crate) fn of_requests(policies: Option<&[Policy]>) -> HttpRbac {
    let rules = policies.map(|policies| {
        let mut rules = rules(policies);
        rules.policies.insert(BEFORE_MTLS.to_owned(), from_before_mtls());
        rules
    });
    HttpRbac { rules, ..HttpRbac::default() }
}

fn rules(policies: &[Policy]) -> v3::Rbac {
    let policies = policies
        .iter()
        // Envoy refuses a policy without principals, and with it the whole filter.
        .filter(|policy| !policy.peers.is_empty())
        .map(|policy| (policy.name.to_string(), permits(&policy.peers)))
        .collect();
    v3::Rbac { action: rbac::Action::Allow as i32, policies, ..v3::Rbac::default() }
}

fn permits(peers: &[Peer]) -> v3::Policy {
    policy(peers.iter().map(principal).collect())
}

/// Permits requests on plain-text connections. When mTLS is enabled, this filter takes effect at once, also on
/// connections that are already open and cannot carry an identity. Envoy drains those connections and accepts no new
/// ones, since the listener now requires a certificate. Until they end, their requests are permitted as before.
fn from_before_mtls() -> v3::Policy {
    let with_identity = Principal { identifier: Some(Identifier::Authenticated(Authenticated::default())) };
    policy(vec![Principal { identifier: Some(Identifier::NotId(Box::new(with_identity))) }])
}

fn policy(principals: Vec<Principal>) -> v3::Policy {
    v3::Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals,
        ..v3::Policy::default()
    }
}

/// The principal of a peer. "Every service of the mesh" is a prefix of the SPIFFE id rather than `any`: another mesh
/// may have the same provided CA, and its services are not permitted.
fn principal(peer: &Peer) -> Principal {
    Principal {
        identifier: Some(Identifier::Authenticated(Authenticated { principal_name: Some(tls::matcher(peer)) })),
    }
}
