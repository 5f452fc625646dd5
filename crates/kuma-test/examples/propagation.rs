//! How long a change of a permission takes from the HTTP answer to its effect on requests through real Envoys.
//!
//!     cargo build --profile dist --workspace --bins
//!     ENVOY_BINARY=… cargo run --profile dist -p kuma-test --example propagation
//!
//! Two applications and their proxies in a mesh with mTLS. The permission from one to the other is created and deleted
//! in turn. After the response to each write, requests are sent one after the other until one has the new outcome. So
//! each number includes the time of that request, with a TLS handshake.

use std::time::{Duration, Instant};

use anyhow::ensure;
use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};

/// How often the permission is changed.
const EDITS: usize = 50;

/// Pause between two edits, long enough for all effects of the first one.
const REST: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cp = ControlPlane::start().await;
    let app = Greeter::start().await;
    let (inbound, outbound, web_inbound) = (free_port(), free_port(), free_port());
    cp.apply(&mesh("default", true)).await;
    cp.apply(&dataplane("default", "redis-1", "redis", (inbound, app.port), &[])).await;
    cp.apply(&dataplane("default", "web-1", "web", (web_inbound, app.port), &[(outbound, "redis")])).await;
    let redis = Dataplane::start(&cp, "default", "redis-1");
    let web = Dataplane::start(&cp, "default", "web-1");
    redis.live().await;
    web.live().await;
    cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    eventually("web reaches redis", || Client::connect(outbound)).await;

    let mut allowed = Vec::new();
    let mut denied = Vec::new();
    for edit in 0..EDITS {
        tokio::time::sleep(REST).await;
        let allow = edit % 2 == 1;
        let source = if allow { "web" } else { "nobody" };
        cp.apply(&permission("default", "web-to-redis", source, "redis")).await;
        let answered = Instant::now();
        while Client::connect(outbound).await.is_some() != allow {
            ensure!(answered.elapsed() < Duration::from_secs(30), "edit {edit} has no effect");
        }
        if allow { &mut allowed } else { &mut denied }.push(answered.elapsed());
    }
    let mut request = Vec::new();
    for _ in 0..EDITS {
        let begun = Instant::now();
        ensure!(Client::connect(outbound).await.is_some(), "the permission was given last");
        request.push(begun.elapsed());
    }
    println!("{EDITS} edits of one permission, {} build:", if cfg!(debug_assertions) { "debug" } else { "release" });
    let all = [allowed.as_slice(), denied.as_slice()].concat();
    for (what, times) in
        [("allow or deny", all), ("  allow", allowed), ("  deny", denied), ("a request by itself", request)]
    {
        print(what, times);
    }
    Ok(())
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0;
    println!("{what:20} median {:6.2} ms   p95 {:6.2} ms   max {:6.2} ms", at(0.5), at(0.95), at(1.0));
}
