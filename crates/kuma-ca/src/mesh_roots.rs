//! The roots of one mesh: the one that signs, and during a rotation a second one that is trusted too.
//!
//! A rotation has three steps, so that at any time every proxy trusts the certificates of all others:
//!
//! 1. the next root is *introduced*: it is trusted besides the one that signs;
//! 2. when every proxy trusts it, it signs. The old one is *retired*: still trusted, but its key is deleted;
//! 3. when no proxy has a certificate of the old root any more, that root is not trusted any more.
//!
//! The caller, who knows the proxies, decides when a step is due.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};

use crate::authority::fingerprint_of_pem;
use crate::{CaError, Root, renewal};

/// The roots of one mesh.
#[derive(Debug)]
pub struct MeshRoots {
    signing: Root,
    change: Option<Change>,
}

/// A rotation in progress.
#[derive(Debug)]
pub struct Change {
    /// The second trusted root.
    pub other: Other,
    /// When this step began.
    pub since: SystemTime,
    /// How long each step waits for disconnected proxies; `None`: until their certificates have expired.
    pub patience: Option<Duration>,
}

/// The second trusted root of a rotation.
#[derive(Debug)]
pub enum Other {
    /// The root that will sign next.
    Next(Root),
    /// The root that has signed before. Its key is deleted.
    Old(OldRoot),
}

/// The certificate of a root that does not sign any more.
#[derive(Debug)]
pub struct OldRoot {
    cert_pem: String,
    fingerprint: [u8; 32],
}

/// The state of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// It signs.
    Signing,
    /// It is trusted, and will sign next.
    Next,
    /// It is trusted, and does not sign any more.
    Old,
}

/// Why a root cannot be changed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There can be only one rotation at a time.
    #[error("a rotation is under way")]
    UnderWay,
    /// The root already signs.
    #[error("the certificate is the one that signs")]
    Same,
    /// Verifiers look up a root by its name and could not distinguish the two.
    #[error(
        "it has the subject of the certificate that signs, and no subject key identifier of its own to tell them apart"
    )]
    LooksAlike,
    /// It is the only root that can sign.
    #[error("the certificate is the one that signs")]
    Signs,
    /// There is no root with this id.
    #[error("there is no such certificate")]
    Unknown,
}

impl MeshRoots {
    /// One root, which signs.
    pub fn new(signing: Root) -> MeshRoots {
        MeshRoots { signing, change: None }
    }

    /// From the stored form.
    pub fn with_change(signing: Root, change: Option<Change>) -> MeshRoots {
        MeshRoots { signing, change }
    }

    /// The root that signs.
    pub fn signing(&self) -> &Root {
        &self.signing
    }

    /// The root that has signed before, while it is still trusted.
    pub fn old(&self) -> Option<&OldRoot> {
        match &self.change.as_ref()?.other {
            Other::Old(old) => Some(old),
            Other::Next(_) => None,
        }
    }

    /// The rotation in progress, if there is one.
    pub fn change(&self) -> Option<&Change> {
        self.change.as_ref()
    }

    /// All trusted roots, the older first: certificate in PEM, and state.
    pub fn trusted(&self) -> Vec<(&str, RootState)> {
        let signing = (self.signing.cert_pem(), RootState::Signing);
        match self.change.as_ref().map(|change| &change.other) {
            None => vec![signing],
            Some(Other::Next(next)) => vec![signing, (next.cert_pem(), RootState::Next)],
            Some(Other::Old(old)) => vec![(old.cert_pem(), RootState::Old), signing],
        }
    }

    /// The certificates that proxies trust, as concatenated PEM. The text is the same during the whole rotation, so
    /// that it is sent twice and not three times.
    pub fn bundle_pem(&self) -> String {
        let mut bundle = String::new();
        for (pem, _) in self.trusted() {
            bundle.push_str(pem);
            if !pem.ends_with('\n') {
                bundle.push('\n');
            }
        }
        bundle
    }

