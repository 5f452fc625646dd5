//! What the control plane counts about itself, for Prometheus (`/metrics` on the diagnostics port).
//!
//! A dozen fixed families with fixed labels, so the text is written by hand: a metrics library would bring a registry,
//! a derive macro and a lock per family for what is an array of atomics here. No mesh and no proxy is named: the port
//! needs no proof.

mod store;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use kuma_xds::{Event, ResourceType};

pub use store::MeteredStore;

/// Upper bounds of the buckets of all histograms, in seconds.
const BOUNDS: [f64; 14] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Values of the label `type`, with their places in arrays of counters.
const TYPES: [(usize, &str); ASSIGNMENTS + 1] = [
    (ResourceType::Cluster as usize, "cluster"),
    (ResourceType::Endpoint as usize, "endpoint"),
    (ResourceType::Secret as usize, "secret"),
    (ResourceType::Listener as usize, "listener"),
    (ResourceType::ExtensionConfig as usize, "extension_config"),
    (ResourceType::Route as usize, "route"),
    (ASSIGNMENTS, "monitoring_assignment"),
];
/// The place of monitoring assignments, which are no resource of Envoy's.
const ASSIGNMENTS: usize = ResourceType::COUNT;

/// A counter for each type.
type ByType = [AtomicU64; ASSIGNMENTS + 1];

/// Values of the label `server` of HTTP servers.
const SERVERS: [&str; 6] = ["api", "admin", "public admin", "bootstrap", "diagnostics", "mads"];
/// Values of the label `code`.
const CODES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// Values of the label `operation`.
const OPERATIONS: [&str; 8] = ["commit", "get", "list", "read_all", "put_insights", "remove_insights", "history", "at"];
/// Values of the label `why` of proxies that have left: their kuma-dp said so, or they vanished.
const WHY: [&str; 2] = ["reported", "vanished"];
/// Values of the label `certificate`.
const CERTIFICATES: [&str; 3] = ["xds_server", "xds_ca", "admin_server"];

/// A discovery service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discovery {
    /// 5678
    Xds = 0,
    /// 5677
    Sds = 1,
    /// 5676
    Mads = 2,
}

/// What became of a list of monitoring assignments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was sent.
    Sent,
    /// The client accepted it.
    Acked,
    /// The client refused it.
    Nacked,
}

/// A call of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A write.
    Commit = 0,
    /// One document.
    Get = 1,
    /// A list.
    List = 2,
    /// Everything.
    ReadAll = 3,
    /// A batch of insights.
    PutInsights = 4,
    /// The removal of insights.
    RemoveInsights = 5,
    /// A page of the history.
    History = 6,
    /// Everything as it was.
    At = 7,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    streams: [AtomicI64; 3],
    sent: ByType,
    acked: ByType,
    nacked: ByType,
    change_to_ack: Histogram,
    http: [Histogram; SERVERS.len()],
    http_codes: [[AtomicU64; CODES.len()]; SERVERS.len()],
    store: [Histogram; OPERATIONS.len()],
    store_errors: AtomicU64,
    store_rewound: AtomicU64,
    certificates: [AtomicU64; CERTIFICATES.len()],
    gone: [AtomicU64; WHY.len()],
    left: [AtomicU64; WHY.len()],
    kept: AtomicU64,
    audits: AtomicU64,
    audit_mismatches: AtomicU64,
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Histogram {
    /// Not cumulative; one more than there are bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {}", self.micros.load(Ordering::Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count{braces} {count}");
    }
}

/// One open stream in the metrics. It is counted for as long as it lives.
#[derive(Debug)]
pub struct StreamMetrics {
    metrics: Arc<Metrics>,
    discovery: Discovery,
}

impl StreamMetrics {
    /// Counts an event.
    pub fn on_event(&self, event: &Event) {
        let count = |of: &ByType, resource_type: &ResourceType| {
            of[*resource_type as usize].fetch_add(1, Ordering::Relaxed);
        };
        match event {
            Event::Sent { resource_type } => count(&self.metrics.sent, resource_type),
            Event::Acked { resource_type } => count(&self.metrics.acked, resource_type),
            Event::Nacked { resource_type, .. } => count(&self.metrics.nacked, resource_type),
            _ => {}
        }
    }

