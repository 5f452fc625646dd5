//! What Dataplanes have in common is in memory once.

use std::sync::Arc;

use crate::support::{dataplane, mesh};

#[test]
fn instances_of_a_service_share_their_tags_and_the_names_of_what_they_dial() {
    let web = || dataplane(&["service: web, version: v1"], &["redis"]);
    let mesh = mesh(&[("web-1", web()), ("web-2", web())]);
    let [one, two] = ["web-1", "web-2"].map(|name| mesh.dataplane(name).expect("there"));
    for (first, second) in [(one, one), (one, two)] {
        assert!(Arc::ptr_eq(&first.tag_sets[0], &second.inbounds[0].tags));
        assert!(Arc::ptr_eq(&first.tag_sets[0], &second.tag_sets[0]));
        assert!(Arc::ptr_eq(&first.outbounds[0].service, &second.outbounds[0].service));
    }
}
