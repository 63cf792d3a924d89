//! What is counted and timed. Label values come from bounded sets.

use std::sync::atomic::AtomicU64;

use paddock_api::session::{Phase, Reason, SessionStatus, StartupPath};
use paddock_core::{Engine, Key};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::watches::Watched;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActivationLabels {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    phase: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    path: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    namespace: String,
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Buckets from a millisecond to some minutes: warm starts and cold ones.
#[derive(Clone, Copy, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0,
        ])
    }
}

fn seconds(millis: u64) -> f64 {
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0
}

/// The word for how a session started.
pub(crate) fn path(path: StartupPath) -> &'static str {
    match path {
        StartupPath::Warm => "warm",
        StartupPath::Cold => "cold",
    }
}

/// All metrics of the controller.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    watches: Vec<Watched>,
    operations: Family<OpLabels, Counter>,
    operation_seconds: Family<StepLabels, Histogram, Latency>,
    startup_seconds: Family<PathLabels, Histogram, Latency>,
    activation_step_seconds: Family<ActivationLabels, Histogram, Latency>,
    ended: Family<EndLabels, Counter>,
    sessions: Family<PhaseLabels, Gauge>,
    pool_ready: Family<PoolLabels, Gauge>,
    pool_desired: Family<PoolLabels, Gauge>,
    in_flight: Gauge,
    leading: Gauge,
    watch_stale: Family<KindLabels, Gauge<f64, AtomicU64>>,
    watch_restarts: Family<KindLabels, Gauge>,
}

impl Metrics {
    /// Metrics that nothing has happened in yet.
    pub(crate) fn new(watches: Vec<Watched>) -> Self {
        let mut registry = Registry::with_prefix("paddock");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
            ($name:literal, $help:literal, $unit:expr, $metric:expr) => {{
                let metric = $metric;
                registry.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        Self {
            operations: register!("operations", "Operations by kind and result", Family::default()),
            operation_seconds: register!(
                "operation",
                "How long operations took",
                Unit::Seconds,
                Family::new_with_constructor(Latency)
            ),
            startup_seconds: register!(
                "session_startup",
                "From a session being seen to its runner's confirmation",
                Unit::Seconds,
                Family::new_with_constructor(Latency)
            ),
            activation_step_seconds: register!(
                "activation_step",
                "How long steps of activations took, such as cloning_repo",
                Unit::Seconds,
                Family::new_with_constructor(Latency)
            ),
            ended: register!("sessions_ended", "Sessions that ended, by phase and reason", Family::default()),
            sessions: register!("sessions", "Sessions by phase", Family::default()),
            pool_ready: register!("pool_ready", "Members that can be adopted at once", Family::default()),
            pool_desired: register!("pool_desired", "Members wanted", Family::default()),
            in_flight: register!("operations_in_flight", "Operations in flight", Gauge::default()),
            leading: register!("leading", "1 while this process decides", Gauge::default()),
            watch_stale: register!(
                "watch_stale",
                "Since the API server was last heard of on a watch",
                Unit::Seconds,
                Family::default()
            ),
            watch_restarts: register!("watch_restarts", "Times a watch was begun again", Family::default()),
            registry,
            watches,
        }
    }

    /// Counts an operation.
    pub(crate) fn operation(&self, op: &'static str, result: &'static str, took: std::time::Duration) {
        self.operations.get_or_create(&OpLabels { op, result }).inc();
        self.operation_seconds.get_or_create(&StepLabels { op }).observe(took.as_secs_f64());
    }

    /// Counts a session's change of phase.
    pub(crate) fn session_phase(&self, status: &SessionStatus) {
        let reason = status.reason.map_or("Pending", Reason::as_str);
        match (status.phase, &status.startup) {
            (Phase::Ready, Some(startup)) => {
                let path = path(startup.path);
                let took = seconds(startup.activated_ms);
                self.startup_seconds.get_or_create(&PathLabels { path }).observe(took);
                for took in &startup.steps {
                    let step = ActivationLabels { step: took.step.as_str() };
                    self.activation_step_seconds.get_or_create(&step).observe(seconds(took.took_ms));
                }
            }
            (Phase::Failed, _) => {
                self.ended.get_or_create(&EndLabels { phase: "failed", reason }).inc();
            }
            (Phase::Dead, _) => {
                self.ended.get_or_create(&EndLabels { phase: "dead", reason }).inc();
            }
            _ => {}
        }
    }

    /// Brings the gauges up to date.
    pub(crate) fn observe(&self, engine: &Engine) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let mut phases = [("creating", 0usize), ("ready", 0), ("failed", 0), ("dead", 0)];
        for session in engine.store().sessions.iter() {
            let phase = session.status.as_ref().map(|s| s.phase).unwrap_or_default().http_status();
            if let Some((_, n)) = phases.iter_mut().find(|(name, _)| *name == phase) {
                *n += 1;
            }
        }
        for (phase, n) in phases {
            self.sessions.get_or_create(&PhaseLabels { phase }).set(count(n));
        }
        // A pool that is gone must not be reported for ever.
        self.pool_ready.clear();
        self.pool_desired.clear();
        for pool in engine.store().pools.iter() {
            let labels = PoolLabels {
                namespace: pool.metadata.namespace.clone().unwrap_or_default(),
                pool: pool.metadata.name.clone().unwrap_or_default(),
            };
            let ready = pool.status.as_ref().map_or(0, |s| s.ready_replicas);
            self.pool_ready.get_or_create(&labels).set(i64::from(ready));
            let size = engine.pool_size(&Key::of(&pool.metadata)).map(count);
            self.pool_desired
                .get_or_create(&labels)
                .set(size.unwrap_or_else(|| i64::from(pool.spec.replicas)));
        }
        self.in_flight.set(count(engine.in_flight()));
        self.leading.set(i64::from(engine.is_leading()));
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        for watch in &self.watches {
            let labels = KindLabels { kind: watch.kind };
            self.watch_stale.get_or_create(&labels).set(watch.freshness.stale_for().as_secs_f64());
            let restarts = i64::try_from(watch.freshness.restarts()).unwrap_or(i64::MAX);
            self.watch_restarts.get_or_create(&labels).set(restarts);
        }
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
