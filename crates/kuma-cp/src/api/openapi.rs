//! The OpenAPI 3.1 description of the HTTP API, made of [`KINDS`] and the paths.
//!
//! What a kind's own fields may hold is not described: rules between fields and messages with the field's path come
//! from the check of the document itself.

mod past;

use kuma_model::{DataplaneInsight, KINDS, Kind, Resource as _, Scope};
use serde_json::{Map, Value, json};

use super::changes::MAX_DOCUMENTS;
use super::page::{MAX_OFFSET, MAX_SIZE};
use super::receipts::{EXCEPTIONS, LISTED, LONGEST_WAIT, STATES};
use super::revision::{EPOCH, REVISION};
use super::store::NAMED;

/// Characters of names (see [`kuma_model::check_name`]).
const NAME: &str = "^[0-9a-z_-]+$";

/// The description.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    paths.insert("/".into(), json!({"get": get("Says what this is", json!({"type": "object"}), &[])}));
    paths.insert("/catalog".into(), json!({"get": get("Where the other servers are", json!({"type": "object"}), &[])}));
    paths.insert("/config".into(), json!({"get": get("The effective configuration", json!({"type": "object"}), &[])}));
    paths.insert("/openapi.json".into(), json!({"get": get("This description", json!({"type": "object"}), &[])}));
    paths.insert("/changes".into(), json!({"get": list_changes(), "post": changes()}));
    paths.insert("/changes/{revision}".into(), json!({"get": receipt()}));
    let store = json!({"$ref": "#/components/schemas/Store"});
    let about = "Which store it is, whether it has everything, and what would be taken away if it were accepted";
    paths.insert("/store".into(), json!({"get": get(about, store.clone(), &[])}));
    paths.insert("/store/accept".into(), json!({"post": accept_store(&store)}));
    paths.insert("/history".into(), json!({"get": past::history()}));
    paths.insert("/diff".into(), json!({"get": past::diff()}));
    paths.insert("/rollback".into(), json!({"post": past::rollback()}));
    let mut schemas = Map::new();
    schemas.extend(past::schemas());
    schemas.insert("Error".into(), error());
    schemas.insert("Changes".into(), changes_schema());
    schemas.insert("Changed".into(), changed_schema());
    schemas.insert("Receipt".into(), receipt_schema());
    schemas.insert("Store".into(), store_schema());
    for kind in KINDS {
        schemas.insert(kind.name.into(), schema(kind));
        let collection = match kind.scope {
            Scope::Global => format!("/{}", kind.api_path),
            Scope::Mesh => format!("/meshes/{{mesh}}/{}", kind.api_path),
        };
        let items = json!({"$ref": format!("#/components/schemas/{}", kind.name)});
        let what = format!("Lists resources of kind {}", kind.name);
        let mut all = json!({"get": list(&what, &items, &[])});
        let mut operations = json!({"get": get(&format!("One {}", kind.name), items, &["304", "400", "404"])});
        if kind.name != DataplaneInsight::KIND {
            past::add_at(&mut all["get"]);
            past::add_at(&mut operations["get"]);
        }
        paths.insert(collection.clone(), with_parameters(kind.scope, false, all));
        operations["put"] = put(kind);
        operations["delete"] = delete(kind);
        paths.insert(format!("{collection}/{{name}}"), with_parameters(kind.scope, true, operations));
    }
    let overview = json!({"$ref": "#/components/schemas/DataplaneOverview"});
    schemas.insert("DataplaneOverview".into(), overview_schema());
    let collection = "/meshes/{mesh}/dataplanes+insights";
    let tag = json!({
        "name": "tag", "in": "query", "required": false, "explode": true,
        "description": "KEY:VALUE; of several, one inbound has to have all; `*` is any value",
        "schema": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+:[a-z0-9*]+$"}},
    });
    let overviews = list("Lists Dataplanes together with what their proxies report", &overview, &[tag]);
    paths.insert(collection.into(), with_parameters(Scope::Mesh, false, json!({"get": overviews})));
    let one = json!({"get": get("A Dataplane together with what its proxy reports", overview, &["404"])});
    paths.insert(format!("{collection}/{{name}}"), with_parameters(Scope::Mesh, true, one));
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Kuma HTTP API", "version": kuma_version::VERSION, "license": {"name": "Apache-2.0",
            "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn with_parameters(scope: Scope, item: bool, mut operations: Value) -> Value {
    // Reading a list of a mesh that cannot exist gives an empty one.
    let text = |name: &str| {
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string",
        "minLength": 1}})
    };
    let mut parameters = Vec::new();
    if scope == Scope::Mesh {
        parameters.push(text("mesh"));
    }
    if item {
        parameters.push(text("name"));
    }
    if !parameters.is_empty() {
        operations["parameters"] = Value::Array(parameters);
    }
    operations
}

fn get(summary: &str, schema: Value, further: &[&str]) -> Value {
    let mut responses = responses(&[further, &["503"]].concat());
    responses["200"] = json!({"description": "It", "content": {"application/json": {"schema": schema}}});
    json!({"summary": summary, "responses": responses})
}

