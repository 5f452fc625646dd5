//! Overviews: a Dataplane together with what its proxy reported. Computed, never stored.

use axum::response::Response;
use http::StatusCode;
use kuma_model::{Dataplane, DataplaneInsight, Document, Kind, Resource as _, Selector, Subscription, decode_spec};
use kuma_store::Stored;
use serde_json::{Map, Value, json};

use super::page::Page;
use super::{Api, query, routes};
use crate::http::{ApiError, json as body};

const ITEM: &str = "Could not retrieve a dataplane overview";
const LIST: &str = "Could not retrieve dataplane overviews";

/// How many streams of a proxy are shown.
const SUBSCRIPTIONS: usize = 10;

/// What this process knows about its proxies and the store may not know yet.
pub trait LiveInsights: Send + Sync + 'static {
    /// The insight of a Dataplane, if this process has one.
    fn get(&self, mesh: &str, name: &str) -> Option<DataplaneInsight>;

    /// The Dataplane is deleted: what is known about it goes too.
    fn forget(&self, mesh: &str, name: &str);
}

impl Api {
    /// The overview of one Dataplane. Without an insight it has an empty one.
    pub(super) async fn overview(&self, mesh: &str, name: &str) -> Result<Response, ApiError> {
        let not_found = || ApiError::new(StatusCode::NOT_FOUND, ITEM, "Not found");
        let failed = |error| ApiError::store(ITEM, &error);
        let key = routes::key(dataplanes(), mesh, name).ok_or_else(not_found)?;
        let dataplane = self.store.get(&key).await.map_err(failed)?.ok_or_else(not_found)?;
        let key = kuma_model::Key::new(DataplaneInsight::KIND, mesh, name);
        let stored = self.store.get(&key).await.map_err(failed)?;
        let insight = current_insight(self.live.as_ref(), mesh, name, stored.as_deref());
        Ok(body::respond(&overview(dataplane.document(), Some(insight.unwrap_or_else(|| json!({}))))))
    }

    /// The overviews of a mesh, of those Dataplanes that have one inbound, or a gateway, with all tags of the query.
    pub(super) async fn overviews(&self, mesh: &str, path: &str, query: &str) -> Result<Response, ApiError> {
        let failed = |error| ApiError::store(LIST, &error);
        let page = Page::of(query, LIST)?;
        let wanted = query::tags(query, LIST)?;
        let dataplanes = self.store.list(Dataplane::KIND, Some(mesh)).await.map_err(failed)?;
        let insights = self.store.list(DataplaneInsight::KIND, Some(mesh)).await.map_err(failed)?;
        let (live, mesh, path, query) = (self.live.clone(), mesh.to_owned(), path.to_owned(), query.to_owned());
        let make = move || {
            let mut items = Vec::new();
            for dataplane in
                dataplanes.iter().map(|stored| stored.document()).filter(|document| has_tags(document, &wanted))
            {
                let name = &dataplane.key.name;
                // Both lists are ordered by name.
                let stored =
                    insights.binary_search_by(|stored| stored.key.name.cmp(name)).ok().map(|at| &*insights[at]);
                let insight = current_insight(live.as_ref(), &mesh, name, stored);
                items.push(overview(dataplane, insight));
            }
            body::pretty(&page.body(items, &path, &query))
        };
        self.outgoing.respond(LIST, make).await
    }
}

/// What is known of a proxy: what this process knows is younger than what it has written, and other control planes on
/// the same store have written what they know.
pub(super) fn current_insight(
    live: &dyn LiveInsights,
    mesh: &str,
    name: &str,
    stored: Option<&Stored>,
) -> Option<Value> {
    let Some(mut insight) = live.get(mesh, name) else { return stored.map(Stored::spec) };
    if let Some(Ok(written)) = stored.map(Stored::decode::<DataplaneInsight>) {
        let own = std::mem::take(&mut insight.subscriptions);
        // What is not in memory any more of this process's own is there no more.
        let is_same = |a: &Subscription, b: &Subscription| {
            a.id == b.id || a.control_plane_instance_id == b.control_plane_instance_id
        };
        let is_other = |one: &Subscription| own.iter().all(|own| !is_same(own, one));
        insight.subscriptions.extend(written.subscriptions.into_iter().filter(is_other));
        insight.subscriptions.extend(own);
        insight.subscriptions.sort_by_key(|one| one.connect_time);
        let older = insight.subscriptions.len().saturating_sub(SUBSCRIPTIONS);
        insight.subscriptions.drain(..older);
    }
    serde_json::to_value(insight).ok()
}

fn dataplanes() -> &'static Kind {
    const KIND: &Kind = &Kind::of::<Dataplane>();
    KIND
}

fn has_tags(document: &Document, wanted: &Selector) -> bool {
    wanted.tags.is_empty()
        || decode_spec::<Dataplane>(&document.spec)
            .is_ok_and(|dataplane| dataplane.tag_sets().iter().any(|tags| wanted.matches(tags)))
}

fn overview(dataplane: Document, insight: Option<Value>) -> Value {
    let mut fields = Map::new();
    fields.insert("type".into(), "DataplaneOverview".into());
    fields.insert("mesh".into(), (*dataplane.key.mesh).into());
    fields.insert("name".into(), (*dataplane.key.name).into());
    fields.insert("dataplane".into(), dataplane.spec);
    if let Some(insight) = insight {
        fields.insert("dataplaneInsight".into(), insight);
    }
    Value::Object(fields)
}
