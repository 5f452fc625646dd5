//! The certificates of a mesh's CAs: which there are, and what may become of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::{ChangeError, MeshRoots, Root, RootState, id_of_pem};
use kuma_model::{Ca, Key, Mesh};
use kuma_store::{Cause, Expect, Proposal, Store, StoreError, Stored, Write};
use tokio::sync::{Mutex, MutexGuard};

use super::{MeshAuthority, MeshCaError, document, key, read};
use crate::identity::AUTHOR;

/// The CAs of all meshes. They change one at a time, and not while a Mesh does: what is allowed depends on both.
pub struct MeshCas {
    store: Arc<dyn Store>,
    authority: Arc<dyn MeshAuthority>,
    one_at_a_time: Mutex<()>,
}

/// A certificate of a CA. There is nothing of its key in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// See [`Root::id`].
    pub id: String,
    /// In PEM.
    pub cert: String,
    /// What it is there for.
    pub state: RootState,
}

/// Why a CA was not changed. Nothing is, then.
#[derive(Debug, thiserror::Error)]
pub enum ChangeRefused {
    /// There is no such CA, or no such certificate in it.
    #[error("not found")]
    NotFound,
    /// A provided CA has one certificate.
    #[error("cannot add more than 1 CA root to provided CA")]
    OnlyOne,
    /// The mesh is at work with the certificate.
    #[error("Cannot delete signing certificate when the mTLS in the mesh is active and type of CA is Provided")]
    InUse,
    /// Proxies may show what it has signed.
    #[error(
        "proxies may still show what the certificate has signed: it goes by itself once none does. With force it goes \
         at once, and they are cut off until they have a new one"
    )]
    StillTrusted,
    /// The change makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// What is kept cannot be used, or nothing can be kept.
    #[error(transparent)]
    Ca(#[from] MeshCaError),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A CA as it is stored.
struct Kept {
    stored: Arc<Stored>,
    roots: Option<MeshRoots>,
}

impl MeshCas {
    /// The CAs in `store`, which `authority` keeps where the store forgets.
    pub fn new(store: Arc<dyn Store>, authority: Arc<dyn MeshAuthority>) -> MeshCas {
        MeshCas { store, authority, one_at_a_time: Mutex::new(()) }
    }

    /// Keeps everything as it is while it is held.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().await
    }

    /// Calls the authority where blocking is allowed.
    pub async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn MeshAuthority) -> Result<T, MeshCaError> + Send + 'static,
    ) -> Result<T, MeshCaError> {
        let authority = self.authority.clone();
        let called = tokio::task::spawn_blocking(move || call(authority.as_ref())).await;
        called.unwrap_or(Err(MeshCaError::GivenUp))
    }

    /// Puts the provided CAs that the store has forgotten back into it. A store that lasts forgets none.
    ///
    /// # Errors
    /// They cannot be read, or the store does not take them.
    pub async fn restore(&self) -> Result<(), ChangeRefused> {
        if self.store.durable() {
            return Ok(());
        }
        let documents = self.blocking(|authority| authority.provided()).await?;
        if !documents.is_empty() {
            self.store.commit(documents.into_iter().map(Write::Put).collect()).await?;
        }
        Ok(())
    }

    /// The certificates of a CA, the elder first; `None` if it has never had any.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn certificates(&self, ca: Ca, mesh: &str) -> Result<Option<Vec<Certificate>>, ChangeRefused> {
        let kept = self.kept(ca, mesh).await?;
        Ok(kept.map(|kept| kept.roots.as_ref().map(certificates).unwrap_or_default()))
    }

    /// The roots of a CA.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn roots(&self, ca: Ca, mesh: &str) -> Result<MeshRoots, ChangeRefused> {
        self.kept(ca, mesh).await?.and_then(|kept| kept.roots).ok_or(ChangeRefused::NotFound)
    }

    /// Adds the one certificate of a provided CA. Its Mesh need not be there yet.
    ///
    /// # Errors
    /// [`ChangeRefused::OnlyOne`], or it could not be kept.
    pub async fn add(&self, mesh: &str, root: Root, cause: Cause) -> Result<Certificate, ChangeRefused> {
        let _one_at_a_time = self.lock().await;
        let kept = self.kept(Ca::Provided, mesh).await?;
        if kept.as_ref().is_some_and(|kept| kept.roots.is_some()) {
            return Err(ChangeRefused::OnlyOne);
        }
        let added = Certificate { id: root.id(), cert: root.cert_pem().to_owned(), state: RootState::Signing };
        let before = kept.map(|kept| kept.stored);
        self.save(Vec::new(), cause, Ca::Provided, mesh, before, Some(MeshRoots::new(root))).await?;
        Ok(added)
    }

    /// Begins the change from the root that signs to `next`; see [`MeshRoots::introduce`].
    ///
    /// # Errors
    /// There is no root yet, a change is under way, or `next` is not good for it.
    pub async fn rotate(
        &self,
        ca: Ca,
        mesh: &str,
        next: Root,
        patience: Option<Duration>,
        cause: Cause,
    ) -> Result<Certificate, ChangeRefused> {
        let _one_at_a_time = self.lock().await;
        let Some(Kept { stored, roots: Some(roots) }) = self.kept(ca, mesh).await? else {
            return Err(ChangeRefused::NotFound);
        };
        let added = Certificate { id: next.id(), cert: next.cert_pem().to_owned(), state: RootState::Next };
        let roots = roots.introduce(next, SystemTime::now(), patience)?;
        self.save(Vec::new(), cause, ca, mesh, Some(stored), Some(roots)).await?;
        Ok(added)
    }

    /// Takes the next step of a change, unless something has changed since the roots were of this generation.
    ///
    /// # Errors
    /// It could not be kept.
    pub async fn advance(&self, ca: Ca, mesh: &str, generation: u64) -> Result<(), ChangeRefused> {
        let _one_at_a_time = self.lock().await;
        let Some(Kept { stored, roots: Some(roots) }) = self.kept(ca, mesh).await? else { return Ok(()) };
        if roots.generation() != generation || roots.change().is_none() {
            return Ok(());
        }
        let roots = roots.advance(SystemTime::now());
        let (id, done) = (roots.signing().id(), roots.change().is_none());
        let cause = Cause { author: AUTHOR.into(), note: "a step of a rotation".into(), ..Cause::default() };
        self.save(Vec::new(), cause, ca, mesh, Some(stored), Some(roots)).await?;
        if done {
            tracing::info!(
                mesh,
                ca = ca.name(),
                signing = id,
                "rotated the CA: the old certificate is trusted no more"
            );
        } else {
            tracing::info!(mesh, ca = ca.name(), signing = id, "rotating the CA: the new certificate signs");
        }
        Ok(())
    }

    /// Takes a certificate away. With `force` even one that proxies still need.
    ///
    /// # Errors
    /// There is none of this id, or it is needed.
    pub async fn delete(&self, ca: Ca, mesh: &str, id: &str, force: bool, cause: Cause) -> Result<(), ChangeRefused> {
        let _one_at_a_time = self.lock().await;
        let Some(Kept { stored, roots: Some(roots) }) = self.kept(ca, mesh).await? else {
            return Err(ChangeRefused::NotFound);
        };
        let state = certificates(&roots).into_iter().find(|certificate| certificate.id == id);
        let state = state.ok_or(ChangeRefused::NotFound)?.state;
        let (at_work, mesh_unchanged) = self.is_at_work(ca, mesh).await?;
        let left = match (state, roots.without(id)) {
            (RootState::Signing, Err(_)) if ca == Ca::Builtin => return Err(ChangeError::Signs.into()),
            (RootState::Signing, Err(_)) if at_work => return Err(ChangeRefused::InUse),
            (RootState::Signing, Ok(_)) if at_work && !force && ca == Ca::Provided => return Err(ChangeRefused::InUse),
            (RootState::Signing | RootState::Old, Ok(_)) if at_work && !force => {
                return Err(ChangeRefused::StillTrusted);
            }
            (RootState::Signing, Err(_)) => None,
            (_, left) => Some(left?),
        };
        self.save(vec![mesh_unchanged], cause, ca, mesh, Some(stored), left).await
    }

    /// Whether the mesh has mTLS on, with this CA; and what has to be true for that to hold still.
    async fn is_at_work(&self, ca: Ca, mesh: &str) -> Result<(bool, Expect), StoreError> {
        let key = Key::mesh(mesh);
        let stored = self.store.get(&key).await?;
        let unchanged = Expect::Version { version: stored.as_ref().map(|stored| stored.version), key };
        // One that cannot be read may be at work.
        let is_at_work = |mesh: Mesh| mesh.mtls_enabled() && mesh.ca() == ca;
        Ok((stored.is_some_and(|stored| stored.decode().map_or(true, is_at_work)), unchanged))
    }

    async fn kept(&self, ca: Ca, mesh: &str) -> Result<Option<Kept>, ChangeRefused> {
        let Some(stored) = self.store.get(&key(ca, mesh)).await? else { return Ok(None) };
        let roots = read(ca, &stored.spec()).map_err(MeshCaError::from)?;
        Ok(Some(Kept { stored, roots }))
    }

    /// Keeps the roots, then stores them, if all of `expected` is true: what proxies are told must outlive us.
    async fn save(
        &self,
        expected: Vec<Expect>,
        cause: Cause,
        ca: Ca,
        mesh: &str,
        before: Option<Arc<Stored>>,
        roots: Option<MeshRoots>,
    ) -> Result<(), ChangeRefused> {
        let document = document(ca, mesh, roots.as_ref());
        let kept = document.clone();
        self.blocking(move |authority| authority.keep(&kept)).await?;
        let write = match &before {
            Some(before) => Write::Update { document, version: before.version },
            None => Write::Create(document),
        };
        let proposal = Proposal { expected, writes: vec![write], cause };
        let Err(error) = self.store.propose(proposal).await else { return Ok(()) };
        if let Some(before) = before {
            let before = before.document();
            if let Err(error) = self.blocking(move |authority| authority.keep(&before)).await {
                tracing::error!(mesh, %error, "a CA was kept that could not be stored");
            }
        }
        Err(error.into())
    }
}

fn certificates(roots: &MeshRoots) -> Vec<Certificate> {
    let certificate = |(cert, state): (&str, RootState)| Certificate {
        id: id_of_pem(cert).unwrap_or_default(),
        cert: cert.to_owned(),
        state,
    };
    roots.trusted().into_iter().map(certificate).collect()
}