fn list(summary: &str, item: &Value, parameters: &[Value]) -> Value {
    let number = |name: &str, schema: Value| json!({"name": name, "in": "query", "required": false, "schema": schema});
    let mut all = vec![
        number("size", json!({"type": "integer", "minimum": 1, "maximum": MAX_SIZE})),
        number("offset", json!({"type": "integer", "minimum": 0, "maximum": MAX_OFFSET})),
    ];
    all.extend(parameters.iter().cloned());
    let schema = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"type": ["string", "null"]},
            "total": {"type": "integer", "minimum": 0},
        },
    });
    let mut operation = get(summary, schema, &["400"]);
    operation["parameters"] = Value::Array(all);
    operation
}

fn put(kind: &Kind) -> Value {
    let mut responses = responses(&["400", "403", "405", "408", "409", "412", "413", "415", "503"]);
    responses["200"] = json!({"description": "It was there and is replaced", "headers": revision_headers()});
    responses["201"] = json!({"description": "It is new", "headers": revision_headers()});
    let schema = json!({"$ref": format!("#/components/schemas/{}", kind.name)});
    json!({
        "summary": format!("Creates or replaces a {}", kind.name),
        "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
        "responses": responses,
    })
}

fn delete(kind: &Kind) -> Value {
    let mut responses = responses(&["403", "404", "405", "409", "412", "503"]);
    responses["200"] = json!({"description": "It is gone", "headers": revision_headers()});
    json!({"summary": format!("Deletes a {}", kind.name), "responses": responses})
}

fn changes() -> Value {
    let mut responses = responses(&["400", "403", "404", "405", "408", "409", "413", "415", "503"]);
    let schema = |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    let description = "All changes are made, or would be";
    responses["200"] = json!({"description": description, "headers": revision_headers(), "content": schema("Changed")});
    responses["409"]["headers"] = revision_headers();
    json!({
        "summary": "Creates, replaces and deletes resources, all or none, in one commit",
        "parameters": [{
            "name": "dryRun", "in": "query", "required": false, "schema": {"type": "boolean"},
            "description": "Only say what would come of it",
        }],
        "requestBody": {"required": true, "content": schema("Changes")},
        "responses": responses,
    })
}

fn accept_store(store: &Value) -> Value {
    let mut responses = responses(&["400", "403", "405", "408", "409", "413", "415", "503"]);
    let description = "From now on what the store lacks does not exist; what that has taken away";
    responses["200"] = json!({"description": description, "content": {"application/json": {"schema": store}}});
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"store": {"type": ["string", "null"], "description": "The store that it has to be"}},
    });
    json!({
        "summary": "Says that what the store lacks does not exist",
        "requestBody": {"required": false, "content": {"application/json": {"schema": schema}}},
        "responses": responses,
    })
}

fn store_schema() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let document = json!({
        "type": "object",
        "required": ["type", "name"],
        "properties": {"type": {"type": "string"}, "mesh": name(), "name": {"type": "string"}},
    });
    let proxy = json!({
        "type": "object", "required": ["mesh", "name"],
        "properties": {"mesh": {"type": "string"}, "name": {"type": "string"}},
    });
    let list = |items: Value| json!({"type": "array", "maxItems": NAMED, "items": items});
    json!({
        "type": "object",
        "required": ["store", "revision", "commit", "durable", "complete", "away", "missing"],
        "properties": {
            "store": {"type": "string"}, "revision": count.clone(), "commit": {"type": "string"},
            "durable": {"type": "boolean"}, "complete": {"type": "boolean"},
            "away": {"type": ["string", "null"], "description": "Why it cannot be reached"},
            "missing": {
                "type": "object",
                "required": ["documents", "documentCount", "proxies", "proxyCount"],
                "properties": {
                    "documents": list(document), "documentCount": count.clone(),
                    "proxies": list(proxy), "proxyCount": count.clone(),
                },
            },
        },
    })
}

fn list_changes() -> Value {
    let items = json!({"type": "array", "maxItems": LISTED, "items": {"$ref": "#/components/schemas/Receipt"}});
    let schema = json!({"type": "object", "required": ["items"], "properties": {"items": items}});
    let mut operation = get("The latest changes, the latest first, and how far each has come", schema, &["400", "410"]);
    operation["parameters"] = json!([epoch()]);
    operation
}

fn receipt() -> Value {
    let schema = json!({"$ref": "#/components/schemas/Receipt"});
    let mut operation = get("A change, and how far it has come", schema, &["400", "404", "410"]);
    let seconds = LONGEST_WAIT.as_secs();
    operation["parameters"] = json!([
        {"name": "revision", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0}},
        {
            "name": "wait", "in": "query", "required": false, "schema": {"type": "string",
                "pattern": "^[0-9]{1,4}(ms|s)$"},
            "description": format!("Answer when that is final, or after this time, which is {seconds}s at most"),
        },
        {
            "name": "all", "in": "query", "required": false, "schema": {"type": "boolean"},
            "description": "Wait for proxies that were silent before the change as well",
        },
        epoch(),
    ]);
    operation
}

