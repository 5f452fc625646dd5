//! The roots of one mesh: the one that signs, and while it changes to another, one more that is trusted beside it.
//!
//! A root is changed in three steps, so that at every moment each proxy trusts what any other may show:
//!
//! 1. the next root is *introduced*: it is trusted beside the one that signs;
//! 2. once every proxy trusts it, it signs. The old one is *retired*: still trusted, its key gone;
//! 3. once no proxy shows a certificate of the old one, that is not trusted any more.
//!
//! When a step is due is for the caller to say, who knows the proxies.

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

/// A change from one root to another that is under way.
#[derive(Debug)]
pub struct Change {
    /// The root beside the one that signs.
    pub other: Other,
    /// When this step began.
    pub since: SystemTime,
    /// How long proxies that are away are waited for in each step; `None`: for as long as their certificates last.
    pub patience: Option<Duration>,
}

/// The root beside the one that signs.
#[derive(Debug)]
pub enum Other {
    /// Trusted, and to sign next.
    Next(Root),
    /// Trusted still: it has signed before. There is no key to it any more.
    Old(OldRoot),
}

/// The certificate of a root that signs no more.
#[derive(Debug)]
pub struct OldRoot {
    cert_pem: String,
    fingerprint: [u8; 32],
}

/// What a root of a mesh is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// It signs.
    Signing,
    /// It is trusted, and to sign next.
    Next,
    /// It is trusted, and signs no more.
    Old,
}

/// Why a root can't be changed, or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// One change at a time.
    #[error("a rotation is under way")]
    UnderWay,
    /// It signs already.
    #[error("the certificate is the one that signs")]
    Same,
    /// Verifiers look a root up by its name; nothing would tell these two apart.
    #[error(
        "it has the subject of the certificate that signs, and no subject key identifier of its own to tell them apart"
    )]
    LooksAlike,
    /// Without it nothing could be signed.
    #[error("the certificate is the one that signs")]
    Signs,
    /// There is none of this id.
    #[error("there is no such certificate")]
    Unknown,
}

impl MeshRoots {
    /// One root, which signs.
    pub fn new(signing: Root) -> MeshRoots {
        MeshRoots { signing, change: None }
    }

    /// As it was kept.
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

    /// The change that is under way.
    pub fn change(&self) -> Option<&Change> {
        self.change.as_ref()
    }

    /// Every root that is trusted, the elder first: certificate in PEM, and what it is there for.
    pub fn trusted(&self) -> Vec<(&str, RootState)> {
        let signing = (self.signing.cert_pem(), RootState::Signing);
        match self.change.as_ref().map(|change| &change.other) {
            None => vec![signing],
            Some(Other::Next(next)) => vec![signing, (next.cert_pem(), RootState::Next)],
            Some(Other::Old(old)) => vec![(old.cert_pem(), RootState::Old), signing],
        }
    }

    /// What proxies are to trust: the certificates in PEM, one after the other. The same text from the first step of a
    /// change to the last, so that it is sent twice and not three times.
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

    /// A number for who signs and who is trusted; never 0. It is the same in every process.
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

    /// Steps 2 and 3: what is introduced signs, and the key of the root before is gone; or what is retired is trusted
    /// no more. Without a change nothing happens.
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

    /// Takes one root away at once, whatever proxies hold; the other one signs. A next root that is taken away ends the
    /// change.
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

/// A UUID made of the certificate's SHA-256 (version 8 of RFC 9562, 5.8): the same certificate always has the same.
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
