//! The incremental variant.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::core::{Core, REFERRED, check_lengths};
use super::limits::{MAX_SUBSCRIPTIONS, MAX_VERSION_LENGTH, RESPONSE_SIZE};
use super::state::{TypeState, WILDCARD, has_legacy_wildcard, outlives_snapshot, tells_absence};
use super::view::{add_names, find_name, merge, remove_names, remove_resources};
use super::{Event, Subscription, Variant};
use crate::grpc::{Code, Status};
use crate::snapshot::find;
use crate::wire::DeltaDiscoveryRequest;
use crate::{Resource, ResourceList, Response};

pub(super) fn on_request(
    core: &mut Core,
    resource_type: ResourceType,
    request: DeltaDiscoveryRequest,
    events: &mut Vec<Event>,
) -> Result<(), Status> {
    let DeltaDiscoveryRequest {
        node: _,
        type_url: _,
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        initial_resource_versions: reported,
        response_nonce,
        error_detail,
    } = request;
    core.check_names(subscribe.iter(), 0)?;
    if reported.len() > MAX_SUBSCRIPTIONS {
        let message = format!("a stream may report at most {MAX_SUBSCRIPTIONS} resources of a type");
        return Err(Status::new(Code::ResourceExhausted, message));
    }
    check_lengths(reported.keys(), super::limits::MAX_NAME_LENGTH, "name")?;
    check_lengths(reported.values(), MAX_VERSION_LENGTH, "version")?;

    // D1, and D2: the rest of the request counts, whatever its nonce is.
    core.on_answer(resource_type, &response_nonce, error_detail, events);

    let is_first = !core.types[resource_type as usize].seen;
    let has_all = subscribe.iter().any(|name| name == WILDCARD)
        || (is_first && subscribe.is_empty() && has_legacy_wildcard(resource_type));
    let mut names: Vec<Arc<str>> = Vec::new();
    let asked = subscribe.iter().filter(|name| *name != WILDCARD);
    add_names(&mut names, asked.map(|name| core.intern(resource_type, name)));
    let mut gone: Vec<Arc<str>> = Vec::new();
    add_names(&mut gone, unsubscribe.into_iter().map(Arc::from));

    let state = &mut core.types[resource_type as usize];
    if is_first {
        state.seen = true;
        state.dirty = true;
        if !reported.is_empty() {
            let held = |(name, version): (&String, &String)| {
                Arc::new(Resource::held(resource_type, name.as_str(), version.as_str()))
            };
            state.view = reported.iter().map(held).collect();
            core.is_resumed |= resource_type == ResourceType::Cluster;
            let pair = |(name, version): (String, String)| (name.into(), version.into());
            let versions = reported.into_iter().map(pair).collect();
            events.push(Event::Reported { resource_type, versions });
        }
    }
    remove_subscriptions(state, resource_type, gone, events);
    add_subscriptions(state, resource_type, Asked { is_first, has_all, names }, events);
    if is_first {
        state.forget_unsubscribed();
    }
    Ok(())
}

fn remove_subscriptions(
    state: &mut TypeState,
    resource_type: ResourceType,
    mut gone: Vec<Arc<str>>,
    events: &mut Vec<Event>,
) {
    let drops_all = state.wildcard && find_name(&gone, WILDCARD);
    gone.retain(|name| find_name(&state.names, name) || (drops_all && **name == *WILDCARD)); // D4
    if gone.is_empty() {
        return;
    }
    remove_names(&mut state.names, &gone);
    state.wildcard &= !drops_all;
    if state.wildcard {
        add_names(&mut state.pending, gone.iter().cloned()); // D5
        state.dirty = true;
    } else {
        state.forget_unsubscribed();
    }
    events.push(Event::Unsubscribed { resource_type, names: gone });
}

/// The subscriptions of a request.
struct Asked {
    /// Whether it is the first of its type, which reports the resources that the client has.
    is_first: bool,
    /// Whether it subscribes to `*`.
    has_all: bool,
    /// Sorted, distinct, without `*`.
    names: Vec<Arc<str>>,
}