fn epoch() -> Value {
    json!({
        "name": "epoch", "in": "query", "required": false, "schema": {"type": "string"},
        "description": "What the revision belongs to; another epoch than the present one is answered with 410",
    })
}

fn receipt_schema() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let counts = ["concerned", "accepted", "refused", "waiting", "superseded", "silent", "away", "held", "joined"];
    let counts: Map<String, Value> = counts.iter().map(|name| ((*name).to_owned(), count.clone())).collect();
    let seconds = ["first", "p50", "p99", "last"].map(|name| (name.to_owned(), json!({"type": ["number", "null"]})));
    let document = json!({
        "type": "object",
        "required": ["type", "name", "change"],
        "properties": {
            "type": {"type": "string"}, "mesh": name(), "name": name(), "change": {"enum": ["written", "deleted"]},
        },
    });
    let exception = json!({
        "type": "object",
        "required": ["dataplane", "state"],
        "properties": {
            "dataplane": {"type": "string"},
            "state": {"enum": EXCEPTIONS},
            "type": {"type": "string"}, "resource": {"type": "string"}, "message": {"type": "string"},
            "sinceRevision": {"type": "integer", "minimum": 0}, "since": {"type": "string"},
        },
    });
    json!({
        "type": "object",
        "required": ["revision", "epoch", "state", "documents", "proxies", "seconds", "exceptions"],
        "properties": {
            "revision": {"type": "integer", "minimum": 0},
            "epoch": {"type": "string"},
            "time": {"type": "string"},
            "state": {"enum": STATES},
            "documents": {"type": "array", "items": document},
            "proxies": {"type": "object", "required": counts.keys().collect::<Vec<_>>(), "properties": counts},
            "seconds": {"type": "object", "properties": Map::from_iter(seconds)},
            "exceptions": {"type": "array", "items": exception},
        },
    })
}

fn revision_headers() -> Value {
    json!({
        REVISION.as_str(): {
            "description": "The revision of the change, or the latest one if nothing has changed",
            "schema": {"type": "integer", "minimum": 0},
        },
        EPOCH.as_str(): {"description": "What the revision belongs to", "schema": {"type": "string"}},
    })
}

fn changes_schema() -> Value {
    let kinds = KINDS.iter().map(|kind| json!({"$ref": format!("#/components/schemas/{}", kind.name)}));
    let key = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type", "name"],
        "properties": {"type": {"type": "string"}, "mesh": name(), "name": name()},
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": format!("At most {MAX_DOCUMENTS} resources in all, each once"),
        "properties": {
            "apply": {"type": ["array", "null"], "items": {"oneOf": kinds.collect::<Vec<_>>()}},
            "delete": {"type": ["array", "null"], "items": key},
            "expected": {
                "type": ["integer", "null"], "minimum": 0,
                "description": "The revision that has to be the latest",
            },
            "dryRun": {"type": ["boolean", "null"], "description": "Only say what would come of it"},
        },
    })
}

fn changed_schema() -> Value {
    json!({
        "type": "object",
        "required": ["revision", "epoch", "outcomes"],
        "properties": {
            "revision": {"type": "integer", "minimum": 0},
            "epoch": {"type": "string"},
            "outcomes": {
                "type": "array",
                "description": "Those of apply, then those of delete, in their order",
                "items": {
                    "type": "object",
                    "required": ["type", "name", "outcome"],
                    "properties": {
                        "type": {"type": "string"},
                        "mesh": name(),
                        "name": name(),
                        "outcome": {"enum": ["created", "updated", "unchanged", "deleted"]},
                    },
                },
            },
        },
    })
}

fn responses(codes: &[&str]) -> Value {
    let one = |code: &&str| match *code {
        "304" => ((*code).to_owned(), json!({"description": "Not Modified"})),
        code => {
            let status = code.parse().ok().and_then(|code| http::StatusCode::from_u16(code).ok());
            let description = status.and_then(|status| status.canonical_reason()).unwrap_or("An error");
            let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
            (code.to_owned(), json!({"description": description, "content": content}))
        }
    };
    Value::Object(codes.iter().map(one).collect())
}

fn name() -> Value {
    json!({"type": "string", "pattern": NAME, "maxLength": 100})
}

fn schema(kind: &Kind) -> Value {
    let mut properties = json!({"type": {"const": kind.name}, "name": name()});
    let mut required = vec!["type", "name"];
    if kind.scope == Scope::Mesh {
        properties["mesh"] = name();
        required.push("mesh");
    }
    json!({"type": "object", "required": required, "properties": properties})
}

fn overview_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "mesh", "name", "dataplane"],
        "properties": {
            "type": {"const": "DataplaneOverview"},
            "mesh": name(),
            "name": name(),
            "dataplane": {"type": "object"},
            "dataplaneInsight": {"type": "object"},
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["title", "details"],
        "properties": {
            "title": {"type": "string"},
            "details": {"type": "string"},
            "causes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                },
            },
        },
    })
}
