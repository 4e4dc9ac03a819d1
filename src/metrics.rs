//! Every metric in one place: name, unit, labels, help.
//!
//! Names are `serin_*` in base units; label values come from configured names only, never from
//! what a client sends. What a request touches is a handle that its snapshot holds: a [`Slot`]
//! finds its child on first use and remembers it, so that 10,000 routes are not a million series
//! and no request looks a label up twice.

use std::sync::OnceLock;

use once_cell::sync::Lazy;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// The release of Pingora this is built on; every pingora crate is pinned to it.
pub const PINGORA_VERSION: &str = "0.9.1";

/// The status classes under which answers are counted; an answer that never came is `none`.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Returns the position in [`STATUS_CLASSES`] for a status; 0 when there was no answer.
pub fn status_class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by `service`, `route` and `status_class`.
    pub requests: IntCounterVec,
    /// Tries sent to an Upstream, by `service`, `upstream`, `variant` and `status_class`.
    pub upstream_requests: IntCounterVec,
    /// Seconds from the request's header to the end of its answer, by `service` and `variant`.
    pub request_duration: HistogramVec,
    /// Seconds from choosing a Target to its response header, by `service` and `variant`.
    pub upstream_duration: HistogramVec,
    /// Requests of Routes with a release, by `service`, `variant` and `reason`.
    pub release_requests: IntCounterVec,
    /// Share in force of a release that goes by share, 0 to 1, by `service` and `route` that it is for.
    pub release_share: GaugeVec,
    /// Further tries after a failed one, by `service` and `reason`.
    pub retries: IntCounterVec,
    /// Further tries that the retry budget did not allow, by `service`.
    pub retries_denied: IntCounterVec,
    /// Tries sent to a Target, by `upstream` and `target`.
    pub target_requests: IntCounterVec,
    /// Requests being served by a Target now, by `upstream` and `target`.
    pub target_in_flight: IntGaugeVec,
    /// Connections that have switched to another protocol and are served by a Target now, by `upstream`
    /// and `target`.
    pub target_upgraded: IntGaugeVec,
    /// Exchanges closed because their Target was out of rotation for too long, by `upstream`.
    pub drain_closed: IntCounterVec,
    /// Whether a Target may be chosen: 1, or 0 when it is out, by `upstream` and `target`.
    pub target_eligible: IntGaugeVec,
    /// Average that the algorithm `latency` goes by, in seconds, by `upstream` and `target`.
    pub target_latency: GaugeVec,
    /// Whether a Target is in a state of health, 1 or 0, by `upstream`, `target` and `state`.
    pub target_health: IntGaugeVec,
    /// Changes of an address between healthy and unhealthy, by `upstream`, `target` and `to`.
    pub target_health_changes: IntCounterVec,
    /// Probes by `upstream` and `outcome`.
    pub health_probes: IntCounterVec,
    /// Seconds that probes took, by `upstream`.
    pub health_probe_duration: HistogramVec,
    /// Requests being served now.
    pub in_flight: IntGauge,
    /// Requests that wait for a saturated worker.
    pub waiting: IntGauge,
    /// Fields of requests whose names have an underscore, by `action`: `drop`, `refuse`.
    pub underscored_headers: IntCounterVec,
    /// Client connections open now.
    pub connections: IntGauge,
    /// Client connections accepted.
    pub connections_accepted: IntCounter,
    /// Client connections closed at once by `reason`: there are too many (`total`, `per_ip`), or
    /// nobody whose word counts says whose it is (`proxy_protocol`).
    pub connections_refused: IntCounterVec,
    /// TLS handshakes with clients, by `outcome`: `ok`, `failed`, `timeout`.
    pub tls_handshakes: IntCounterVec,
    /// When certificates expire, in seconds since 1970, by `certificate`.
    pub certificate_expiry: GaugeVec,
    /// Headers of clients that never became a request, by `reason`.
    pub requests_refused: IntCounterVec,
    /// Panics, whatever they have cost.
    pub panics: IntCounter,
    /// Access log lines dropped because the reader did not keep up.
    pub access_log_dropped: IntCounter,
    /// Number of the configuration in force.
    pub generation: IntGauge,
    /// 1 when the last reload was taken, 0 when it was refused.
    pub reload_successful: IntGauge,
    /// Time of the last reload that was taken.
    pub reload_timestamp: Gauge,
    /// Reloads by `outcome`: `applied`, `unchanged`, `refused`.
    pub reloads: IntCounterVec,
    /// Upgrades by `outcome`: `failed` ones that this process has come back from, and the `completed` one by
    /// which it has taken over.
    pub upgrades: IntCounterVec,
    /// 1 while the source asks for something that only a restart can change.
    pub restart_required: IntGauge,
    /// Entities in which what is in force differs from the file.
    pub drifted: IntGauge,
    /// Seconds since the last good answer for a name, by `name`.
    pub dns_age: GaugeVec,
    /// DNS look-ups by `outcome`: `ok`, `failed`.
    pub dns_lookups: IntCounterVec,
}

