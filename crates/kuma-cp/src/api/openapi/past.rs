//! The description of `at`, `/history`, `/diff` and `/rollback`.

use kuma_model::Kind;
use kuma_store::PAGE_LIMIT;
use serde_json::{Map, Value, json};

use super::{get, list, name, responses, revision_headers};
use crate::api::history::{DEFAULT_LIMIT, kinds};
use crate::documents::{MAX_DOCUMENTS, Rollback};

const CHANGES: [&str; 3] = ["created", "updated", "deleted"];

/// Adds the parameter `at` to the GET of documents.
pub(super) fn add_at(operation: &mut Value) {
    let at = query("at", moment(), "The state at that revision or time; the headers name the revision");
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(at),
        None => operation["parameters"] = json!([at]),
    }
    operation["responses"]["200"]["headers"] = revision_headers();
    if let Some(all) = operation["responses"].as_object_mut() {
        all.extend(responses(&["410"]).as_object().cloned().unwrap_or_default());
    }
}

pub(super) fn history() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["items", "floor", "next"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/components/schemas/Commit"}},
            "floor": {
                "type": "integer", "minimum": 0, "description": "The oldest revision whose state is known",
            },
            "next": {"type": ["string", "null"], "description": "Where older commits are"},
        },
    });
    let mut operation = get("What was changed, newest first", schema, &["400"]);
    let time = || json!({"type": "string", "format": "date-time"});
    operation["parameters"] = json!([
        query("mesh", name(), "Commits that changed something in this mesh"),
        query("type", json!({"enum": kinds().collect::<Vec<_>>()}), "Commits that changed a document of this type"),
        query("name", name(), "Commits that changed a document of this name"),
        query("since", time(), "Commits made then or later"),
        query("until", time(), "Commits made then or before"),
        query("before", json!({"type": "integer", "minimum": 0}), "Commits before this revision"),
        query(
            "limit",
            json!({"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": DEFAULT_LIMIT}),
            "How many at most"
        ),
    ]);
    operation
}

pub(super) fn diff() -> Value {
    let mut from = query("from", moment(), "The state before");
    from["required"] = true.into();
    let parameters = [
        from,
        query("to", moment(), "The state after; the present one, if it is left out"),
        query("mesh", name(), "Only documents of this mesh"),
    ];
    let item = json!({"$ref": "#/components/schemas/Difference"});
    let mut operation = list("Documents that differ between two states", &item, &parameters);
    let schema = &mut operation["responses"]["200"]["content"]["application/json"]["schema"];
    schema["required"] = json!(["items", "from", "to"]);
    for state in ["from", "to"] {
        schema["properties"][state] = json!({"type": "integer", "minimum": 0});
    }
    operation["responses"]["200"]["headers"] = revision_headers();
    operation["responses"]["410"] = responses(&["410"])["410"].clone();
    operation
}

pub(super) fn rollback() -> Value {
    let mut responses = responses(&["400", "403", "405", "408", "409", "410", "413", "415", "503"]);
    let schema = |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    let description = "The plan, which is executed unless dryRun is set";
    responses["200"] = json!({"description": description, "headers": revision_headers(), "content": schema("Plan")});
    responses["409"]["description"] =
        "It needs force, or documents of the plan have changed since expected. It contains the present plan".into();
    responses["409"]["headers"] = revision_headers();
    responses["409"]["content"]["application/json"]["schema"] = json!({
        "allOf": [
            {"$ref": "#/components/schemas/Error"},
            {"type": "object", "properties": {"plan": {"$ref": "#/components/schemas/Plan"}}},
        ],
    });
    json!({
        "summary": "Restores documents of an earlier revision by a new commit",
        "requestBody": {"required": true, "content": schema("Rollback")},
        "responses": responses,
    })
}

pub(super) fn schemas() -> Map<String, Value> {
    let schemas = [
        ("Commit", commit_schema()),
        ("Difference", difference_schema()),
        ("Rollback", rollback_schema()),
        ("Plan", plan_schema()),
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn commit_schema() -> Value {
    let change = json!({
        "type": "object",
        "required": ["type", "change"],
        "description": "Secrets have neither a name nor a document",
        "properties": {
            "type": {"type": "string"}, "mesh": name(), "name": name(), "change": {"enum": CHANGES},
            "version": {"type": ["integer", "null"], "minimum": 1},
        },
    });
    json!({
        "type": "object",
        "required": ["revision", "id", "time", "author", "via", "note", "changes"],
        "properties": {
            "revision": {"type": "integer", "minimum": 1},
            "id": {"type": "string", "format": "uuid"},
            "time": {"type": "string", "format": "date-time"},
            "author": {"type": "string"}, "via": {"type": "string"}, "note": {"type": "string"},
            "changes": {"type": "array", "items": change},
        },
    })
}

fn difference_schema() -> Value {
    let document = || json!({"type": ["object", "null"]});
    json!({
        "type": "object",
        "required": ["type", "name", "change", "before", "after"],
        "properties": {
            "type": {"type": "string"}, "mesh": name(), "name": name(), "change": {"enum": CHANGES},
            "before": document(), "after": document(),
        },
    })
}

fn rollback_schema() -> Value {
    let names = |kinds: &mut dyn Iterator<Item = &'static Kind>| -> Vec<&str> { kinds.map(|kind| kind.name).collect() };
    let usual = names(&mut Rollback::usual_kinds());
    let flag = |description: &str| json!({"type": ["boolean", "null"], "description": description});
    let mut to = moment();
    to["type"] = json!(["string", "integer"]);
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["to"],
        "description": format!("At most {MAX_DOCUMENTS} documents are changed"),
        "properties": {
            "to": to,
            "mesh": {"type": ["string", "null"], "description": "Only documents of this mesh"},
            "types": {
                "type": ["array", "null"],
                "items": {"enum": names(&mut Rollback::possible_kinds())},
                "description": format!("Only documents of these types; {} if there is none", usual.join(", ")),
            },
            "expected": {
                "type": ["integer", "null"], "minimum": 0,
                "description": "The revision of the plan: its documents must not have changed since",
            },
            "dryRun": flag("Only return the plan"),
            "force": flag("Execute a plan that cannot be undone, too"),
        },
    })
}

fn plan_schema() -> Value {
    json!({
        "type": "object",
        "required": ["to", "revision", "epoch", "irreversible", "changes"],
        "properties": {
            "to": {"type": "integer", "minimum": 0},
            "revision": {
                "type": "integer", "minimum": 0,
                "description": "The latest one at the time of the plan; after the rollback, that of its commit",
            },
            "epoch": {"type": "string"},
            "irreversible": {"type": "array", "items": {"type": "string"}},
            "changes": {"type": "array", "items": {"$ref": "#/components/schemas/Difference"}},
        },
    })
}

/// A state, by revision or time.
fn moment() -> Value {
    json!({"type": "string", "description": "A revision, a time such as 2026-11-30T14:00:00Z, or latest"})
}

fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description})
}
