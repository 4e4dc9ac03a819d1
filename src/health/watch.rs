//! What is watched: for each Upstream with checks what its snapshot says, its probes, and what there
//! is to do when.
//!
//! Nothing here is state of a Target: it all follows from the snapshot in force, so that a reload adds
//! and removes probes and resets nothing. Time is an argument.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use prometheus::{Histogram, IntCounter};
use siphasher::sip::SipHasher13;

use super::machine::MEMORY;
use super::probe::{Order, Outcome, Prober};
use super::schedule::{GroupId, ProbeId, Schedule};
use super::state::{Cause, TargetState};
use super::{Level, Observed};
use crate::clock;
use crate::metrics::metrics;
use crate::model::{HealthChecks, UpstreamKey};
use crate::snapshot::{Endpoints, Upstream};

/// How often weights are raised during a slow start.
const RAMP_STEP: Duration = Duration::from_secs(1);
/// How often states are looked at that nobody uses any more.
const TIDY: Duration = Duration::from_secs(60);
/// How long an Upstream stays empty at most if nothing probes its unhealthy Targets: nobody would ever
/// ask them again. Envoy's base ejection time.
const REST: Duration = Duration::from_secs(30);

/// What is watched.
pub(super) struct Watch {
    upstreams: HashMap<UpstreamKey, Watched>,
    jobs: HashMap<ProbeId, Arc<Job>>,
    schedule: Schedule,
    next_id: u64,
    ramp_due: Option<Instant>,
    tidy_due: Instant,
}

struct Watched {
    upstream: Arc<Upstream>,
    /// The addresses that probes were last set for.
    endpoints: Arc<Endpoints>,
    group: GroupId,
    probes: HashMap<SocketAddr, ProbeId>,
    /// Since when nothing may be chosen for want of health.
    empty_since: Option<Instant>,
    /// Flips that were told of.
    flips: u64,
}

/// A probe to carry out.
pub(super) struct Job {
    order: Arc<Order>,
    address: SocketAddr,
    upstream: Arc<Upstream>,
    state: Arc<TargetState>,
    metrics: Arc<ProbeMetrics>,
}

/// Children of the metrics for one Upstream.
struct ProbeMetrics {
    outcomes: [IntCounter; Outcome::LABELS.len()],
    duration: Histogram,
}

