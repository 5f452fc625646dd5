//! Who is issued which certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_xds::{Resource, ResourceList, ResourceType, Snapshot};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::connections::{Connections, Stream, StreamId};
use crate::documents::Documents;
use crate::identity::{Identity, Issuing};

/// What is said of a proxy that was connected without a token, or in plain text, before mTLS was switched on.
const NO_IDENTITY: &str = "mTLS is on and the proxy has no dataplane token, or no TLS to the control plane: it gets \
    no certificate, and its inbounds are closed";

/// What is said of a proxy that has no certificate and can get none.
const NO_CA: &str =
    "mTLS is on and the CA of the mesh cannot be used: the proxy gets no certificate, and its inbounds are closed";

/// Over how long the certificates of an old root are replaced, for each stream. To make one takes less, unless the
/// root's key is a large RSA key.
const SPREAD: Duration = Duration::from_millis(1);

/// What a stream has to do with certificates.
#[derive(Default)]
pub(crate) struct StreamIdentity {
    /// Whether its client has asked for its certificate.
    pub(crate) wanted: bool,
    /// The version of the certificate that the client says it holds from an earlier life of this process.
    pub(crate) reported: Option<Box<str>>,
    /// The one that it is to hold.
    pub(crate) issued: Option<Identity>,
    /// The generation of the roots of which its client has accepted all secrets; 0 while it has not.
    pub(crate) accepted_generation: u64,
    /// Why it gets no certificate though the mesh has mTLS, as it has been said.
    pub(crate) problem: Option<&'static str>,
    /// Whether it came with configuration from an earlier life of this process, of which nothing is known yet.
    may_hold_unknown: bool,
    /// The secrets that it was last given with its certificate: without it, the certificate, with it.
    secrets: Option<(ResourceList, Arc<Resource>, ResourceList)>,
}

impl StreamIdentity {
    /// That of a stream that has just been opened; `returning` with configuration.
    pub(crate) fn new(returning: bool) -> StreamIdentity {
        StreamIdentity { may_hold_unknown: returning, ..StreamIdentity::default() }
    }

    /// Whether it holds a certificate, or is to.
    pub(crate) fn is_concerned(&self) -> bool {
        self.wanted || self.reported.is_some() || self.issued.is_some()
    }

    /// Whether it may hold a certificate of an earlier life of the control plane.
    pub(crate) fn may_hold_unknown(&self) -> bool {
        self.may_hold_unknown
    }

    /// Notes that the mesh has no mTLS: its inbounds are open, and must not stay that when mTLS is switched on.
    pub(crate) fn without_mtls(&mut self) {
        self.may_hold_unknown = false;
    }
}

impl Stream {
    /// Why it gets no certificate, if the mesh has mTLS and it gets none. One that may have a certificate keeps it, and
    /// its inbounds with it, also while the CA cannot be used.
    pub(crate) fn identity_problem(&self, documents: &Documents) -> Option<&'static str> {
        if !documents.snapshot().has_any_mtls() {
            return None;
        }
        let identity = &self.identity;
        let may_hold_one = identity.issued.is_some() || identity.reported.is_some() || identity.may_hold_unknown;
        if !(self.caller.authenticated && self.caller.encrypted) {
            Some(NO_IDENTITY)
        } else if documents.ca().is_none() && !may_hold_one {
            Some(NO_CA)
        } else {
            None
        }
    }
}

/// Issues certificates to the proxies of a mesh.
pub(crate) struct Identities {
    /// Life of a certificate.
    validity: Duration,
    /// Spreads renewals.
    random: SmallRng,
}

impl Identities {
    /// `seed` is for all that is left to chance.
    pub(crate) fn new(validity: Duration, seed: u64) -> Identities {
        Identities { validity, random: SmallRng::seed_from_u64(seed) }
    }

    /// A number below `limit`, by chance; 0 for a limit of 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit.max(1))
    }

    /// Gives a stream the certificate that its proxy is to hold, and returns it; `None` if there is no CA to make one.
    pub(crate) fn issue(
        &mut self,
        connections: &mut Connections,
        id: StreamId,
        documents: &Documents,
        now: SystemTime,
    ) -> Option<Arc<Resource>> {
        let streams = connections.stream_count();
        let stream = connections.stream_mut(id)?;
        let snapshot = documents.snapshot();
        let dataplane = snapshot.dataplane(&stream.proxy)?;
        let Some(ca) = documents.ca() else {
            tracing::error!(mesh = %snapshot.name, dataplane = %stream.proxy,
                "the mesh has no CA: no certificate is issued");
            return None;
        };
        let identity = &mut stream.identity;
        if let Some(issued) = &identity.issued
            && issued.current
            && now < issued.renew_at
            && issued.fits(ca.signing(), &snapshot.name, dataplane)
        {
            return Some(issued.resource.clone());
        }
        let issuing = Issuing {
            root: ca.signing(),
            old: ca.old(),
            spread: SPREAD * u32::try_from(streams).unwrap_or(u32::MAX),
            mesh: &snapshot.name,
            validity: self.validity,
            now,
            jitter: self.random.random(),
        };
        // A reported one is considered once: at its renewal it must not be found good enough again.
        let reported = identity.reported.take();
        match issuing.identity(dataplane, identity.issued.take(), reported.as_deref()) {
            Ok(issued) => {
                let resource = issued.resource.clone();
                identity.issued = Some(issued);
                Some(resource)
            }
            Err(error) => {
                tracing::error!(mesh = %snapshot.name, dataplane = %stream.proxy, %error, "cannot issue a certificate");
                None
            }
        }
    }
}

impl StreamIdentity {
    /// The secrets of a proxy and its certificate: the very same list for as long as neither changes, so that other
    /// changes leave the stream's secrets alone.
    pub(crate) fn with_certificate(&mut self, secrets: &ResourceList, certificate: Arc<Resource>) -> ResourceList {
        if let Some((from, with, list)) = &self.secrets
            && Arc::ptr_eq(from, secrets)
            && Arc::ptr_eq(with, &certificate)
        {
            return list.clone();
        }
        let mut builder = Snapshot::builder();
        builder.share(ResourceType::Secret, secrets.clone()).insert(certificate.clone());
        let list = builder.build().list(ResourceType::Secret).clone();
        self.secrets = Some((secrets.clone(), certificate, list.clone()));
        list
    }
}
