//! The state-of-the-world variant.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::core::Core;
use super::state::{WILDCARD, has_legacy_wildcard, outlives_snapshot, tells_absence};
use super::view::{add_names, find_name, merge, remove_names, remove_resources, targets, version_of};
use super::{Event, Subscription, Variant};
use crate::grpc::Status;
use crate::snapshot::find;
use crate::wire::DiscoveryRequest;
use crate::{Resource, ResourceList, Response};

/// Whether a response holds all resources of its type. For clusters and listeners the protocol requires that (S2). For
/// secrets and extension configs Envoy does: it is an error for it if a subscribed resource is not in a response. For
/// endpoints and routes the changed ones are enough (S3).
fn is_sent_whole(resource_type: ResourceType) -> bool {
    !matches!(resource_type, ResourceType::Endpoint | ResourceType::Route)
}

pub(super) fn on_request(
    core: &mut Core,
    resource_type: ResourceType,
    request: DiscoveryRequest,
    events: &mut Vec<Event>,
) -> Result<(), Status> {
    let DiscoveryRequest { node: _, type_url: _, version_info, resource_names, response_nonce, error_detail } = request;
    let state = &core.types[resource_type as usize];
    if state.last_nonce != 0 && response_nonce.parse() != Ok(state.last_nonce) {
        // S1. The client has not received the last response yet; its answer to that will repeat all its subscriptions.
        return Ok(());
    }
    core.check_names(resource_names.iter(), state.names.len())?;
    core.on_answer(resource_type, &response_nonce, error_detail, events);

    let mut names: Vec<Arc<str>> = Vec::new();
    let named = resource_names.iter().filter(|name| *name != WILDCARD);
    add_names(&mut names, named.map(|name| core.intern(resource_type, name)));

    let state = &mut core.types[resource_type as usize];
    let is_first = !state.seen;
    // C11, C12.
    state.has_named |= !resource_names.is_empty();
    let wildcard =
        resource_names.iter().any(|name| name == WILDCARD) || (!state.has_named && has_legacy_wildcard(resource_type));
    let added: Vec<Arc<str>> = names.iter().filter(|name| !find_name(&state.names, name)).cloned().collect();
    let mut gone = std::mem::replace(&mut state.names, names);
    remove_names(&mut gone, &state.names);

    let mut subscriptions = Vec::new();
    if wildcard && !state.wildcard {
        subscriptions.push(Subscription { name: Arc::from(WILDCARD), reported: None });
        state.first_answer_pending = true;
    }
    if state.wildcard && !wildcard {
        gone.push(Arc::from(WILDCARD));
    }
    state.wildcard = wildcard;
    let subscription = |name: &Arc<str>| Subscription { name: name.clone(), reported: None };
    subscriptions.extend(added.iter().map(subscription));

    if is_first {
        state.seen = true;
        state.dirty = true;
        if !version_info.is_empty() {
            // The client does not report which resources it has. It is only known that a placeholder must not replace
            // one.
            let held = |name: &Arc<str>| Arc::new(Resource::held(resource_type, name.clone(), ""));
            state.view = added.iter().map(held).collect();
            state.reported_version = Some(version_info.into());
            core.is_resumed |= resource_type == ResourceType::Cluster;
            events.push(Event::Reported { resource_type, versions: Vec::new() });
        }
    } else {
        remove_resources(&mut state.view, &added);
    }
    state.dirty |= !subscriptions.is_empty();
    add_names(&mut state.pending, added); // C8
    state.forget_unsubscribed(); // S4
    if !gone.is_empty() {
        events.push(Event::Unsubscribed { resource_type, names: gone });
    }
    if !subscriptions.is_empty() {
        events.push(Event::Subscribed { resource_type, subscriptions });
    }
    Ok(())
}

/// Sends the changes of a type, except the removal of clusters.
pub(super) fn update(
    core: &mut Core,
    resource_type: ResourceType,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Option<Response> {
    let state = &mut core.types[resource_type as usize];
    state.dirty = false;
    if let Some(version) = state.reported_version.take()
        && state.wildcard
        && state.names.is_empty()
        && *version == *version_of(list)
    {
        state.view = list.clone(); // S5
        state.first_answer_pending = false;
    }

    let scan = state.scan(list, None, outlives_snapshot(resource_type));
    let mut is_due = state.first_answer_pending || !scan.due.is_empty();
    match resource_type {
        ResourceType::Cluster => {
            is_due |= !scan.missing.is_empty();
            state.has_removals = !scan.removed.is_empty();
        }
        // A resource that was removed, or does not exist, is reported by its absence.
        ResourceType::Listener => is_due |= !scan.missing.is_empty() || !scan.removed.is_empty(),
        ResourceType::Endpoint | ResourceType::Route => {
            remove_resources(&mut state.view, &scan.removed);
            core.forget_refusals(resource_type, |name| find_name(&scan.removed, name));
        }
        ResourceType::Secret | ResourceType::ExtensionConfig => {}
    }
    // C9: names that do not exist need not stay pending, since the client has no such resource.
    remove_names(&mut core.types[resource_type as usize].pending, &scan.missing);
    if !tells_absence(resource_type) && !scan.missing.is_empty() {
        core.leave_unanswered(resource_type, scan.missing, events);
    }
    if !is_due {
        return None;
    }
    let resources = if is_sent_whole(resource_type) {
        let now = wanted(core, resource_type, list);
        match resource_type {
            ResourceType::Listener => now,
            // Removed clusters stay until `take_away`; secrets and extension configs stay for good.
            _ => {
                let held = &core.types[resource_type as usize].view;
                let held: Vec<Arc<Resource>> = held.iter().filter(|held| held.has_body()).cloned().collect();
                merge(&held, &now)
            }
        }
    } else {
        scan.due.iter().map(|(resource, _)| resource.clone()).collect()
    };
    core.request_requirements(&scan.due);
    Some(send(core, resource_type, resources, list, events))
}

/// Removes clusters.
pub(super) fn take_away(
    core: &mut Core,
    resource_type: ResourceType,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Option<Response> {
    let state = &mut core.types[resource_type as usize];
    state.has_removals = false;
    if state.scan(list, None, outlives_snapshot(resource_type)).removed.is_empty() {
        return None;
    }
    let resources = wanted(core, resource_type, list);
    Some(send(core, resource_type, resources, list, events))
}

fn wanted(core: &Core, resource_type: ResourceType, list: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
    let state = &core.types[resource_type as usize];
    targets(state.wildcard, &state.names, list).filter(|resource| resource.has_body()).cloned().collect()
}

fn send(
    core: &mut Core,
    resource_type: ResourceType,
    resources: Vec<Arc<Resource>>,
    list: &ResourceList,
    events: &mut Vec<Event>,
) -> Response {
    let nonce = core.next_nonce();
    let state = &mut core.types[resource_type as usize];
    state.first_answer_pending = false;
    state.pending.retain(|name| find(&resources, name).is_none());
    state.pending.shrink_to_fit();
    core.record_sent(resource_type, nonce, &resources, None);
    if is_sent_whole(resource_type) {
        core.forget_refusals(resource_type, |name| find(&resources, name).is_none());
    }
    let state = &mut core.types[resource_type as usize];
    state.view = match is_sent_whole(resource_type) {
        true => resources.as_slice().into(),
        false => merge(&state.view, &resources).into(),
    };
    state.share(list);
    let version = version_of(&state.view);
    events.push(Event::Sent { resource_type });
    Response { variant: Variant::Sotw, resource_type, nonce, version, resources, removed: Vec::new() }
}