    /// Counts a list of monitoring assignments.
    pub fn assignments(&self, answer: Answer) {
        let counters = match answer {
            Answer::Sent => &self.metrics.sent,
            Answer::Acked => &self.metrics.acked,
            Answer::Nacked => &self.metrics.nacked,
        };
        counters[ASSIGNMENTS].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for StreamMetrics {
    fn drop(&mut self) {
        self.metrics.streams[self.discovery as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a stream that was opened.
    pub fn stream(self: &Arc<Self>, discovery: Discovery) -> StreamMetrics {
        self.streams[discovery as usize].fetch_add(1, Ordering::Relaxed);
        StreamMetrics { metrics: self.clone(), discovery }
    }

    /// Notes that a proxy has accepted a change, so long after it was heard of.
    pub fn accepted(&self, took: Duration) {
        self.change_to_ack.observe(took);
    }

    /// Notes a call of the store that began at `start`.
    pub fn store_call(&self, operation: Operation, start: Instant, succeeded: bool) {
        self.store[operation as usize].observe(start.elapsed());
        if !succeeded {
            self.store_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes the end of the first certificate in `pem`, which one of our servers shows or signs with.
    pub fn certificate(&self, name: &str, pem: &str) {
        let not_after = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().and_then(|(_, pem)| {
            let certificate = pem.parse_x509().ok()?;
            u64::try_from(certificate.validity().not_after.timestamp()).ok()
        });
        if let (Some(at), Some(not_after)) = (CERTIFICATES.iter().position(|one| *one == name), not_after) {
            self.certificates[at].store(not_after, Ordering::Relaxed);
        }
    }

    /// Notes whether the store is not the one that it was, and nobody has accepted it yet.
    pub fn store_rewound(&self, rewound: bool) {
        self.store_rewound.store(rewound.into(), Ordering::Relaxed);
    }

    /// Counts a proxy that has left: because it `vanished`, or as its kuma-dp said.
    pub fn left(&self, vanished: bool) {
        self.left[usize::from(vanished)].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how many proxies are gone, as their kuma-dp said and because they vanished.
    pub fn gone(&self, (reported, vanished): (usize, usize)) {
        self.gone[0].store(reported as u64, Ordering::Relaxed);
        self.gone[1].store(vanished as u64, Ordering::Relaxed);
    }

    /// Counts proxies that keep their endpoints because many vanished together.
    pub fn kept(&self, proxies: usize) {
        self.kept.fetch_add(proxies as u64, Ordering::Relaxed);
    }

    /// Notes an audit that found so many proxies with other configuration than the whole path gives.
    pub fn audited(&self, mismatches: usize) {
        self.audits.fetch_add(1, Ordering::Relaxed);
        self.audit_mismatches.fetch_add(mismatches as u64, Ordering::Relaxed);
    }

    /// `router`, with its requests measured as those of this server.
    pub fn measured(self: &Arc<Self>, server: &'static str, router: Router) -> Router {
        let Some(at) = SERVERS.iter().position(|one| *one == server) else { return router };
        let metrics = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let metrics = metrics.clone();
            async move {
                let start = Instant::now();
                let response = next.run(request).await;
                metrics.http[at].observe(start.elapsed());
                let class = usize::from(response.status().as_u16() / 100).clamp(2, 5) - 2;
                metrics.http_codes[at][class].fetch_add(1, Ordering::Relaxed);
                response
            }
        }))
    }

    /// All of it in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut family = |name: &str, kind: &str, help: &str, lines: &dyn Fn(&mut String)| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            lines(&mut out);
        };
        family("kuma_cp_xds_streams", "gauge", "Streams that are open.", &|out| {
            for (service, streams) in ["xds", "sds", "mads"].iter().zip(&self.streams) {
                let _ =
                    writeln!(out, "kuma_cp_xds_streams{{service=\"{service}\"}} {}", streams.load(Ordering::Relaxed));
            }
        });
        for (name, kind, help, counters) in [
            ("kuma_cp_proxies_gone", "gauge", "Proxies that have left and are not back.", &self.gone),
            ("kuma_cp_proxies_left_total", "counter", "Proxies that left: their clients do not dial them.", &self.left),
        ] {
            family(name, kind, help, &|out| {
                for (why, count) in WHY.iter().zip(counters) {
                    let _ = writeln!(out, "{name}{{why=\"{why}\"}} {}", load(count));
                }
            });
        }
        for (name, help, counters) in [
            ("kuma_cp_xds_pushes_total", "Responses that were sent to proxies.", &self.sent),
            ("kuma_cp_xds_acks_total", "Responses that proxies accepted.", &self.acked),
            ("kuma_cp_xds_nacks_total", "Responses that proxies refused.", &self.nacked),
        ] {
            family(name, "counter", help, &|out| {
                for (at, label) in TYPES {
                    let _ = writeln!(out, "{name}{{type=\"{label}\"}} {}", load(&counters[at]));
                }
            });
        }
        let help = "From the moment that a change was heard of until a proxy that it concerns has accepted all of it.";
        family("kuma_cp_change_to_ack_seconds", "histogram", help, &|out| {
            self.change_to_ack.write(out, "kuma_cp_change_to_ack_seconds", "");
        });
        family("kuma_cp_http_request_seconds", "histogram", "Time to answer a request.", &|out| {
            for (server, histogram) in SERVERS.iter().zip(&self.http) {
                histogram.write(out, "kuma_cp_http_request_seconds", &format!("server=\"{server}\""));
            }
        });
        family("kuma_cp_http_requests_total", "counter", "Requests that were answered.", &|out| {
            for (server, codes) in SERVERS.iter().zip(&self.http_codes) {
                for (code, counter) in CODES.iter().zip(codes) {
                    let labels = format!("server=\"{server}\",code=\"{code}\"");
                    let _ = writeln!(out, "kuma_cp_http_requests_total{{{labels}}} {}", load(counter));
                }
            }
        });
        family("kuma_cp_store_seconds", "histogram", "Time of a call of the store.", &|out| {
            for (operation, histogram) in OPERATIONS.iter().zip(&self.store) {
                histogram.write(out, "kuma_cp_store_seconds", &format!("operation=\"{operation}\""));
            }
        });
        let errors = "Calls of the store that failed, conflicts of writers included.";
        for (name, help, counter) in [
            ("kuma_cp_store_errors_total", errors, &self.store_errors),
            ("kuma_cp_proxies_kept_total", "Proxies that vanished with many others and stay endpoints.", &self.kept),
            ("kuma_cp_audits_total", "Comparisons of all proxies with the slow whole answer.", &self.audits),
            (
                "kuma_cp_audit_mismatches_total",
                "Proxies that such a comparison found different: bugs.",
                &self.audit_mismatches,
            ),
        ] {
            family(name, "counter", help, &|out| {
                let _ = writeln!(out, "{name} {}", load(counter));
            });
        }
        let help = "1 while the store is another or an older one than it was, until `kumactl store accept`.";
        family("kuma_cp_store_rewound", "gauge", help, &|out| {
            let _ = writeln!(out, "kuma_cp_store_rewound {}", load(&self.store_rewound));
        });
        let help = "When a certificate of the control plane's own servers ends, in seconds since 1970.";
        family("kuma_cp_certificate_not_after_seconds", "gauge", help, &|out| {
            for (name, not_after) in CERTIFICATES.iter().zip(&self.certificates) {
                match load(not_after) {
                    0 => {}
                    end => drop(writeln!(out, "kuma_cp_certificate_not_after_seconds{{certificate=\"{name}\"}} {end}")),
                }
            }
        });
        out
    }
}
