//! What a stretch of time cost, and what was moved in it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::fleet::{Fleet, Totals};
use crate::process::{Watched, own_cpu_seconds};
use crate::report::rounded;

/// Share of its threads above which the generator may have been what limited a run.
const BUSY: f64 = 0.8;

/// A beginning.
pub(crate) struct Meter {
    began: Instant,
    server: f64,
    own: f64,
    totals: Totals,
}

/// What was used and moved.
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// CPU seconds of all control planes; their memory below, too.
    pub(crate) server: f64,
    /// CPU seconds of this process.
    pub(crate) own: f64,
    pub(crate) moved: Totals,
    pub(crate) rss: u64,
    pub(crate) peak_rss: u64,
}

impl Meter {
    /// Begins to measure.
    pub(crate) fn start(servers: &[&Watched], fleet: Option<&Fleet>) -> Meter {
        servers.iter().for_each(|server| server.reset_peak());
        Meter {
            began: Instant::now(),
            server: servers.iter().map(|server| server.cpu_seconds()).sum(),
            own: own_cpu_seconds(),
            totals: fleet.map(Fleet::totals).unwrap_or_default(),
        }
    }

    /// What has been used and moved since. The fleet is the one of the beginning, or one that has come since.
    pub(crate) fn read(&self, servers: &[&Watched], fleet: Option<&Fleet>) -> Usage {
        Usage {
            wall: self.began.elapsed(),
            server: servers.iter().map(|server| server.cpu_seconds()).sum::<f64>() - self.server,
            own: own_cpu_seconds() - self.own,
            moved: fleet.map(Fleet::totals).unwrap_or_default() - self.totals,
            rss: servers.iter().map(|server| server.rss()).sum(),
            peak_rss: servers.iter().map(|server| server.peak_rss()).sum(),
        }
    }
}

impl Usage {
    /// The fields that every report has.
    pub(crate) fn fields(&self, threads: usize) -> Map<String, Value> {
        let wall = self.wall.as_secs_f64();
        let busy = self.own / wall / threads as f64;
        let fields = json!({
            "wall_s": rounded(wall),
            "server_cpu_s": rounded(self.server),
            "generator_cpu_s": rounded(self.own),
            "generator_busy": rounded(busy),
            "generator_limited": busy > BUSY,
            "messages": self.moved.messages, "bytes": self.moved.bytes, "resources": self.moved.resources,
            "resent": self.moved.resent, "resent_bytes": self.moved.resent_bytes, "removed": self.moved.removed,
            "rss": self.rss, "peak_rss": self.peak_rss,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}
