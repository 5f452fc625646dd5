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
    /// With so many instances, which web knows.
    pub(crate) async fn start(instances: u64) -> Fleet {
        Fleet::start_in(Scene::start().await, instances).await
    }

    /// The same in a scene that is there.
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

    /// Waits until web knows so many instances of redis.
    pub(crate) async fn instances(&self, number: u64) {
        eventually(&format!("web knows {number} instances of redis"), async || {
            (self.scene.web_proxy.stat("cluster.redis.membership_total").await == number).then_some(())
        })
        .await;
    }

    /// How often the instances that web knows have changed.
    pub(crate) async fn changes(&self) -> u64 {
        self.scene.web_proxy.stat("cluster.redis.membership_change").await
    }

    /// Why an instance has left, as its overview says; `None` if it has not.
    pub(crate) async fn departure(&self, name: &str) -> Option<String> {
        let overview = self.scene.cp.get(&format!("/meshes/default/dataplanes+insights/{name}")).await;
        overview["dataplaneInsight"]["departure"]["reason"].as_str().map(str::to_owned)
    }
}

impl Instance {
    /// Starts its proxy anew; the one before has ended.
    pub(crate) fn restart(&mut self, scene: &Scene) {
        let token: PathBuf = scene.cp.token_file("default", &self.name);
        let token = token.to_str().expect("a temporary path is UTF-8").to_owned();
        self.proxy = Dataplane::start_with(&scene.cp, "default", &self.name, &["--dataplane-token-file", &token]);
    }
}
