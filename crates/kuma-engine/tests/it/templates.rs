//! Which raw resources of ProxyTemplates reach a proxy.

use kuma_model::Key;
use kuma_xds::ResourceType;

use crate::support::{Mesh, ca, mesh, stored, web};

const SECRET: &str = "type: ProxyTemplate
mesh: default
name: t
selectors: [{match: {service: web}}]
conf:
  imports: [default-proxy]
  resources:
  - name: n
    version: v
    resource: |
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
      name: mine
      generic_secret: {secret: {inline_string: hunter2}}
  - name: n
    version: v
    resource: |
      '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
      name: mine
      type: STATIC
";

#[test]
fn secrets_go_only_to_a_proxy_that_proved_who_it_is() {
    for mtls in [false, true] {
        let mut life = Mesh::new(true);
        life.write(&[&mesh(mtls), &ca(), &web(), &stored(SECRET)]);
        for authenticated in [false, true] {
            let stream = life.open_as("web-1", false, authenticated);
            let Some(snapshot) = stream.served() else {
                assert!(mtls && !authenticated, "nothing is served");
                continue;
            };
            assert!(snapshot.get(ResourceType::Cluster, "mine").is_some());
            assert_eq!(snapshot.get(ResourceType::Secret, "mine").is_some(), authenticated, "mTLS: {mtls}");
        }
    }
}

#[test]
fn a_template_comes_and_goes_and_leaves_nothing() {
    let mut life = Mesh::new(true);
    life.write(&[&mesh(false), &web()]);
    let stream = life.open("web-1", false);
    let before = stream.served().expect("it is served");
    life.write(&[&stored(SECRET)]);
    let with = stream.served().expect("it is served");
    assert!(with.get(ResourceType::Cluster, "mine").is_some() && with.get(ResourceType::Cluster, "redis").is_some());
    assert_eq!(life.engine.audit(usize::MAX), Vec::<String>::new());
    life.delete(&Key::new("ProxyTemplate", "default", "t"));
    let after = stream.served().expect("it is served");
    for kind in ResourceType::ALL {
        let versions = |snapshot: &kuma_xds::Snapshot| -> Vec<(String, String)> {
            let list = snapshot.list(kind).iter();
            list.map(|resource| (resource.name().to_string(), resource.version().to_owned())).collect()
        };
        assert_eq!(versions(&after), versions(&before));
    }
}

/// The store may hold a template that an earlier version has accepted: the readable part of it is used.
#[test]
fn a_stored_template_that_cannot_be_read_hurts_nothing_else() {
    let mut life = Mesh::new(true);
    life.write(&[&mesh(false), &web(), &stored(&SECRET.replace("type: STATIC", "type: STATICK"))]);
    let stream = life.open("web-1", false);
    let snapshot = stream.served().expect("it is served");
    assert!(snapshot.get(ResourceType::Cluster, "mine").is_none());
    assert!(snapshot.get(ResourceType::Secret, "mine").is_some());
    assert!(snapshot.get(ResourceType::Cluster, "redis").is_some());
}
