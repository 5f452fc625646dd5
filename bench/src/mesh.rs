//! The mesh of the scenarios, and the HTTP API by which it is created.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::process::ControlPlane;

/// Name of the mesh.
pub(crate) const MESH: &str = "default";

/// Number of concurrent requests while the mesh is created.
const AT_ONCE: usize = 16;

/// Sizes of a mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) dataplanes: u32,
    pub(crate) services: u32,
    /// Dataplanes of each service. The remaining Dataplanes belong to services that no outbound refers to.
    pub(crate) instances: u32,
    /// Outbounds of each Dataplane.
    pub(crate) outbounds: u32,
    /// TrafficPermissions in addition to the one that permits everything.
    pub(crate) policies: u32,
    pub(crate) mtls: bool,
}

impl Shape {
    /// The service of a Dataplane.
    pub(crate) fn service(&self, dataplane: u32) -> String {
        if dataplane < self.services * self.instances {
            format!("svc-{}", dataplane % self.services)
        } else {
            format!("client-{}", dataplane % self.services)
        }
    }

    /// The services of a Dataplane's outbounds: determined by its number, and evenly distributed.
    pub(crate) fn dials(&self, dataplane: u32) -> BTreeSet<u32> {
        let mut chosen = BTreeSet::new();
        let mut state = u64::from(dataplane) + 1;
        while chosen.len() < self.outbounds.min(self.services) as usize {
            // The constants of Knuth's MMIX generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chosen.insert((state >> 33) as u32 % self.services);
        }
        chosen
    }

    /// The Dataplanes with an outbound to a service.
    pub(crate) fn consumers(&self, service: u32) -> BTreeSet<u32> {
        (0..self.dataplanes).filter(|&dataplane| self.dials(dataplane).contains(&service)).collect()
    }

    /// The Dataplanes of a service.
    pub(crate) fn providers(&self, service: u32) -> BTreeSet<u32> {
        (0..self.instances)
            .map(|instance| service + instance * self.services)
            .filter(|&i| i < self.dataplanes)
            .collect()
    }

    /// The initial document of a Dataplane.
    pub(crate) fn dataplane(&self, number: u32) -> Value {
        dataplane(&name(number), &address(number), &self.service(number), &self.dials(number))
    }
}

/// The name of a Dataplane.
pub(crate) fn name(number: u32) -> String {
    format!("dp-{number}")
}

fn address(number: u32) -> String {
    format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255)
}

/// A Dataplane document.
pub(crate) fn dataplane(name: &str, address: &str, service: &str, dials: &BTreeSet<u32>) -> Value {
    let outbound: Vec<Value> = dials
        .iter()
        .enumerate()
        .map(|(index, service)| {
            json!({"interface": format!(":{}", 20_000 + index),
            "service": format!("svc-{service}")})
        })
        .collect();
    json!({
        "type": "Dataplane", "mesh": MESH, "name": name,
        "networking": {
            "inbound": [{"interface": format!("{address}:8080:9090"), "tags": {"service": service, "version": "v1",
                "zone": "east"}}],
            "outbound": outbound,
        },
    })
}

/// A TrafficPermission document.
pub(crate) fn permission(name: &str, source: &str, destination: &str) -> Value {
    json!({
        "type": "TrafficPermission", "mesh": MESH, "name": name,
        "sources": [{"match": {"service": source}}],
        "destinations": [{"match": {"service": destination}}],
    })
}

/// The HTTP ports of kuma-cp.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    /// A client that opens a new connection for each request.
    alone: reqwest::Client,
    api: String,
    admin: String,
    bootstrap: String,
}

impl Api {
    pub(crate) fn of(control_plane: &ControlPlane) -> anyhow::Result<Api> {
        Ok(Api {
            http: reqwest::Client::builder().no_proxy().build()?,
            alone: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?,
            api: control_plane.api_url(),
            admin: control_plane.admin_url(),
            bootstrap: control_plane.bootstrap_url(),
        })
    }

