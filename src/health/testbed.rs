//! What tests of this folder stand on: the health thread under a manual clock and without sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::machine::MEMORY;
use super::watch::Watch;
use super::{Cause, Observed, Report};
use crate::clock;
use crate::model::{
    self, ActiveChecks, Algorithm, Configuration, HealthChecks, PassiveChecks, Target, TargetHost,
    Thresholds, Weight,
};
use crate::snapshot::{Builder, Snapshot, Upstream};

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// A request's answer that passive checks count against its Target.
pub(super) const FAILURE: Cause = Cause::Request(Report::HttpFailure);

/// The health thread of one Upstream `shop`, under a manual clock and without sockets.
pub(super) struct Bench {
    pub snapshot: Snapshot,
    pub observed: Observed,
    pub watch: Watch,
    pub now: Instant,
}

pub(super) fn upstream(checks: HealthChecks, weights: &[u16]) -> model::Upstream {
    let targets = weights.iter().zip(1..).map(|(weight, number)| Target {
        id: uuid::Uuid::from_u128(number),
        host: TargetHost::parse(&format!("10.0.0.{number}")),
        port: 80,
        weight: Weight::new(*weight),
    });
    model::Upstream {
        id: uuid::Uuid::from_u128(1000),
        name: "shop".to_owned(),
        algorithm: Algorithm::RoundRobin,
        host_header: None,
        health: checks,
        slow_start: None,
        targets: targets.collect(),
    }
}

pub(super) fn passive() -> HealthChecks {
    let thresholds = Thresholds {
        http_failures: 1,
        ..Thresholds::default()
    };
    HealthChecks {
        passive: PassiveChecks {
            thresholds,
            ..PassiveChecks::default()
        },
        ..HealthChecks::default()
    }
}

pub(super) fn active(healthy: u64, unhealthy: u64) -> HealthChecks {
    HealthChecks {
        active: ActiveChecks {
            healthy_interval: Some(SECOND * healthy as u32),
            unhealthy_interval: Some(SECOND * unhealthy as u32),
            thresholds: Thresholds {
                successes: 1,
                tcp_failures: 1,
                ..Thresholds::default()
            },
            ..ActiveChecks::default()
        },
        ..passive()
    }
}

impl Bench {
    pub fn new(upstream: model::Upstream) -> Self {
        let observed = Observed::default();
        let mut bench = Self {
            snapshot: build(None, upstream, &observed),
            observed,
            watch: Watch::new(clock::monotonic()),
            now: clock::monotonic(),
        };
        bench.catch_up();
        bench
    }

    pub fn reload(&mut self, upstream: model::Upstream) {
        self.snapshot = build(Some(&self.snapshot), upstream, &self.observed);
        self.catch_up();
    }

    pub fn catch_up(&mut self) {
        self.watch
            .catch_up(&self.snapshot.upstreams, &self.observed, self.now);
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.catch_up();
    }

    pub fn upstream(&self) -> &Upstream {
        &self.snapshot.upstreams[0]
    }

    /// Reports one answer of a Target, counted from 0.
    pub fn report(&mut self, target: usize, cause: Cause) {
        let upstream = self.upstream();
        let endpoint = &upstream.endpoints().list[target];
        let thresholds = match cause {
            Cause::Probe(_) => &upstream.health().active.thresholds,
            _ => &upstream.health().passive.thresholds,
        };
        upstream
            .state()
            .report(&endpoint.state, cause, thresholds, MEMORY, self.now);
        self.catch_up();
    }

    pub fn eligible(&self) -> Vec<usize> {
        let endpoints = self.upstream().endpoints();
        endpoints
            .eligible
            .iter()
            .map(|candidate| candidate.index)
            .collect()
    }

    /// Insists on so many probes of each Target in the next 100 seconds: one more or less, because
    /// starts that come too close together are moved apart.
    #[track_caller]
    pub fn check_probes(&mut self, expected: &[u32]) {
        let mut counts = vec![0_u32; expected.len()];
        for _ in 0..10_000 {
            self.now += SECOND / 100;
            while let Some((id, job)) = self.watch.start_next(self.now) {
                let SocketAddr::V4(address) = job.address else {
                    panic!()
                };
                counts[usize::from(address.ip().octets()[3]) - 1] += 1;
                self.watch.done(id, self.now);
            }
        }
        for (count, expected) in counts.iter().zip(expected) {
            let is_right = match expected {
                0 => *count == 0,
                expected => count.abs_diff(*expected) <= 1,
            };
            assert!(is_right, "{counts:?}");
        }
    }
}

pub(super) fn build(previous: Option<&Snapshot>, upstream: model::Upstream, observed: &Observed) -> Snapshot {
    let source = Configuration {
        upstreams: vec![upstream.into()].into(),
        ..Configuration::default()
    };
    let builder = Builder {
        previous,
        secret: None,
        access_log: None,
        observed,
        now: clock::now(),
    };
    builder.build(source, 1)
}
