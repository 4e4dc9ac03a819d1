//! A probe to carry out: whom it asks, and whom what came of it is told.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter};
use siphasher::sip::SipHasher13;

use super::Level;
use super::machine::MEMORY;
use super::probe::{Order, Outcome, Prober};
use super::state::{Cause, TargetState};
use crate::clock;
use crate::metrics::metrics;
use crate::model::HealthChecks;
use crate::snapshot::Upstream;

/// A probe to carry out.
pub(super) struct Job {
    pub(super) order: Arc<Order>,
    pub(super) address: SocketAddr,
    pub(super) upstream: Arc<Upstream>,
    pub(super) state: Arc<TargetState>,
    pub(super) metrics: Arc<ProbeMetrics>,
}

/// Children of the metrics for one Upstream.
pub(super) struct ProbeMetrics {
    outcomes: [IntCounter; Outcome::LABELS.len()],
    duration: Histogram,
}

impl Job {
    /// Probes the address until `is_over`, counts the outcome and reports it.
    pub(super) async fn run(&self, prober: &mut Prober, is_over: impl Future<Output = ()>) {
        let started = clock::monotonic();
        let outcome = prober.probe(&self.order, self.address, is_over).await;
        let now = clock::monotonic();
        self.metrics.outcomes[outcome.position()].inc();
        self.metrics.duration.observe((now - started).as_secs_f64());
        if let Outcome::Counts(report) = outcome {
            let checks = self.upstream.health();
            let (thresholds, memory) = (&checks.active.thresholds, memory(checks));
            let state = self.upstream.state();
            state.report(&self.state, Cause::Probe(report), thresholds, memory, now);
        }
    }

    /// Says whether failures speak against the address and have not decided yet.
    pub(super) fn is_undecided(&self) -> bool {
        self.state.health().level() == Level::MostlyHealthy
    }
}

impl ProbeMetrics {
    pub(super) fn new(upstream: &str) -> Self {
        Self {
            outcomes: Outcome::LABELS
                .map(|outcome| metrics().health_probes.with_label_values(&[upstream, outcome])),
            duration: metrics().health_probe_duration.with_label_values(&[upstream]),
        }
    }
}

/// Returns how long failures are remembered: [`MEMORY`], and at least as long as the probes take that
/// a threshold waits for.
pub(super) fn memory(checks: &HealthChecks) -> Duration {
    let probes = u32::from(checks.active.thresholds.most_failures()) + 1;
    let round = checks
        .active
        .healthy_interval
        .map_or(Duration::ZERO, |interval| interval + checks.active.timeout);
    MEMORY.max(round * probes)
}

/// Returns the place of an address's probe in its interval, as a fraction of 2^64: the same after
/// each reload and restart, and as good as random between addresses.
pub(super) fn place_of(upstream: &str, address: SocketAddr) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(upstream.as_bytes());
    hasher.write(address.to_string().as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testbed::{SECOND, passive};
    use crate::model::{ActiveChecks, Thresholds};

    #[test]
    fn failures_of_rare_probes_are_remembered_from_one_to_the_next() {
        let rare = HealthChecks {
            active: ActiveChecks {
                healthy_interval: Some(SECOND * 3600),
                thresholds: Thresholds {
                    tcp_failures: 3,
                    ..Thresholds::default()
                },
                ..ActiveChecks::default()
            },
            ..HealthChecks::default()
        };
        assert!(memory(&rare) > SECOND * 3600 * 3);
        assert_eq!(memory(&passive()), MEMORY);
    }
}
