//! Which template a proxy has, and whom a change of one concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_mesh::{MeshSnapshot, Template};
use kuma_model::{Dataplane, Selector, Tags};
use proptest::prelude::*;

use crate::support::{dataplane, mesh, spec};

fn template(selectors: &[&[(&str, &str)]]) -> Arc<Template> {
    let selectors = selectors.iter().map(|tags| Selector { tags: tags_of(tags) }).collect();
    Arc::new(Template { selectors, default_proxy: true, resources: Vec::new() })
}

fn tags_of(tags: &[(&str, &str)]) -> Tags {
    Tags(tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn set(mesh: &mut MeshSnapshot, name: &str, selectors: &[&[(&str, &str)]]) {
    mesh.set_template(&Arc::from(name), Some(template(selectors)));
}

fn chosen<'a>(mesh: &'a MeshSnapshot, dataplane: &str) -> Option<&'a str> {
    let dataplane = mesh.dataplane(dataplane).expect("a Dataplane");
    mesh.template(dataplane).map(|(name, _)| name.as_ref())
}

#[test]
fn more_tags_then_exact_ones_then_the_name() {
    let mut mesh = mesh(&[("web-1", dataplane(&["service: web, version: v1, region: us"], &[]))]);
    assert_eq!(chosen(&mesh, "web-1"), None);
    for (name, selector) in [
        ("z-everyone", &[][..]),
        ("m-wildcard", &[("service", "*")]),
        ("n-wildcard-too", &[("service", "*")]),
        ("l-exact", &[("service", "web")]),
        ("k-wildcards", &[("service", "*"), ("version", "*")]),
        ("j-mixed", &[("service", "web"), ("version", "*")]),
        ("i-exact", &[("service", "web"), ("version", "v1")]),
        ("h-more", &[("service", "*"), ("version", "*"), ("region", "*")]),
    ] {
        let selectors = if selector.is_empty() { &[][..] } else { &[selector][..] };
        set(&mut mesh, name, selectors);
        let expected = if name == "n-wildcard-too" { "m-wildcard" } else { name };
        assert_eq!(chosen(&mesh, "web-1"), Some(expected));
    }
    set(&mut mesh, "a-other", &[&[("service", "web"), ("version", "v2"), ("region", "us"), ("zone", "*")]]);
    assert_eq!(chosen(&mesh, "web-1"), Some("h-more"));
    set(&mut mesh, "a-one-of-two", &[&[("service", "db")], &[("service", "web"), ("version", "v1"), ("region", "us")]]);
    assert_eq!(chosen(&mesh, "web-1"), Some("a-one-of-two"));
    mesh.set_template(&Arc::from("a-one-of-two"), None);
    assert_eq!(chosen(&mesh, "web-1"), Some("h-more"));
}

#[test]
fn gateways_count_and_tags_of_two_inbounds_are_not_mixed() {
    let gateway: Dataplane = spec("networking: {address: 10.0.0.1, gateway: {tags: {service: kong, version: v1}}}");
    let two = dataplane(&["service: a, version: v1", "service: b, version: v2"], &[]);
    let mut mesh = mesh(&[("gateway", gateway), ("two", two)]);
    set(&mut mesh, "kong", &[&[("service", "kong"), ("version", "*")]]);
    set(&mut mesh, "mixed", &[&[("service", "a"), ("version", "v2")]]);
    assert_eq!(chosen(&mesh, "gateway"), Some("kong"));
    assert_eq!(chosen(&mesh, "two"), None);
    set(&mut mesh, "second", &[&[("service", "b"), ("version", "v2")]]);
    assert_eq!(chosen(&mesh, "two"), Some("second"));
}

const VALUES: &[&str] = &["a", "b", "*"];

fn tags(values: &'static [&'static str]) -> impl Strategy<Value = Tags> {
    (prop::sample::select(values), prop::option::of(prop::sample::select(values))).prop_map(|(service, version)| {
        let version = version.map(|version| ("version", version));
        tags_of(&std::iter::once(("service", service)).chain(version).collect::<Vec<_>>())
    })
}

type Edit = (usize, Option<Vec<Tags>>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let selectors = prop::option::weighted(0.8, prop::collection::vec(tags(VALUES), 0..3));
    prop::collection::vec((0..4usize, selectors), 1..12)
}

/// The rule in as few words as it has.
fn naive(templates: &BTreeMap<String, Vec<Tags>>, tag_sets: &[Tags]) -> Option<String> {
    let score = |selector: &Tags| {
        let has = |tags: &Tags| {
            selector.0.iter().all(|(key, value)| tags.0.get(key).is_some_and(|own| value == "*" || value == own))
        };
        let exact = selector.0.values().filter(|value| *value != "*").count();
        tag_sets.iter().any(has).then_some((selector.0.len(), exact))
    };
    let best = |selectors: &Vec<Tags>| {
        if selectors.is_empty() { Some((0, 0)) } else { selectors.iter().filter_map(score).max() }
    };
    let mut candidates: Vec<_> =
        templates.iter().filter_map(|(name, selectors)| Some((std::cmp::Reverse(best(selectors)?), name))).collect();
    candidates.sort();
    candidates.first().map(|(_, name)| (*name).clone())
}

proptest! {
    #[test]
    fn the_choice_is_the_naive_one_and_who_is_not_named_keeps_it(
        proxies in prop::collection::vec(prop::collection::vec(tags(&["a", "b"]), 1..3), 1..4),
        edits in edits(),
    ) {
        let mut mesh = MeshSnapshot::new("default", false);
        for (index, tag_sets) in proxies.iter().enumerate() {
            let inbounds: Vec<String> = tag_sets
                .iter()
                .map(|tags| tags.0.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", "))
                .collect();
            let inbounds: Vec<&str> = inbounds.iter().map(String::as_str).collect();
            mesh.set_dataplane(&Arc::from(format!("proxy-{index}")), Some(dataplane(&inbounds, &[])));
        }
        let mut templates: BTreeMap<String, Vec<Tags>> = BTreeMap::new();
        for (name, selectors) in edits {
            let name = format!("template-{name}");
            let before: Vec<Option<Arc<Template>>> =
                mesh.dataplanes().map(|dataplane| mesh.template(dataplane).map(|(_,
                    template)| template.clone())).collect();
            let template = selectors.clone().map(|selectors| {
                let selectors = selectors.into_iter().map(|tags| Selector { tags }).collect();
                Arc::new(Template { selectors, default_proxy: false, resources: Vec::new() })
            });
            let affected = mesh.set_template(&Arc::from(name.as_str()), template);
            match selectors {
                Some(selectors) => { templates.insert(name, selectors); }
                None => { templates.remove(&name); }
            }
            for ((dataplane, tag_sets), before) in mesh.dataplanes().zip(&proxies).zip(before) {
                let now = mesh.template(dataplane);
                prop_assert_eq!(now.map(|(name, _)| name.to_string()), naive(&templates, tag_sets));
                if !affected.contains(&dataplane.name) {
                    prop_assert_eq!(now.map(|(_, template)| template.clone()), before);
                }
            }
        }
    }
}