impl Job {
    /// Probes the address, counts the outcome and reports it.
    pub(super) async fn run(&self, prober: &mut Prober) {
        let started = clock::monotonic();
        let outcome = prober.probe(&self.order, self.address).await;
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

    /// Returns the Upstream.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Says whether failures speak against the address and have not decided yet.
    pub(super) fn is_undecided(&self) -> bool {
        self.state.health().level() == Level::MostlyHealthy
    }
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            upstreams: HashMap::new(),
            jobs: HashMap::new(),
            schedule: Schedule::new(now),
            next_id: 0,
            ramp_due: None,
            tidy_due: now + TIDY,
        }
    }

    /// Makes everything agree with the snapshot in force and with what has flipped.
    pub(super) fn catch_up(&mut self, upstreams: &[Arc<Upstream>], observed: &Observed, now: Instant) {
        if now >= self.tidy_due {
            observed.registry.tidy(now);
            self.tidy_due = now + TIDY;
        }
        let is_ramp_due = self.ramp_due.is_some_and(|due| now >= due);
        let mut is_ramping = false;
        let mut in_use = HashSet::with_capacity(upstreams.len());
        for upstream in upstreams {
            if !upstream.health().is_on() {
                // Those that were switched off; later checks begin anew.
                if self.stop(&upstream.key) {
                    upstream.state().forget_health();
                }
                continue;
            }
            in_use.insert(&upstream.key);
            self.let_in_after_rest(upstream, now);
            if upstream.is_outdated() || is_ramp_due && upstream.endpoints().is_ramping {
                upstream.refresh(observed);
            }
            let endpoints = upstream.endpoints();
            is_ramping |= endpoints.is_ramping;
            self.watch(upstream, endpoints, now);
        }
        let gone: Vec<UpstreamKey> = self
            .upstreams
            .keys()
            .filter(|key| !in_use.contains(key))
            .cloned()
            .collect();
        for key in gone {
            self.stop(&key);
        }
        self.ramp_due = match self.ramp_due.filter(|due| now < *due) {
            kept @ Some(_) if is_ramping => kept,
            _ => is_ramping.then(|| now + RAMP_STEP),
        };
    }

    /// Sets the probes of one Upstream.
    fn watch(&mut self, upstream: &Arc<Upstream>, endpoints: Arc<Endpoints>, now: Instant) {
        let flips = upstream.state().flips();
        let watched = match self.upstreams.get_mut(&upstream.key) {
            // The same addresses in the same state, so the same Upstream.
            Some(watched) if Arc::ptr_eq(&watched.endpoints, &endpoints) && watched.flips == flips => {
                return;
            }
            Some(watched) => watched,
            None => {
                self.next_id += 1;
                self.upstreams.entry(upstream.key.clone()).or_insert(Watched {
                    upstream: upstream.clone(),
                    endpoints: endpoints.clone(),
                    group: self.next_id,
                    probes: HashMap::new(),
                    empty_since: None,
                    flips: 0,
                })
            }
        };
        if watched.flips != flips {
            watched.flips = flips;
            tell_changes(upstream);
        }
        let is_same = Arc::ptr_eq(&watched.upstream, upstream);
        let checks = &upstream.health().active;
        self.schedule.set_limit(watched.group, checks.concurrency);
        let mut gone = std::mem::take(&mut watched.probes);
        let mut metrics = None;
        let mut orders: HashMap<usize, Arc<Order>> = HashMap::new();
        for member in &endpoints.members {
            let endpoint = &endpoints.list[member.endpoint];
            let address = endpoint.address;
            let interval = match endpoint.state.health().is_healthy() {
                true => checks.healthy_interval,
                false => checks.unhealthy_interval,
            };
            // Targets at one address are probed once, as the first of them.
            let (Some(interval), false) = (interval, watched.probes.contains_key(&address)) else {
                continue;
            };
            let known = gone.remove(&address);
            let id = known.unwrap_or_else(|| {
                self.next_id += 1;
                self.next_id
            });
            watched.probes.insert(address, id);
            if !is_same || known.is_none() {
                let order = orders.entry(member.target).or_insert_with(|| {
                    let target = &upstream.targets()[member.target];
                    Arc::new(Order::new(checks, upstream.host_header.as_ref(), target))
                });
                let job = Job {
                    order: order.clone(),
                    address,
                    upstream: upstream.clone(),
                    state: endpoint.state.clone(),
                    metrics: metrics
                        .get_or_insert_with(|| Arc::new(ProbeMetrics::new(upstream.label())))
                        .clone(),
                };
                self.jobs.insert(id, Arc::new(job));
            }
            let place = place_of(upstream.label(), address);
            self.schedule.set(id, watched.group, interval, place, now);
        }
        for id in gone.into_values() {
            self.schedule.remove(id);
            self.jobs.remove(&id);
        }
        let is_empty = endpoints.weighted.is_none() && !endpoints.list.is_empty();
        match (is_empty, watched.empty_since) {
            (true, None) => {
                watched.empty_since = Some(now);
                warn!(
                    "upstream {} answers 503: {} of its weight of {} is healthy",
                    upstream.label(),
                    endpoints.weight.available,
                    endpoints.weight.total
                );
            }
            (false, Some(_)) => {
                watched.empty_since = None;
                info!("upstream {} serves again", upstream.label());
            }
            _ => {}
        }
        watched.upstream = upstream.clone();
        watched.endpoints = endpoints;
    }

    /// Stops the probes of an Upstream and says whether it was watched.
    fn stop(&mut self, key: &UpstreamKey) -> bool {
        let Some(watched) = self.upstreams.remove(key) else {
            return false;
        };
        for id in watched.probes.into_values() {
            self.schedule.remove(id);
            self.jobs.remove(&id);
        }
        forget_series(&watched.upstream);
        true
    }

    /// Lets what checks took out in again when nothing else is left and no probe would ever bring it
    /// back.
    fn let_in_after_rest(&mut self, upstream: &Upstream, now: Instant) {
        let Some(watched) = self.upstreams.get_mut(&upstream.key) else {
            return;
        };
        if watched.rest_ends().is_none_or(|ends| now < ends) {
            return;
        }
        watched.empty_since = Some(now);
        for endpoint in &upstream.endpoints().list {
            if endpoint.state.cause() != Cause::Operator && !endpoint.state.health().is_healthy() {
                upstream.state().settle(&endpoint.state, true, Cause::Rest, now);
            }
        }
    }

    /// Returns the next probe to carry out.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<(ProbeId, Arc<Job>)> {
        let id = self.schedule.start_next(now)?;
        Some((id, self.jobs.get(&id)?.clone()))
    }

    /// Takes note that a probe has ended.
    pub(super) fn done(&mut self, id: ProbeId, now: Instant) {
        self.schedule.done(id, now);
    }

    /// Returns every probe, in no order.
    pub(super) fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.values().cloned().collect()
    }

    /// Returns when there is something to do although nothing happened.
    pub(super) fn next_wake(&self) -> Instant {
        let next_probe = self.schedule.next_wake();
        next_probe.map_or(self.next_look(), |at| at.min(self.next_look()))
    }

    pub(super) fn is_time_to_look(&self, now: Instant) -> bool {
        now >= self.next_look()
    }

    fn next_look(&self) -> Instant {
        let rests = self.upstreams.values().filter_map(Watched::rest_ends);
        rests.chain(self.ramp_due).fold(self.tidy_due, Instant::min)
    }
}