    /// Writes a document. Returns the time until the response.
    pub(crate) async fn put(&self, document: &Value) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let response = self.http.put(self.url(document)?).json(document).send().await?;
        let took = began.elapsed();
        let status = response.status();
        if !status.is_success() {
            bail!("{status} for {document}: {}", response.text().await.unwrap_or_default());
        }
        Ok(took)
    }

    /// Reads a path over a new connection.
    pub(crate) async fn read_alone(&self, path: &str) -> anyhow::Result<()> {
        self.alone.get(format!("{}{path}", self.api)).send().await?.error_for_status()?.bytes().await?;
        Ok(())
    }

    /// Deletes a document.
    pub(crate) async fn delete(&self, document: &Value) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let response = self.http.delete(self.url(document)?).send().await?;
        let took = began.elapsed();
        if !response.status().is_success() {
            bail!("{} for the deletion of {}", response.status(), document["name"]);
        }
        Ok(took)
    }

    /// Writes the mesh, and everything in it.
    pub(crate) async fn make(&self, shape: &Shape) -> anyhow::Result<()> {
        self.put(&json!({
            "type": "Mesh", "name": MESH,
            "mtls": {"ca": {"builtin": {}}, "enabled": shape.mtls},
        }))
        .await?;
        self.put(&permission("everyone", "*", "*")).await?;
        for number in 0..shape.policies {
            // Different pairs, as long as there are unused ones.
            let (from, to) = (number % shape.services, (number * 7 + number / shape.services) % shape.services);
            self.put(&permission(&format!("policy-{number}"), &format!("svc-{from}"), &format!("svc-{to}"))).await?;
        }
        let writes = (0..shape.dataplanes).map(|number| {
            let document = shape.dataplane(number);
            async move { self.put(&document).await }
        });
        futures_util::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Starts a rotation of the builtin CA.
    pub(crate) async fn rotate(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let response = self.http.post(self.rotation()).send().await?;
        let took = began.elapsed();
        let status = response.status();
        if !status.is_success() {
            bail!("{status} for a rotation: {}", response.text().await.unwrap_or_default());
        }
        Ok(took)
    }

    /// Whether a rotation is in progress.
    pub(crate) async fn rotates(&self) -> anyhow::Result<bool> {
        let status: Value = self.http.get(self.rotation()).send().await?.error_for_status()?.json().await?;
        Ok(status["phase"] != "none")
    }

    fn rotation(&self) -> String {
        format!("{}/meshes/{MESH}/ca/builtin/rotation", self.admin)
    }

    /// A dataplane token for each of the first Dataplanes.
    pub(crate) async fn tokens(&self, count: u32) -> anyhow::Result<Vec<HeaderValue>> {
        let requests = (0..count).map(|number| {
            let request =
                self.http.post(format!("{}/tokens", self.admin)).json(&json!({"name": name(number), "mesh": MESH}));
            async move {
                let response = request.send().await?.error_for_status()?;
                anyhow::Ok(HeaderValue::from_str(response.text().await?.trim())?)
            }
        });
        futures_util::stream::iter(requests).buffered(AT_ONCE).try_collect().await
    }

    /// The CA in the bootstrap, PEM.
    pub(crate) async fn ca(&self) -> anyhow::Result<String> {
        let request =
            self.http.post(format!("{}/bootstrap", self.bootstrap)).json(&json!({"name": name(0), "mesh": MESH}));
        let text = request.send().await?.error_for_status()?.text().await?;
        let bootstrap: Value = serde_saphyr::from_str(&text).context("the bootstrap is not YAML")?;
        certificate(&bootstrap).map(str::to_owned).context("no CA in the bootstrap")
    }

    fn url(&self, document: &Value) -> anyhow::Result<String> {
        let text = |field: &str| document[field].as_str().unwrap_or_default();
        let collection = match text("type") {
            "Mesh" => return Ok(format!("{}/meshes/{}", self.api, text("name"))),
            "Dataplane" => "dataplanes",
            "TrafficPermission" => "traffic-permissions",
            "TrafficRoute" => "traffic-routes",
            other => bail!("no scenario writes a {other}"),
        };
        Ok(format!("{}/meshes/{}/{collection}/{}", self.api, text("mesh"), text("name")))
    }
}

fn certificate(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.contains("BEGIN CERTIFICATE").then_some(text),
        Value::Array(items) => items.iter().find_map(certificate),
        Value::Object(fields) => fields.values().find_map(certificate),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_dialled_evenly() {
        let shape = Shape { dataplanes: 1000, services: 200, instances: 5, outbounds: 20, policies: 0, mtls: false };
        let counts: Vec<usize> = (0..200).map(|service| shape.consumers(service).len()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 20_000);
        assert!(counts.iter().all(|count| (60..150).contains(count)), "{counts:?}");
        assert_eq!(shape.providers(7), BTreeSet::from([7, 207, 407, 607, 807]));
        assert_eq!(shape.service(807), "svc-7");
    }
}