static METRICS: Lazy<Metrics> = Lazy::new(Metrics::new);

/// Returns the metrics of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let r = &Registry::new();
        gauges(
            r,
            "serin_build_info",
            "Always 1; the labels say what runs.",
            &["version", "pingora_version"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION"), PINGORA_VERSION])
        .set(1);
        Self {
            requests: counters(
                r,
                "serin_http_requests_total",
                "Requests answered.",
                &["service", "route", "status_class"],
            ),
            upstream_requests: counters(
                r,
                "serin_upstream_requests_total",
                "Tries sent to an Upstream.",
                &["service", "upstream", "variant", "status_class"],
            ),
            request_duration: seconds(
                r,
                "serin_http_request_duration_seconds",
                "From the request's header to the end of its answer.",
                &["service", "variant"],
            ),
            upstream_duration: seconds(
                r,
                "serin_upstream_duration_seconds",
                "From choosing a Target to its response header.",
                &["service", "variant"],
            ),
            release_requests: counters(
                r,
                "serin_release_requests_total",
                "Requests by the variant they were meant for, and why.",
                &["service", "variant", "reason"],
            ),
            release_share: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "serin_release_share_ratio",
                        "Share of the canary that is in force.",
                    ),
                    &["service", "route"],
                ),
            ),
            retries: counters(
                r,
                "serin_upstream_retries_total",
                "Further tries after a failed one.",
                &["service", "reason"],
            ),
            retries_denied: counters(
                r,
                "serin_upstream_retries_denied_total",
                "Further tries that the retry budget did not allow.",
                &["service"],
            ),
            target_requests: counters(
                r,
                "serin_target_requests_total",
                "Tries sent to a Target.",
                &["upstream", "target"],
            ),
            target_in_flight: gauges(
                r,
                "serin_target_requests_in_flight",
                "Requests being served by a Target now.",
                &["upstream", "target"],
            ),
            target_upgraded: gauges(
                r,
                "serin_target_upgraded_connections",
                "Upgraded connections being served by a Target now.",
                &["upstream", "target"],
            ),
            drain_closed: counters(
                r,
                "serin_drain_closed_total",
                "Exchanges closed because their Target was out of rotation for longer than target_drain.",
                &["upstream"],
            ),
            target_eligible: gauges(
                r,
                "serin_target_eligible",
                "1 when the Target may be chosen, 0 when it is out.",
                &["upstream", "target"],
            ),
            target_latency: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "serin_target_latency_average_seconds",
                        "Peak-sensitive average that the algorithm latency goes by.",
                    ),
                    &["upstream", "target"],
                ),
            ),
            target_health: gauges(
                r,
                "serin_target_health",
                "1 for the state that the Target is in, 0 for the others.",
                &["upstream", "target", "state"],
            ),
            target_health_changes: counters(
                r,
                "serin_target_health_changes_total",
                "Changes of a Target's address between healthy and unhealthy.",
                &["upstream", "target", "to"],
            ),
            health_probes: counters(
                r,
                "serin_health_probes_total",
                "Health probes by outcome.",
                &["upstream", "outcome"],
            ),
            health_probe_duration: seconds(
                r,
                "serin_health_probe_duration_seconds",
                "From the start of a health probe to its outcome.",
                &["upstream"],
            ),
            in_flight: gauge(r, "serin_http_requests_in_flight", "Requests being served now."),
            waiting: gauge(
                r,
                "serin_http_requests_waiting",
                "Requests that a saturated worker has not begun yet.",
            ),
            underscored_headers: counters(
                r,
                "serin_http_underscored_headers_total",
                "Request header fields with an underscore in their name that were not passed on.",
                &["action"],
            ),
            connections: gauge(r, "serin_connections", "Client connections open now."),
            connections_accepted: counter(
                r,
                "serin_connections_accepted_total",
                "Client connections accepted.",
            ),
            connections_refused: counters(
                r,
                "serin_connections_refused_total",
                "Client connections closed at once.",
                &["reason"],
            ),
            tls_handshakes: counters(
                r,
                "serin_tls_handshakes_total",
                "TLS handshakes with clients.",
                &["outcome"],
            ),
            certificate_expiry: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "serin_certificate_expiry_timestamp_seconds",
                        "When certificates expire.",
                    ),
                    &["certificate"],
                ),
            ),
            requests_refused: counters(
                r,
                "serin_http_requests_refused_total",
                "Headers of clients that never became a request.",
                &["reason"],
            ),
            panics: counter(
                r,
                "serin_panics_total",
                "Panics: each is a defect, and has cost a request or the process.",
            ),
            access_log_dropped: counter(
                r,
                "serin_access_log_dropped_total",
                "Access log lines dropped because the reader did not keep up.",
            ),
            generation: gauge(
                r,
                "serin_config_generation",
                "Number of the configuration in force.",
            ),
            reload_successful: gauge(
                r,
                "serin_config_last_reload_successful",
                "1 when the last reload was taken, 0 when it was refused.",
            ),
            reload_timestamp: register(
                r,
                Gauge::new(
                    "serin_config_last_reload_success_timestamp_seconds",
                    "Unix time of the last reload that was taken.",
                ),
            ),
            reloads: counters(
                r,
                "serin_config_reloads_total",
                "Reloads by outcome.",
                &["outcome"],
            ),
            upgrades: counters(
                r,
                "serin_upgrades_total",
                "Upgrades by outcome: failed ones that this process has come back from, and the completed one by which it has taken over.",
                &["outcome"],
            ),
            restart_required: gauge(
                r,
                "serin_config_restart_required",
                "1 while the source asks for something that only a restart can change.",
            ),
            drifted: gauge(
                r,
                "serin_config_drifted_entities",
                "Entities in which what is in force differs from the file, because of the Admin API.",
            ),
            dns_age: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "serin_dns_age_seconds",
                        "Seconds since the last good answer for a name.",
                    ),
                    &["name"],
                ),
            ),
            dns_lookups: counters(
                r,
                "serin_dns_lookups_total",
                "DNS look-ups by outcome.",
                &["outcome"],
            ),
            registry: r.clone(),
        }
    }

    /// Returns how many requests have been answered.
    pub fn total_requests(&self) -> u64 {
        use prometheus::core::Collector;
        let families = self.requests.collect();
        let counters = families.iter().flat_map(|family| family.get_metric());
        counters.map(|one| one.get_counter().get_value() as u64).sum()
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        text
    }
}

/// Registers a metric of the table above. Names and labels are constants of this file and every
/// test renders them, so a wrong one cannot reach an operator.
fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("metric names and labels are well formed");
    registry
        .register(Box::new(metric.clone()))
        .expect("metric names are unique");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

/// A histogram of seconds: 17 buckets from 0.5 ms to 33 s, each twice the one before.
fn seconds(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let buckets = exponential_buckets(0.0005, 2.0, 17).expect("start, factor and count are positive");
    register(
        registry,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels),
    )
}

/// A place in a snapshot for one child of a metric, found on first use.
#[derive(Debug)]
pub struct Slot<T>(OnceLock<T>);

impl<T> Slot<T> {
    /// Returns the child, looked up by `find` the first time; after that one load.
    pub fn get(&self, find: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(find)
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

/// Counters by status class, each made on first use.
pub type ByStatusClass = [Slot<IntCounter>; STATUS_CLASSES.len()];

/// A histogram made on first use.
pub type HistogramSlot = Slot<Histogram>;

/// Counts into a gauge while it lives, so that a request that is dropped is uncounted too.
pub struct Counted(IntGauge);

impl Counted {
    /// Counts one in.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
