//! Who gets a certificate, when it is made anew, and when a proxy keeps the one it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::{IdentityVersion, LeafRequest, OldRoot, Root};
use kuma_envoy::names::IDENTITY_CERT;
use kuma_mesh::MeshDataplane;
use kuma_xds::Resource;

/// A certificate in a proxy's hands.
pub(crate) struct Identity {
    pub(crate) resource: Arc<Resource>,
    /// A hash of what it was made of: the root, the mesh and the services.
    inputs: u64,
    /// Whether the root that signs now has signed it; else one that is still trusted.
    pub(crate) current: bool,
    /// When the next one is due.
    pub(crate) renew_at: SystemTime,
}

impl Identity {
    /// Whether it is what this CA makes for this Dataplane: its services may have changed.
    pub(crate) fn fits(&self, root: &Root, mesh: &str, dataplane: &MeshDataplane) -> bool {
        self.inputs == root.identity_inputs(mesh, &services(dataplane))
    }
}

fn services(dataplane: &MeshDataplane) -> BTreeSet<&str> {
    dataplane.services.iter().map(|service| service.as_ref()).collect()
}

/// What a certificate is made of.
pub(crate) struct Issuing<'a> {
    pub(crate) root: &'a Root,
    /// The root that has signed before, and is still trusted.
    pub(crate) old: Option<&'a OldRoot>,
    /// Over how long those are replaced that the old root has signed: all at once, nothing else would be done
    /// meanwhile.
    pub(crate) spread: Duration,
    pub(crate) mesh: &'a str,
    pub(crate) validity: Duration,
    pub(crate) now: SystemTime,
    /// Spreads renewals, so that proxies that came together do not come back together; 0 to 1.
    pub(crate) jitter: f64,
}

impl Issuing<'_> {
    /// The identity that a proxy should hold: the one it has where that will do, else a new one.
    ///
    /// `reported` is the version of a certificate that the proxy says it holds from an earlier life of this process;
    /// leaf keys are never stored, so a good one can be recognised but not sent again.
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

    /// A certificate that will do, for as long as it will.
    fn kept(&self, mut identity: Identity, inputs: u64) -> Identity {
        identity.current = identity.inputs == inputs;
        if !identity.current {
            identity.renew_at = identity.renew_at.min(self.now + self.spread.mul_f64(self.jitter));
        }
        identity
    }
}
