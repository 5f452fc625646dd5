//! The certificates of proxies: which stream gets one, and when.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_xds::{Resource, ResourceList, ResourceType, Snapshot};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::connections::{Connections, Stream, StreamId};
use crate::documents::Documents;
use crate::identity::{Identity, Issuing};

/// The warning about a proxy that was connected without a token, or in plain text, before mTLS was enabled.
const NO_IDENTITY: &str = "mTLS is on and the proxy has no dataplane token, or no TLS to the control plane: it gets \
    no certificate, and its inbounds are closed";

/// The warning about a proxy that has no certificate and cannot get one.
const NO_CA: &str =
    "mTLS is on and the CA of the mesh cannot be used: the proxy gets no certificate, and its inbounds are closed";

/// The certificates of an old root are replaced over a time of this for each stream. Issuing one takes less, unless the
/// root has a large RSA key.
const SPREAD: Duration = Duration::from_millis(1);

/// The state of a stream's certificate.
#[derive(Default)]
pub(crate) struct StreamIdentity {
    /// Whether its client has asked for its certificate.
    pub(crate) wanted: bool,
    /// The version of the certificate that the client has from before the start of this process.
    pub(crate) reported: Option<Box<str>>,
    /// The certificate that was issued to it.
    pub(crate) issued: Option<Identity>,
    /// The generation of the roots of which its client has accepted all secrets; 0 while it has not.
    pub(crate) accepted_generation: u64,
    /// Why it gets no certificate although the mesh has mTLS, as last reported.
    pub(crate) problem: Option<&'static str>,
    /// Whether it may have a certificate from before the start of this process, which it has not reported yet.
    may_hold_unknown: bool,
    /// The secrets that it was last given: the list without its certificate, the certificate, and the list with it.
    secrets: Option<(ResourceList, Arc<Resource>, ResourceList)>,
}

impl StreamIdentity {
    /// The state of a new stream. `returning`: it has reported configuration from before the start of this process.
    pub(crate) fn new(returning: bool) -> StreamIdentity {
        StreamIdentity { may_hold_unknown: returning, ..StreamIdentity::default() }
    }

    /// Whether it has a certificate, or is to get one.
    pub(crate) fn is_concerned(&self) -> bool {
        self.wanted || self.reported.is_some() || self.issued.is_some()
    }

    /// Whether it may have a certificate from before the start of this process.
    pub(crate) fn may_hold_unknown(&self) -> bool {
        self.may_hold_unknown
    }

    /// Records that the mesh has no mTLS: its inbounds accept plain text, which must end when mTLS is enabled.
    pub(crate) fn without_mtls(&mut self) {
        self.may_hold_unknown = false;
    }
}

impl Stream {
    /// Why it gets no certificate although the mesh has mTLS. `None` if it gets one, and also if it may already have
    /// one: then it keeps that and its inbounds, even while the CA cannot be used.
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
    /// How long a certificate is valid.
    validity: Duration,
    /// Distributes renewals over time.
    random: SmallRng,
}

impl Identities {
    /// `seed` is for random numbers.
    pub(crate) fn new(validity: Duration, seed: u64) -> Identities {
        Identities { validity, random: SmallRng::seed_from_u64(seed) }
    }

    /// A random number below `limit`; 0 for a limit of 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit.max(1))
    }

    /// Issues a stream's certificate, or keeps the one that it has, and returns it. `None` without a CA.
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
        // A reported certificate is considered once; when its renewal is due, a new one must be issued.
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
    /// The list of a proxy's secrets with its certificate. The same list is returned as long as neither changes, so
    /// that other changes do not make a difference to the stream.
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
