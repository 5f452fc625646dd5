//! PUT and DELETE of Meshes. A Mesh and its builtin CA are one commit: neither exists without the other. A provided CA may be
//! there before its Mesh, and goes with it.

use http::StatusCode;
use kuma_model::{Ca, Dataplane, Document, Key, Kind, Mesh, Resource as _, decode_spec};
use kuma_store::{Stored, Write};
use serde_json::{Map, Value};

use super::Api;
use super::conditions::Conditions;
use super::mesh_rules::{CaPlan, KeptCas, plan};
use super::write::{self, Failed};
use crate::http::ApiError;
use crate::http::error::chain;
use crate::mesh_ca;

impl Api {
    /// Creates the Mesh of `document`, with its CA, unless there is one of that name. For the start of the control plane.
    /// Says whether it was created.
    pub async fn create_mesh_if_missing(&self, document: Document) -> Result<bool, ApiError> {
        let _one_at_a_time = self.cas.lock().await;
        let written = match self.stored(&document.key).await {
            Ok(Some(_)) => return Ok(false),
            Ok(None) => self.write_mesh(document, None).await,
            Err(failed) => Err(failed),
        };
        match written {
            Ok(_) => Ok(true),
            // Another control plane on the same store starts at the same moment.
            Err(Failed::Overtaken) => Ok(false),
            Err(Failed::Error(error)) => Err(error),
        }
    }

    pub(super) async fn put_mesh(
        &self,
        kind: &Kind,
        key: &Key,
        fields: &Map<String, Value>,
        conditions: &Conditions,
    ) -> Result<StatusCode, Failed> {
        let _one_at_a_time = self.cas.lock().await;
        let stored = self.stored(key).await?;
        let title = write::title(stored.is_some());
        conditions.check(stored.as_deref(), title)?;
        let spec = write::spec(kind, fields, title)?;
        self.write_mesh(Document { key: key.clone(), spec }, stored.as_deref()).await
    }

    /// Commits a Mesh in place of `stored`, and with it the CA that it needs.
    async fn write_mesh(&self, document: Document, stored: Option<&Stored>) -> Result<StatusCode, Failed> {
        let title = write::title(stored.is_some());
        let mesh = document.key.name.clone();
        let internal = |reason: &dyn std::fmt::Display| Failed::from(ApiError::internal(title, reason));
        let new: Mesh = decode_spec(&document.spec).map_err(|violations| internal(&violations))?;
        // A stored Mesh that cannot be read says nothing about its CA: it counts as builtin, so that no key is made anew.
        let old = stored.map(|stored| stored.decode::<Mesh>().unwrap_or_default());
        let provided = self.stored(&mesh_ca::key(Ca::Provided, &mesh)).await?;
        let kept = KeptCas {
            builtin: self.stored(&mesh_ca::key(Ca::Builtin, &mesh)).await?.is_some(),
            provided: provided.is_some_and(|ca| has_certificate(&ca.spec())),
        };
        let unchanged = stored.is_some_and(|stored| stored.spec() == document.spec);
        let mut writes = vec![match stored {
            Some(stored) => Write::Update { document, version: stored.version },
            None => Write::Create(document),
        }];
        match plan(old.as_ref(), &new, kept) {
            CaPlan::Keep => {}
            CaPlan::Create => {
                let of = mesh.clone();
                let created = self.cas.blocking(move |authority| authority.create_ca(&of)).await;
                writes.push(Write::Create(created.map_err(|error| internal(&chain(&error)))?));
            }
            CaPlan::Refuse(cause) => return Err(ApiError::invalid(title, vec![cause]).into()),
            CaPlan::Lost => {
                tracing::error!(%mesh, "the builtin CA of the mesh is gone from the store; it is not made anew");
                return Err(lost_ca(title, &mesh).into());
            }
        }
        let status = self.commit(writes, title).await?;
        if unchanged {
            (self.mesh_rewritten)(&mesh);
        }
        Ok(status)
    }

    pub(super) async fn delete_mesh(
        &self,
        key: &Key,
        title: &str,
        conditions: &Conditions,
    ) -> Result<StatusCode, ApiError> {
        let _one_at_a_time = self.cas.lock().await;
        if !conditions.is_empty() {
            let stored = self.store.get(key).await.map_err(|error| ApiError::store(title, &error))?;
            conditions.check(stored.as_deref(), title)?;
        }
        let dataplanes =
            self.store.list(Dataplane::KIND, Some(&key.name)).await.map_err(|error| ApiError::store(title, &error))?;
        let mut writes = vec![Write::DeleteMesh { mesh: key.name.clone() }];
        let provided = mesh_ca::key(Ca::Provided, &key.name);
        if self.store.get(&provided).await.map_err(|error| ApiError::store(title, &error))?.is_some() {
            writes.push(Write::Delete { key: provided, version: None });
        }
        let not_found = || ApiError::new(StatusCode::NOT_FOUND, title, "Not found");
        self.store.commit(writes).await.map_err(|error| write::deletion(error, not_found))?;
        for dataplane in dataplanes {
            self.live.forget(&key.name, &dataplane.key.name);
        }
        let mesh = key.name.clone();
        if let Err(error) = self.cas.blocking(move |authority| authority.forget(&mesh)).await {
            // The Mesh is gone all the same. A new one of this name would get the old CA.
            tracing::error!(mesh = %key.name, error = chain(&error), "the CA of a deleted mesh could not be removed");
        }
        tracing::info!("deleted {key} and everything in it");
        Ok(StatusCode::OK)
    }
}

fn has_certificate(spec: &Value) -> bool {
    mesh_ca::read(Ca::Provided, spec).is_ok_and(|roots| roots.is_some())
}

fn lost_ca(title: &str, mesh: &str) -> ApiError {
    let details = format!(
        "The builtin CA of mesh {mesh} is missing in the store, and a new one would not be trusted by running proxies. \
         Restore it from a backup, or delete the mesh and create it again"
    );
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, title, details)
}
