//! What is watched: for each Upstream with checks what its snapshot says, its probes, and what there
//! is to do when.
//!
//! Nothing here is state of a Target: it all follows from the snapshot in force, so that a reload adds
//! and removes probes and resets nothing. Time is an argument.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use log::{info, warn};

use super::announce::{forget_series, tell_changes};
use super::job::{Job, ProbeMetrics, place_of};
use super::probe::Order;
use super::schedule::{GroupId, ProbeId, Schedule};
use super::{Cause, Observed};
use crate::model::UpstreamKey;
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
    upstreams: HashMap<UpstreamKey, Watched, RandomState>,
    jobs: HashMap<ProbeId, Arc<Job>>,
    schedule: Schedule,
    next_id: u64,
    ramp_due: Option<Instant>,
    tidy_due: Instant,
    /// When there is something to do although nothing happened.
    look_due: Instant,
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

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            upstreams: HashMap::default(),
            jobs: HashMap::new(),
            schedule: Schedule::new(now),
            next_id: 0,
            ramp_due: None,
            tidy_due: now + TIDY,
            look_due: now + TIDY,
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
        let mut in_use = HashSet::with_capacity_and_hasher(self.upstreams.len(), RandomState::default());
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
        let rests = self.upstreams.values().filter_map(Watched::rest_ends);
        self.look_due = rests.chain(self.ramp_due).fold(self.tidy_due, Instant::min);
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
        next_probe.map_or(self.look_due, |at| at.min(self.look_due))
    }

    pub(super) fn is_time_to_look(&self, now: Instant) -> bool {
        now >= self.look_due
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testbed::{Bench, FAILURE, SECOND, active, build, passive, upstream};
    use crate::health::{Health, Report, UpstreamHealth, set_manual};
    use crate::model::{self, HealthChecks, Threshold};

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
        assert_eq!(bench.watch.look_due, (bench.now + REST).min(bench.watch.tidy_due));
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
}
