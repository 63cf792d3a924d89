//! What operators see: counts by route template, method and code, never by session or client.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use paddock_api::http::ErrorCode;
use paddock_kubeio::watch::Freshness;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds: from a turn that was stored already to one of half an hour.
const TURN_BUCKETS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0, 1200.0, 1800.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    kind: &'static str,
}

/// A gauge that is one higher as long as this lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All metrics of the gateway.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    errors: Family<ReasonLabels, Counter>,
    in_flight: Gauge,
    connections: Gauge,
    turns_in_flight: Gauge,
    turn_duration: Histogram,
    connect_failures: Family<ReasonLabels, Counter>,
    marked_dead: Counter,
    resumed_by_message: Counter,
    transcript_saves: Family<ReasonLabels, Counter>,
    streams: Gauge,
    terminals: Gauge,
    stream_gaps: Family<ReasonLabels, Counter>,
    watch_stale: Family<WatchLabels, Gauge<f64, AtomicU64>>,
    watch_synced: Family<WatchLabels, Gauge>,
    watch_restarts: Family<WatchLabels, Gauge>,
    watch_errors: Family<WatchLabels, Gauge>,
    watch_undecodable: Family<WatchLabels, Gauge>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("paddock_gateway");
        let metrics = Self {
            requests: Family::default(),
            errors: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            turns_in_flight: Gauge::default(),
            turn_duration: Histogram::new(TURN_BUCKETS),
            connect_failures: Family::default(),
            marked_dead: Counter::default(),
            resumed_by_message: Counter::default(),
            transcript_saves: Family::default(),
            streams: Gauge::default(),
            terminals: Gauge::default(),
            stream_gaps: Family::default(),
            watch_stale: Family::default(),
            watch_synced: Family::default(),
            watch_restarts: Family::default(),
            watch_errors: Family::default(),
            watch_undecodable: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests answered, 499 for clients that left",
            metrics.requests.clone(),
        );
        registry.register("errors", "Errors by code", metrics.errors.clone());
        registry.register("requests_in_flight", "Requests being served", metrics.in_flight.clone());
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register("turns_in_flight", "Turns being relayed", metrics.turns_in_flight.clone());
        registry.register_with_unit(
            "turn_duration",
            "From a turn's relay to the head of its answer",
            Unit::Seconds,
            metrics.turn_duration.clone(),
        );
        registry.register(
            "relay_connect_failures",
            "Connections to pods that could not be made",
            metrics.connect_failures.clone(),
        );
        registry.register(
            "sessions_marked_dead",
            "Sessions set to Dead because their current address refused twice",
            metrics.marked_dead.clone(),
        );
        registry.register(
            "sessions_resumed_by_message",
            "Suspended sessions that a message has resumed",
            metrics.resumed_by_message.clone(),
        );
        registry.register(
            "transcript_saves",
            "Times a transcript was to be saved, by what came of it",
            metrics.transcript_saves.clone(),
        );
        registry.register("streams", "Clients that follow a session's events", metrics.streams.clone());
        registry.register(
            "terminals",
            "Clients that are attached to a session's terminal",
            metrics.terminals.clone(),
        );
        registry.register(
            "stream_gaps",
            "Times such a client was told that events are missing, by the reason",
            metrics.stream_gaps.clone(),
        );
        registry.register_with_unit(
            "watch_stale",
            "Since the API server was last heard of",
            Unit::Seconds,
            metrics.watch_stale.clone(),
        );
        registry.register("watch_synced", "Whether a complete list was seen", metrics.watch_synced.clone());
        registry.register("watch_restarts", "Times a watch began anew", metrics.watch_restarts.clone());
        registry.register("watch_errors", "Failures of a watch", metrics.watch_errors.clone());
        registry.register(
            "watch_undecodable",
            "Objects that could not be read",
            metrics.watch_undecodable.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// A client connection is open.
    pub fn connection_open(&self) -> Held {
        Held::new(&self.connections)
    }

    /// A request is being served.
    pub fn request_begun(&self) -> Held {
        Held::new(&self.in_flight)
    }

    /// A request was answered with an HTTP status; 499 where its client left first.
    pub fn request_done(&self, route: &'static str, method: &'static str, code: u16) {
        self.requests.get_or_create(&RequestLabels { route, method, code }).inc();
    }

    /// A request was refused with an error.
    pub fn refused(&self, code: ErrorCode) {
        self.errors.get_or_create(&ReasonLabels { reason: code.as_str() }).inc();
    }

    /// A turn is being relayed.
    pub fn turn_begun(&self) -> Held {
        Held::new(&self.turns_in_flight)
    }

    /// A turn's answer has begun, or its relay has failed.
    pub fn turn_done(&self, took: Duration) {
        self.turn_duration.observe(took.as_secs_f64());
    }

    /// A pod could not be connected to.
    pub fn connect_failed(&self, reason: &'static str) {
        self.connect_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A session was set to Dead.
    pub fn marked_dead(&self) {
        self.marked_dead.inc();
    }

    /// A message has resumed a suspended session.
    pub fn resumed_by_message(&self) {
        self.resumed_by_message.inc();
    }

    /// A transcript was saved, or not: `saved`, or why not.
    pub fn transcript_saved(&self, reason: &'static str) {
        self.transcript_saves.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A client follows a session's events.
    pub fn stream_begun(&self) -> Held {
        Held::new(&self.streams)
    }

    /// A client is attached to a terminal.
    pub fn terminal_open(&self) -> Held {
        Held::new(&self.terminals)
    }

    /// A client was told that events are missing; `slow_reader` where it was too slow itself.
    pub fn stream_gap(&self, reason: &'static str) {
        self.stream_gaps.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Takes a reading of how fresh the watches are.
    pub fn observe_watches(&self, watches: &[(&'static str, Freshness)]) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (kind, freshness) in watches {
            let labels = WatchLabels { kind };
            self.watch_stale.get_or_create(&labels).set(freshness.stale_for().as_secs_f64());
            self.watch_synced.get_or_create(&labels).set(i64::from(freshness.synced()));
            self.watch_restarts.get_or_create(&labels).set(whole(freshness.restarts()));
            self.watch_errors.get_or_create(&labels).set(whole(freshness.errors()));
            self.watch_undecodable.get_or_create(&labels).set(whole(freshness.undecodable()));
        }
    }

    /// The metrics in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                String::new()
            }
        }
    }
}