impl Watched {
    /// Returns when Targets are let in again that no probe would bring back.
    fn rest_ends(&self) -> Option<Instant> {
        let is_unwatched = self.upstream.health().active.unhealthy_interval.is_none();
        self.empty_since
            .filter(|_| is_unwatched)
            .map(|since| since + REST)
    }
}

impl ProbeMetrics {
    fn new(upstream: &str) -> Self {
        Self {
            outcomes: Outcome::LABELS
                .map(|outcome| metrics().health_probes.with_label_values(&[upstream, outcome])),
            duration: metrics().health_probe_duration.with_label_values(&[upstream]),
        }
    }
}

/// Logs and counts what has flipped since the last time.
fn tell_changes(upstream: &Upstream) {
    for endpoint in &upstream.endpoints().list {
        let Some(is_healthy) = endpoint.state.untold_change() else {
            continue;
        };
        let (name, label, address) = (upstream.label(), &endpoint.label, endpoint.address);
        let why = endpoint.state.cause().words();
        let to = match is_healthy {
            true => {
                info!("upstream {name}: target {label} ({address}) is healthy: {why}");
                "healthy"
            }
            false => {
                warn!("upstream {name}: target {label} ({address}) is out: {why}");
                "unhealthy"
            }
        };
        metrics()
            .target_health_changes
            .with_label_values(&[name, label, to])
            .inc();
    }
}

