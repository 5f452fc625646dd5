//! `redis` with several instances, each behind a proxy of its own.

use std::path::PathBuf;

use kuma_test::apps::Greeter;
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{Dataplane, eventually};

use crate::scene::Scene;

/// The scene, and further instances `redis-2`, `redis-3` and so on.
pub(crate) struct Fleet {
    pub(crate) scene: Scene,
    pub(crate) others: Vec<Instance>,
}

/// One of the further instances.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) app: Greeter,
    pub(crate) inbound: u16,
    pub(crate) proxy: Dataplane,
}

impl Fleet {
    /// Starts this number of instances, and waits until web's proxy has them as endpoints.
    pub(crate) async fn start(instances: u64) -> Fleet {
        Fleet::start_in(Scene::start().await, instances).await
    }

    /// The same in an existing scene.
    pub(crate) async fn start_in(scene: Scene, instances: u64) -> Fleet {
        let mut others = Vec::new();
        for number in 2..=instances {
            let (app, inbound, name) = (Greeter::start().await, free_port(), format!("redis-{number}"));
            scene.cp.apply(&dataplane("default", &name, "redis", (inbound, app.port), &[])).await;
            let proxy = Dataplane::start(&scene.cp, "default", &name);
            others.push(Instance { name, app, inbound, proxy });
        }
        for instance in &others {
            instance.proxy.live().await;
        }
        let fleet = Fleet { scene, others };
        fleet.instances(instances).await;
        fleet
    }

    /// Waits until web's proxy has this number of endpoints of redis.
    pub(crate) async fn instances(&self, number: u64) {
        eventually(&format!("web knows {number} instances of redis"), async || {
            (self.scene.web_proxy.stat("cluster.redis.membership_total").await == number).then_some(())
        })
        .await;
    }

    /// How often the endpoints of redis in web's proxy have changed.
    pub(crate) async fn changes(&self) -> u64 {
        self.scene.web_proxy.stat("cluster.redis.membership_change").await
    }

    /// Why an instance is no endpoint any more, by its overview; `None` if it is one.
    pub(crate) async fn departure(&self, name: &str) -> Option<String> {
        let overview = self.scene.cp.get(&format!("/meshes/default/dataplanes+insights/{name}")).await;
        overview["dataplaneInsight"]["departure"]["reason"].as_str().map(str::to_owned)
    }
}

impl Instance {
    /// Starts its proxy again, after the previous one has ended.
    pub(crate) fn restart(&mut self, scene: &Scene) {
        let token: PathBuf = scene.cp.token_file("default", &self.name);
        let token = token.to_str().expect("a temporary path is UTF-8").to_owned();
        self.proxy = Dataplane::start_with(&scene.cp, "default", &self.name, &["--dataplane-token-file", &token]);
    }
}