fn add_subscriptions(state: &mut TypeState, resource_type: ResourceType, asked: Asked, events: &mut Vec<Event>) {
    let Asked { is_first, has_all, names } = asked;
    if !has_all && names.is_empty() {
        return;
    }
    state.dirty = true;
    let mut subscriptions = Vec::with_capacity(names.len() + usize::from(has_all));
    if has_all {
        subscriptions.push(Subscription { name: Arc::from(WILDCARD), reported: None });
        if state.wildcard {
            // D3 for all of them.
            add_names(&mut state.pending, state.view.iter().map(|held| held.name().clone()));
        }
        // D9: a client that reports resources was answered before.
        state.first_answer_pending |= !is_first || state.view.is_empty();
        state.wildcard = true;
    }
    let mut asked = Vec::new();
    for name in &names {
        let reported = find(&state.view, name).filter(|_| is_first).map(|held| held.version().into());
        if reported.is_none() {
            asked.push(name.clone());
        }
        subscriptions.push(Subscription { name: name.clone(), reported });
    }
    // D3, C8: a requested resource is sent, whatever the client is thought to have.
    remove_resources(&mut state.view, &asked);
    add_names(&mut state.pending, asked);
    add_names(&mut state.names, names);
    events.push(Event::Subscribed { resource_type, subscriptions });
}

/// Sends the changes of a type, except the removal of clusters and endpoints.
pub(super) fn update(
    core: &mut Core,
    resource_type: ResourceType,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Option<Response> {
    let state = &mut core.types[resource_type as usize];
    let cursor = state.flight.as_mut().and_then(|flight| flight.cursor.take());
    if cursor.is_none() {
        state.dirty = false;
    }
    let mut scan = state.scan(list, cursor.as_deref(), outlives_snapshot(resource_type));

    let mut removed = Vec::new();
    if !tells_absence(resource_type) {
        if !scan.missing.is_empty() {
            remove_names(&mut state.pending, &scan.missing);
            core.leave_unanswered(resource_type, scan.missing, events);
        }
    } else if REFERRED.contains(&resource_type) {
        removed = scan.missing; // D6
        state.has_removals = !scan.removed.is_empty(); // O1
    } else {
        removed = scan.missing; // D6
        add_names(&mut removed, scan.removed); // D7
    }

    let state = &mut core.types[resource_type as usize];
    if scan.due.is_empty() && removed.is_empty() && !state.first_answer_pending {
        state.end_parts();
        return None;
    }
    let mut size = 0;
    let mut fits = |length: usize| {
        let is_first = size == 0;
        size += length;
        is_first || size <= RESPONSE_SIZE
    };
    let resources = scan.due.iter().take_while(|(resource, _)| fits(resource.delta_entry().len())).count();
    let names = match resources == scan.due.len() {
        true => removed.iter().take_while(|name| fits(name.len())).count(),
        false => 0,
    };
    let is_whole = resources == scan.due.len() && names == removed.len();
    scan.due.truncate(resources);
    removed.truncate(names);
    let last = scan.due.last().map(|(resource, _)| resource.name().clone());
    let next = (!is_whole).then(|| last.or(cursor).unwrap_or_else(|| Arc::from("")));
    core.request_requirements(&scan.due);
    let resources = scan.due.into_iter().map(|(resource, _)| resource).collect();
    Some(send(core, resource_type, resources, removed, next, list, events))
}

/// Removes clusters or endpoints, as many as fit into one response.
pub(super) fn take_away(
    core: &mut Core,
    resource_type: ResourceType,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Option<Response> {
    let state = &mut core.types[resource_type as usize];
    let mut to_remove = state.scan(list, None, outlives_snapshot(resource_type)).removed;
    let all = to_remove.len();
    let mut size = 0;
    let fits = |name: &&Arc<str>| {
        size += name.len();
        size <= RESPONSE_SIZE
    };
    to_remove.truncate(to_remove.iter().take_while(fits).count());
    state.has_removals = to_remove.len() < all;
    let is_due = !to_remove.is_empty();
    is_due.then(|| send(core, resource_type, Vec::new(), to_remove, None, list, events))
}

fn send(
    core: &mut Core,
    resource_type: ResourceType,
    resources: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    cursor: Option<Arc<str>>,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Response {
    let nonce = core.next_nonce();
    let state = &mut core.types[resource_type as usize];
    state.first_answer_pending = false;
    if !state.pending.is_empty() {
        state.pending.retain(|name| find(&resources, name).is_none() && !find_name(&removed, name));
        state.pending.shrink_to_fit();
    }
    core.record_sent(resource_type, nonce, &resources, cursor);
    core.forget_refusals(resource_type, |name| find_name(&removed, name));
    let state = &mut core.types[resource_type as usize];
    if !resources.is_empty() {
        state.view = merge(&state.view, &resources).into();
    }
    remove_resources(&mut state.view, &removed);
    state.share(list);
    events.push(Event::Sent { resource_type });
    Response { variant: Variant::Delta, resource_type, nonce, version: String::new(), resources, removed }
}