    /// A number that identifies the signing root and the trusted ones; never 0. It is the same in every process.
    pub fn generation(&self) -> u64 {
        let mut hash = Context::new(&SHA256);
        hash.update(self.signing.fingerprint());
        hash.update(self.bundle_pem().as_bytes());
        let digest = hash.finish();
        digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1)
    }

    /// Step 1: `next` is trusted beside the root that signs.
    ///
    /// # Errors
    /// [`ChangeError::UnderWay`], [`ChangeError::Same`], [`ChangeError::LooksAlike`].
    pub fn introduce(
        self,
        next: Root,
        since: SystemTime,
        patience: Option<Duration>,
    ) -> Result<MeshRoots, ChangeError> {
        if self.change.is_some() {
            return Err(ChangeError::UnderWay);
        }
        if self.signing.fingerprint() == next.fingerprint() {
            return Err(ChangeError::Same);
        }
        if self.signing.looks_like(&next) {
            return Err(ChangeError::LooksAlike);
        }
        Ok(MeshRoots { signing: self.signing, change: Some(Change { other: Other::Next(next), since, patience }) })
    }

    /// Steps 2 and 3: an introduced root signs, and the key of the previous one is deleted; or a retired root is not
    /// trusted any more. Without a rotation nothing happens.
    pub fn advance(self, now: SystemTime) -> MeshRoots {
        let MeshRoots { signing, change } = self;
        match change {
            Some(Change { other: Other::Next(next), patience, .. }) => {
                let old = OldRoot { cert_pem: signing.cert_pem().to_owned(), fingerprint: *signing.fingerprint() };
                MeshRoots { signing: next, change: Some(Change { other: Other::Old(old), since: now, patience }) }
            }
            Some(Change { other: Other::Old(_), .. }) | None => MeshRoots::new(signing),
        }
    }

    /// Deletes one root at once, even if proxies need it; the other one signs. Deleting the next root ends the
    /// rotation.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], and [`ChangeError::Signs`] for the one that signs while there is no next one.
    pub fn without(self, id: &str) -> Result<MeshRoots, ChangeError> {
        let MeshRoots { signing, change } = self;
        let signs = signing.id() == id;
        match change.map(|change| change.other) {
            Some(Other::Next(next)) if signs => Ok(MeshRoots::new(next)),
            Some(Other::Next(next)) if next.id() == id => Ok(MeshRoots::new(signing)),
            Some(Other::Old(old)) if old.id() == id => Ok(MeshRoots::new(signing)),
            _ if signs => Err(ChangeError::Signs),
            _ => Err(ChangeError::Unknown),
        }
    }
}

impl OldRoot {
    /// From its certificate in PEM.
    ///
    /// # Errors
    /// [`CaError::Certificate`] if it is not one.
    pub fn from_pem(cert_pem: &str) -> Result<OldRoot, CaError> {
        Ok(OldRoot { cert_pem: cert_pem.to_owned(), fingerprint: fingerprint_of_pem(cert_pem)? })
    }

    /// The certificate in PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its id: see [`Root::id`].
    pub fn id(&self) -> String {
        certificate_id(&self.fingerprint)
    }

    /// See [`Root::identity_inputs`].
    pub fn identity_inputs(&self, mesh: &str, services: &BTreeSet<&str>) -> u64 {
        renewal::identity_inputs(&self.fingerprint, mesh, services)
    }
}

/// A UUID made from the certificate's SHA-256 (version 8 of RFC 9562, 5.8): always the same for the same certificate.
pub(crate) fn certificate_id(fingerprint: &[u8; 32]) -> String {
    let mut id = String::with_capacity(36);
    for (at, byte) in fingerprint.iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(at, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

/// The id of a certificate in PEM: see [`Root::id`].
///
/// # Errors
/// [`CaError::Certificate`] if it is not one.
pub fn id_of_pem(cert_pem: &str) -> Result<String, CaError> {
    fingerprint_of_pem(cert_pem).map(|fingerprint| certificate_id(&fingerprint))
}
