//! Issues certificates: decides whether a proxy keeps the one that it has or gets a new one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::{IdentityVersion, LeafRequest, OldRoot, Root};
use kuma_envoy::names::IDENTITY_CERT;
use kuma_mesh::MeshDataplane;
use kuma_xds::Resource;

/// The certificate of a proxy.
pub(crate) struct Identity {
    pub(crate) resource: Arc<Resource>,
    /// A hash of its inputs: root, mesh and services.
    inputs: u64,
    /// Whether it was signed by the current root rather than by an old one that is still trusted.
    pub(crate) current: bool,
    /// When the next one is due.
    pub(crate) renew_at: SystemTime,
}

impl Identity {
    /// Whether its inputs are still those of this CA and this Dataplane, whose services may have changed.
    pub(crate) fn fits(&self, root: &Root, mesh: &str, dataplane: &MeshDataplane) -> bool {
        self.inputs == root.identity_inputs(mesh, &services(dataplane))
    }
}

fn services(dataplane: &MeshDataplane) -> BTreeSet<&str> {
    dataplane.services.iter().map(|service| service.as_ref()).collect()
}

/// The inputs of a certificate.
pub(crate) struct Issuing<'a> {
    pub(crate) root: &'a Root,
    /// The previous root, if it is still trusted.
    pub(crate) old: Option<&'a OldRoot>,
    /// The certificates of the old root are replaced over this time. Replacing all at once would delay everything else.
    pub(crate) spread: Duration,
    pub(crate) mesh: &'a str,
    pub(crate) validity: Duration,
    pub(crate) now: SystemTime,
    /// A random number from 0 to 1 that distributes renewals over time, for proxies that have connected together.
    pub(crate) jitter: f64,
}

impl Issuing<'_> {
    /// The identity that a proxy should have: its current one if that is still good, otherwise a new one.
    ///
    /// `reported` is the version of a certificate that the proxy has from before the start of this process. Leaf keys
    /// are never stored, so such a certificate can be recognised by its version but not sent again.
    pub(crate) fn identity(
        &self,
        dataplane: &MeshDataplane,
        current: Option<Identity>,
        reported: Option<&str>,
    ) -> Result<Identity, kuma_ca::CaError> {
        let services = services(dataplane);
        let inputs = self.root.identity_inputs(self.mesh, &services);
        let old = self.old.map(|old| old.identity_inputs(self.mesh, &services));
        if let Some(current) = current
            && (current.inputs == inputs || Some(current.inputs) == old)
            && self.now < current.renew_at
        {
            return Ok(self.kept(current, inputs));
        }
        if let Some(version) = reported.and_then(|text| text.parse::<IdentityVersion>().ok())
            && let Some(inputs_of_it) = [Some(inputs), old]
                .into_iter()
                .flatten()
                .find(|inputs| version.still_good(*inputs, self.validity, self.now))
        {
            let not_after = version.not_after();
            let identity = Identity {
                resource: Arc::new(Resource::held(envoy_api::ResourceType::Secret, IDENTITY_CERT, version.to_string())),
                inputs: inputs_of_it,
                current: true,
                renew_at: kuma_ca::renewal_time(not_after - self.validity, not_after, self.jitter),
            };
            return Ok(self.kept(identity, inputs));
        }
        let leaf = self.root.issue(&LeafRequest {
            mesh: self.mesh,
            services: &services,
            validity: self.validity,
            now: self.now,
        })?;
        let version = IdentityVersion::new(inputs, leaf.not_after);
        let encoded = kuma_envoy::identity_secret(IDENTITY_CERT, &leaf.chain_pem, leaf.key_pem.expose());
        let resource =
            Resource::with_version(envoy_api::ResourceType::Secret, IDENTITY_CERT, version.to_string(), &encoded.value);
        let renew_at = leaf.renewal_time(self.jitter);
        Ok(Identity { resource: Arc::new(resource), inputs, current: true, renew_at })
    }

    /// Keeps a certificate that is still good, and sets the time of its renewal.
    fn kept(&self, mut identity: Identity, inputs: u64) -> Identity {
        identity.current = identity.inputs == inputs;
        if !identity.current {
            identity.renew_at = identity.renew_at.min(self.now + self.spread.mul_f64(self.jitter));
        }
        identity
    }
}