/// Takes the series of an Upstream that is no longer checked out of the registry.
fn forget_series(upstream: &Upstream) {
    let name = upstream.label();
    for outcome in Outcome::LABELS {
        let _ = metrics().health_probes.remove_label_values(&[name, outcome]);
    }
    let _ = metrics().health_probe_duration.remove_label_values(&[name]);
    for target in upstream.targets() {
        for to in ["healthy", "unhealthy"] {
            let labels = [name, &target.label(), to];
            let _ = metrics().target_health_changes.remove_label_values(&labels);
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
    use crate::health::{Health, Level, ManualError, Report, UpstreamHealth, set_manual};
    use crate::model::{
        self, ActiveChecks, Algorithm, Configuration, PassiveChecks, Target, TargetHost, Threshold,
        Thresholds, Weight,
    };
    use crate::snapshot::{Builder, Snapshot};

    const SECOND: Duration = Duration::from_secs(1);

    /// The health thread of one Upstream `shop`, under a manual clock and without sockets.
    struct Bench {
        snapshot: Snapshot,
        observed: Observed,
        watch: Watch,
        now: Instant,
    }

    fn upstream(checks: HealthChecks, weights: &[u16]) -> model::Upstream {
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

    fn passive() -> HealthChecks {
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

    fn active(healthy: u64, unhealthy: u64) -> HealthChecks {
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
        fn new(upstream: model::Upstream) -> Self {
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

        fn reload(&mut self, upstream: model::Upstream) {
            self.snapshot = build(Some(&self.snapshot), upstream, &self.observed);
            self.catch_up();
        }

        fn catch_up(&mut self) {
            self.watch
                .catch_up(&self.snapshot.upstreams, &self.observed, self.now);
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            self.catch_up();
        }

        fn upstream(&self) -> &Upstream {
            &self.snapshot.upstreams[0]
        }

        /// Reports one answer of a Target, counted from 0.
        fn report(&mut self, target: usize, cause: Cause) {
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

        fn eligible(&self) -> Vec<usize> {
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
        fn check_probes(&mut self, expected: &[u32]) {
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

    fn build(previous: Option<&Snapshot>, upstream: model::Upstream, observed: &Observed) -> Snapshot {
        let source = Configuration {
            upstreams: vec![upstream],
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

    const FAILURE: Cause = Cause::Request(Report::HttpFailure);

    #[test]
    fn a_flip_takes_an_address_out_and_probes_it_at_the_other_interval() {
        let mut bench = Bench::new(upstream(active(10, 2), &[100, 100, 0]));
        assert_eq!(bench.eligible(), [0, 1]);
        bench.check_probes(&[10, 10, 0]);
        bench.report(1, Cause::Probe(Report::TcpFailure));
        assert_eq!(bench.eligible(), [0]);
        bench.check_probes(&[10, 50, 0]);
        bench.report(1, Cause::Probe(Report::Success));
        assert_eq!(bench.eligible(), [0, 1]);
        bench.check_probes(&[10, 10, 0]);
    }

    #[test]
    fn a_reload_sets_probes_and_resets_no_state() {
        let mut bench = Bench::new(upstream(active(10, 10), &[100, 100]));
        bench.report(0, FAILURE);
        bench.reload(upstream(active(10, 10), &[1, 7, 100]));
        assert_eq!(bench.eligible(), [1, 2]);
        bench.check_probes(&[10, 10, 10]);
        bench.reload(upstream(active(10, 10), &[0, 7]));
        bench.check_probes(&[0, 10]);
        bench.reload(upstream(passive(), &[5, 7]));
        assert_eq!(bench.eligible(), [1]);
        bench.check_probes(&[0, 0]);
        // Without checks there is no state.
        bench.reload(upstream(HealthChecks::default(), &[5, 7]));
        assert_eq!(bench.eligible(), [0, 1]);
        bench.reload(upstream(passive(), &[5, 7]));
        assert_eq!(bench.eligible(), [0, 1]);
    }

    #[test]
    fn a_flip_during_a_build_is_not_lost() {
        let mut bench = Bench::new(upstream(passive(), &[100, 100]));
        // Compiled before the flip, published after it.
        let late = build(
            Some(&bench.snapshot),
            upstream(passive(), &[50, 100]),
            &bench.observed,
        );
        bench.report(0, FAILURE);
        bench.snapshot = late;
        assert_eq!(bench.eligible(), [0, 1]);
        bench.catch_up();
        assert_eq!(bench.eligible(), [1]);
    }

    #[test]
    fn too_little_left_is_nothing_left() {
        let at = |percent| HealthChecks {
            threshold: Threshold::from_percent(percent).unwrap(),
            ..passive()
        };
        for (percent, left) in [(0.0, vec![1]), (24.9, vec![1]), (25.0, vec![]), (100.0, vec![])] {
            let mut bench = Bench::new(upstream(at(percent), &[75, 25]));
            assert_eq!(bench.eligible(), [0, 1]);
            bench.report(0, FAILURE);
            assert_eq!(bench.eligible(), left, "{percent} %");
            assert_eq!(bench.upstream().is_empty(), left.is_empty());
            let health = UpstreamHealth::of(bench.upstream());
            // The Upstream's verdict is not the Target's.
            assert_eq!(health.targets[1].health, Health::Healthy);
            let expected = match left.is_empty() {
                true => Health::Unhealthy,
                false => Health::Healthy,
            };
            assert_eq!((health.health, health.weight.available), (expected, 25));
        }
    }

    #[test]
    fn a_target_that_comes_back_gets_its_weight_little_by_little() {
        let slow = |checks| model::Upstream {
            slow_start: Some(SECOND * 3600),
            ..upstream(checks, &[100, 100])
        };
        let mut bench = Bench::new(slow(active(1, 1)));
        let weights = |bench: &Bench| -> Vec<u32> {
            let endpoints = bench.upstream().endpoints();
            endpoints
                .eligible
                .iter()
                .map(|candidate| candidate.weight.get())
                .collect()
        };
        assert_eq!(weights(&bench), [100, 100]);
        assert_eq!(bench.watch.ramp_due, None);
        bench.report(0, FAILURE);
        bench.report(0, Cause::Probe(Report::Success));
        assert_eq!(weights(&bench), [10, 100]);
        assert_eq!(bench.watch.ramp_due, Some(bench.now + SECOND));
        // What is available does not depend on it.
        assert_eq!(bench.upstream().endpoints().weight.available, 200);
        bench.wait(SECOND);
        assert_eq!(bench.watch.ramp_due, Some(bench.now + SECOND));
        // Switched off, the weight is whole at once.
        bench.reload(upstream(active(1, 1), &[100, 100]));
        assert_eq!(weights(&bench), [100, 100]);
        bench.wait(SECOND);
        assert_eq!(bench.watch.ramp_due, None);
    }

    #[test]
    fn without_probes_an_empty_upstream_is_tried_again_after_30_seconds() {
        let mut bench = Bench::new(upstream(passive(), &[100, 100, 100]));
        bench.report(0, FAILURE);
        // While something is left, passive checks never bring a Target back.
        bench.wait(REST * 100);
        assert_eq!(bench.eligible(), [1, 2]);
        bench.report(1, FAILURE);
        let set = |bench: &Bench, is_healthy| {
            set_manual(
                &bench.snapshot,
                &bench.observed,
                "shop",
                "10.0.0.3:80",
                None,
                is_healthy,
            )
        };
        assert_eq!(set(&bench, false), Ok(()));
        bench.catch_up();
        assert!(bench.upstream().is_empty());
        assert_eq!(
            bench.watch.next_look(),
            (bench.now + REST).min(bench.watch.tidy_due)
        );
        bench.wait(REST - SECOND);
        assert!(bench.eligible().is_empty());
        // What an operator took out stays out.
        bench.wait(SECOND);
        assert_eq!(bench.eligible(), [0, 1]);
    }

    #[test]
    fn with_probes_an_empty_upstream_waits_for_them() {
        let mut bench = Bench::new(upstream(active(10, 10), &[100]));
        bench.report(0, FAILURE);
        bench.wait(REST * 100);
        assert!(bench.eligible().is_empty());
        bench.report(0, Cause::Probe(Report::Success));
        assert_eq!(bench.eligible(), [0]);
    }

    #[test]
    fn an_operator_takes_a_target_out_and_brings_it_back() {
        let mut bench = Bench::new(upstream(passive(), &[100, 100, 0]));
        let set = |bench: &Bench, target: &str, address, is_healthy| {
            set_manual(
                &bench.snapshot,
                &bench.observed,
                "shop",
                target,
                address,
                is_healthy,
            )
        };
        // In force at once, without the health thread.
        assert_eq!(set(&bench, "10.0.0.1:80", None, false), Ok(()));
        assert_eq!(bench.eligible(), [1]);
        assert_eq!(
            bench.upstream().endpoints().list[0].state.cause(),
            Cause::Operator
        );
        assert_eq!(set(&bench, "10.0.0.1:80", None, true), Ok(()));
        assert_eq!(bench.eligible(), [0, 1]);
        // By id, and by address.
        let id = uuid::Uuid::from_u128(2).to_string();
        let ip = std::net::IpAddr::from([10, 0, 0, 2]);
        assert_eq!(set(&bench, &id, Some((ip, Some(80))), false), Ok(()));
        assert_eq!(bench.eligible(), [0]);
        assert_eq!(set(&bench, &id, Some((ip, None)), true), Ok(()));
        assert_eq!(
            set(&bench, &id, Some((ip, Some(81))), true),
            Err(ManualError::NoAddress)
        );
        assert_eq!(set(&bench, "10.0.0.9:80", None, true), Err(ManualError::NoTarget));
        assert_eq!(set(&bench, "10.0.0.3:80", None, true), Err(ManualError::NoTarget));
        let nobody = set_manual(
            &bench.snapshot,
            &bench.observed,
            "nobody",
            "10.0.0.1:80",
            None,
            true,
        );
        assert_eq!(nobody, Err(ManualError::NoUpstream));
        bench.reload(upstream(HealthChecks::default(), &[100, 100]));
        assert_eq!(
            set(&bench, "10.0.0.1:80", None, false),
            Err(ManualError::ChecksOff)
        );
        assert_eq!(bench.eligible(), [0, 1]);
    }

    #[test]
    fn counters_begin_anew_after_an_operators_word() {
        let checks = HealthChecks {
            passive: PassiveChecks {
                thresholds: Thresholds {
                    http_failures: 2,
                    ..Thresholds::default()
                },
                ..PassiveChecks::default()
            },
            ..HealthChecks::default()
        };
        let mut bench = Bench::new(upstream(checks, &[100]));
        let level = |bench: &Bench| bench.upstream().endpoints().list[0].state.health().level();
        bench.report(0, FAILURE);
        assert_eq!(level(&bench), Level::MostlyHealthy);
        set_manual(
            &bench.snapshot,
            &bench.observed,
            "shop",
            "10.0.0.1:80",
            None,
            true,
        )
        .unwrap();
        assert_eq!(level(&bench), Level::Healthy);
        bench.report(0, FAILURE);
        assert_eq!(level(&bench), Level::MostlyHealthy);
    }

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
