//! What the permissions say of an inbound. The handshake has refused everyone else by then (`secret.rs`); this keeps
//! the count of what is allowed and denied, and is a second lock.

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

/// The policy for requests of connections that are older than mTLS. A permission cannot have this name.
const BEFORE_MTLS: &str = "kuma:before-mtls";

/// The same for each request, so that it also ends what an open connection may do. Without policies nothing is
/// enforced.
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

/// This filter is there at once when mTLS is switched on, also for connections in plain text, which cannot carry an
/// identity. Those are drained from then on, and none is accepted any more: the listener with TLS requires a
/// certificate. Until they end they do what they did.
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

/// A whole mesh is a prefix, not `any`: another mesh with the same provided CA is a stranger.
fn principal(peer: &Peer) -> Principal {
    Principal {
        identifier: Some(Identifier::Authenticated(Authenticated { principal_name: Some(tls::matcher(peer)) })),
    }
}
