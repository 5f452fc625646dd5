use kuma_model::{Document, KINDS, Key, Selector, Tags, TrafficRoute, WeightedDestination, decode_spec, kind, text};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Names that occur in specs, so that arbitrary objects reach far into the reading; and some that don't.
const NAMES: &[&str] = &[
    "networking",
    "inbound",
    "outbound",
    "interface",
    "address",
    "port",
    "servicePort",
    "tags",
    "gateway",
    "service",
    "transparentProxying",
    "redirect_port",
    "redirectPortInbound",
    "mtls",
    "ca",
    "builtin",
    "provided",
    "enabled",
    "logging",
    "backends",
    "defaultBackend",
    "name",
    "format",
    "file",
    "path",
    "tcp",
    "tracing",
    "zipkin",
    "url",
    "sampling",
    "metrics",
    "prometheus",
    "sources",
    "destinations",
    "match",
    "conf",
    "weight",
    "destination",
    "selectors",
    "imports",
    "resources",
    "version",
    "resource",
    "activeChecks",
    "interval",
    "timeout",
    "unhealthyThreshold",
    "passiveChecks",
    "penaltyInterval",
    "subscriptions",
    "connectTime",
    "status",
    "total",
    "responsesSent",
    "",
    "\n",
    "x.y",
    "é",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000_u32).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "*",
            "web",
            "127.0.0.1:80:8080",
            ":80",
            "::1",
            "1s",
            "-1h",
            "default-proxy",
            "a: 1"
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        let name = prop_oneof![9 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn tags() -> impl Strategy<Value = Tags> {
    let rest = prop::collection::btree_map("[a-z]{1,6}", "[a-zA-Z0-9._*-]{1,8}", 0..4);
    (rest, "[a-zA-Z0-9_:-]{1,12}")
        .prop_map(|(rest, service)| rest.into_iter().chain([("service".to_owned(), service)]).collect())
}

fn route() -> impl Strategy<Value = TrafficRoute> {
    let sources = prop::collection::vec(tags().prop_map(Selector::from), 1..4);
    let destination = tags().prop_map(|tags| Selector::from([("service", tags.service().unwrap_or("web"))]));
    let way = (0..1000_u32, tags()).prop_map(|(weight, destination)| WeightedDestination { weight, destination });
    (sources, prop::collection::vec(destination, 1..3), prop::collection::vec(way, 1..4))
        .prop_map(|(sources, destinations, conf)| TrafficRoute { sources, destinations, conf })
}

proptest! {
    #[test]
    fn no_json_makes_a_check_panic(json in any_json()) {
        let _ = Document::parse(&json);
        let empty = Map::new();
        let spec = json.as_object().unwrap_or(&empty);
        for kind in KINDS {
            let mut document = spec.clone();
            document.insert("type".into(), kind.name.into());
            let _ = Document::parse(&Value::Object(document));
            if let Ok(stored) = kind.check(spec) {
                let again = kind.check(stored.as_object().expect("a spec is an object"));
                prop_assert_eq!(again.as_ref(), Ok(&stored), "what is stored can be stored again");
                let document = Document { key: Key::new(kind.name, "default", "a"), spec: stored };
                prop_assert_eq!(kind.row(&document).len(), kind.titles().len());
            }
        }
    }

    #[test]
    fn documents_come_back_from_json_and_yaml(route in route()) {
        let spec = serde_json::to_value(&route).expect("JSON");
        let spec = kind("TrafficRoute").expect("a kind").check(spec.as_object().expect("an object"));
        let spec = spec.map_err(|violations| TestCaseError::fail(violations.to_string()))?;
        let document = Document { key: Key::new("TrafficRoute", "default", "a"), spec };
        let json = document.to_json();
        prop_assert_eq!(Document::parse(&json), Ok(document.clone()));
        prop_assert_eq!(text::parse_json(json.to_string().as_bytes()), Ok(json.clone()));
        let yaml = format!("---\n{json:#}\n---\n");
        prop_assert_eq!(text::parse_documents(&yaml), Ok(vec![json]));
        prop_assert_eq!(decode_spec::<TrafficRoute>(&document.spec), Ok(route));
    }

    #[test]
    fn no_text_makes_the_reading_panic(text in "([-{}\\[\\]:,&*!|>'\"#%@\n a-c0-9]{0,40}|.{0,40})") {
        let _ = text::parse_documents(&text);
        let _ = text::parse_json(text.as_bytes());
    }
}
