//! What is still under way at Targets, those included that get nothing new.
//!
//! A Target drains while it is out of rotation: it has weight 0, it is gone from its Upstream, or no Route
//! leads to that any more (`snapshot::rotation`). What was begun there goes on, and is counted until its
//! very end. This says what is left; `deadline` ends it where an operator has set a time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Names, Observed, TargetState, UpstreamState};
use crate::model::{Target, TargetHost, UpstreamKey};
use crate::snapshot::{Snapshot, Upstream};

/// What is under way in an Upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainReport {
    /// Name; `host:port` of a Service that names no Upstream.
    pub name: String,
    /// The configuration in force still has it.
    pub is_declared: bool,
    /// Some Route leads to it.
    pub is_routed: bool,
    /// Exchanges under way: requests, streams and upgraded connections.
    pub in_flight: u64,
    /// Those of them that have switched to another protocol, as WebSockets do.
    pub upgraded: u64,
    /// Exchanges that were closed because their Target was out of rotation for longer than
    /// `target_drain`; forgotten with the state of the Upstream.
    pub closed: u64,
    /// The Targets in the order of the source; after them addresses of none that still have something
    /// under way.
    pub targets: Vec<TargetDrain>,
}

/// What is under way at a Target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetDrain {
    /// `host:port`; the address, where no Target stands for it any more.
    pub label: String,
    /// The configuration in force still has it.
    pub is_declared: bool,
    /// Weight as configured; 0 when it is not.
    pub weight: u16,
    /// Whether it may be chosen.
    pub state: Rotation,
    /// Exchanges under way. Where several Targets share an address, the first has them.
    pub in_flight: u64,
    /// Those of them that have switched to another protocol.
    pub upgraded: u64,
    /// Tries that were sent to it.
    pub requests: u64,
    /// For how long it has been out of rotation; `None` if it is in, or nobody knows.
    pub out_for: Option<Duration>,
}

/// Whether a Target may be chosen, its health aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It may.
    In,
    /// It gets nothing new, and what it has may end.
    Draining,
}

impl Rotation {
    /// Returns the words for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::In => "in rotation",
            Self::Draining => "draining",
        }
    }
}

impl DrainReport {
    /// Says whether nothing is under way.
    pub fn is_drained(&self) -> bool {
        self.in_flight == 0
    }
}

/// Reports what is under way in an Upstream, by name. `None` when the configuration in force has none of
/// that name and nothing is under way in one that it had.
pub fn drain(snapshot: &Snapshot, observed: &Observed, upstream: &str, now: Instant) -> Option<DrainReport> {
    let found = drains(snapshot, observed, now, |key| key.label() == upstream);
    // A declared one goes before a Service's own host that reads the same.
    let (declared, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(key, _)| is_named(key));
    let mut found = declared.into_iter().chain(others);
    found.next().map(|(_, report)| report)
}

/// Reports what is under way in every Upstream of the configuration in force, and in those that are gone
/// while anything is.
pub fn drain_of_all(snapshot: &Snapshot, observed: &Observed, now: Instant) -> Vec<DrainReport> {
    let found = drains(snapshot, observed, now, |_| true);
    found.into_iter().map(|(_, report)| report).collect()
}

fn is_named(key: &UpstreamKey) -> bool {
    matches!(key, UpstreamKey::Named(_))
}

fn drains(
    snapshot: &Snapshot,
    observed: &Observed,
    now: Instant,
    is_wanted: impl Fn(&UpstreamKey) -> bool,
) -> Vec<(UpstreamKey, DrainReport)> {
    let routed = snapshot.routed_upstreams();
    let mut found = Vec::new();
    let mut declared = HashSet::new();
    for upstream in snapshot.upstreams.iter().filter(|one| is_wanted(&one.key)) {
        declared.insert(&upstream.key);
        let is_routed = routed.contains(&upstream.key);
        let report = DrainReport::of(upstream, is_routed, &observed.names, now);
        found.push((upstream.key.clone(), report));
    }
    for (key, state) in observed.registry.upstreams() {
        if declared.contains(&key) || !is_wanted(&key) {
            continue;
        }
        let report = DrainReport::of_gone(key.label().into_owned(), &state, now);
        if !report.is_drained() {
            found.push((key, report));
        }
    }
    found
}

impl DrainReport {
    fn of(upstream: &Upstream, is_routed: bool, names: &Names, now: Instant) -> Self {
        let mut states: HashMap<SocketAddr, Arc<TargetState>> =
            upstream.state().targets().into_iter().collect();
        let mut targets: Vec<TargetDrain> = Vec::with_capacity(upstream.targets().len());
        for target in upstream.targets() {
            let is_in = is_routed && target.weight.active().is_some();
            let mut report = TargetDrain {
                label: target.label(),
                is_declared: true,
                weight: target.weight.get(),
                ..TargetDrain::none(if is_in { Rotation::In } else { Rotation::Draining })
            };
            for address in addresses_of(target, names) {
                if let Some(state) = states.remove(&address) {
                    report.add(&state, now);
                }
            }
            targets.push(report);
        }
        targets.extend(gone(states, now));
        let mut report = Self::new(upstream.label().to_owned(), upstream.state(), targets);
        report.is_declared = true;
        report.is_routed = is_routed;
        report
    }

    /// Reports on an Upstream that is gone.
    fn of_gone(name: String, state: &UpstreamState, now: Instant) -> Self {
        let targets = gone(state.targets().into_iter().collect(), now);
        Self::new(name, state, targets)
    }

    fn new(name: String, state: &UpstreamState, targets: Vec<TargetDrain>) -> Self {
        Self {
            name,
            is_declared: false,
            is_routed: false,
            in_flight: targets.iter().map(|target| target.in_flight).sum(),
            upgraded: targets.iter().map(|target| target.upgraded).sum(),
            closed: state.drain_closed(),
            targets,
        }
    }
}

impl TargetDrain {
    fn none(state: Rotation) -> Self {
        Self {
            label: String::new(),
            is_declared: false,
            weight: 0,
            state,
            in_flight: 0,
            upgraded: 0,
            requests: 0,
            out_for: None,
        }
    }

    /// Adds what is under way at one address.
    fn add(&mut self, state: &TargetState, now: Instant) {
        // Read first, so that there are never more upgraded ones than there are at all.
        let upgraded = u64::from(state.upgraded());
        self.in_flight += u64::from(state.in_flight()).max(upgraded);
        self.upgraded += upgraded;
        self.requests += state.requests();
        if self.state == Rotation::Draining {
            self.out_for = self.out_for.max(state.out_for(now));
        }
    }
}

/// Returns the addresses that no Target stands for and that have something under way.
fn gone(states: HashMap<SocketAddr, Arc<TargetState>>, now: Instant) -> Vec<TargetDrain> {
    let mut states: Vec<_> = states.into_iter().collect();
    states.sort_unstable_by_key(|(address, _)| *address);
    let reports = states.into_iter().map(|(address, state)| {
        let mut report = TargetDrain {
            label: address.to_string(),
            ..TargetDrain::none(Rotation::Draining)
        };
        report.add(&state, now);
        report
    });
    reports.filter(|report| report.in_flight > 0).collect()
}

/// Returns what a Target stands for now, whatever its weight.
pub fn addresses_of(target: &Target, names: &Names) -> Vec<SocketAddr> {
    match &target.host {
        TargetHost::Address(address) => vec![SocketAddr::new(*address, target.port)],
        TargetHost::Name(host) => {
            let resolved = names.addresses(host).into_iter();
            resolved
                .map(|found| SocketAddr::new(found.address, found.port.unwrap_or(target.port)))
                .collect()
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock;
    use crate::config::{Overrides, load_text};
    use crate::snapshot::{Builder, Published};

    const SECOND: Duration = Duration::from_secs(1);

    /// Snapshots that follow one another, and what outlives them.
    pub(in crate::health) struct Bench {
        pub observed: Observed,
        pub published: Published,
    }

    fn build(text: &str, previous: Option<&Snapshot>, observed: &Observed) -> Snapshot {
        let loaded = load_text("f.yaml", text, &Overrides::default());
        let builder = Builder {
            previous,
            secret: None,
            access_log: None,
            observed,
            now: clock::now(),
        };
        match loaded {
            Ok(loaded) => builder.build(loaded.configuration, 1),
            Err(report) => panic!("{report}"),
        }
    }

    /// A Service on `host`, beside Upstreams of these names and weights at 10.0.0.1, 10.0.0.2 and so on.
    pub(in crate::health) fn config(host: &str, upstreams: &[(&str, &[u16])]) -> String {
        let mut text = format!(
            "_format_version: \"3.0\"\nservices:\n- {{name: shop, host: {host}, routes: [{{name: all, paths: [/]}}]}}\nupstreams:\n"
        );
        for (name, weights) in upstreams {
            text += &format!("- name: {name}\n  targets:\n");
            for (weight, number) in weights.iter().zip(1..) {
                text += &format!("  - {{target: \"10.0.0.{number}:80\", weight: {weight}}}\n");
            }
        }
        text
    }

    impl Bench {
        pub fn new(text: &str) -> Self {
            let observed = Observed::default();
            let published = Published::new(build(text, None, &observed));
            Self { observed, published }
        }

        pub fn reload(&self, text: &str) {
            let snapshot = build(text, Some(&self.published.current()), &self.observed);
            self.published.publish(snapshot);
        }

        fn drain(&self, upstream: &str) -> Option<DrainReport> {
            drain(
                &self.published.current(),
                &self.observed,
                upstream,
                clock::monotonic() + SECOND,
            )
        }

        /// Returns what outlives snapshots of one address.
        pub fn state(&self, upstream: &str, number: u8) -> Arc<TargetState> {
            let key = UpstreamKey::Named(upstream.to_owned());
            self.observed
                .registry
                .upstream(&key)
                .target(SocketAddr::from(([10, 0, 0, number], 80)))
        }

        #[track_caller]
        fn check(&self, upstream: &str, expected: &[(&str, bool, u16, Rotation, u64, bool)]) {
            let report = self.drain(upstream).unwrap();
            let found: Vec<_> = report
                .targets
                .iter()
                .map(|target| {
                    let is_out = target.out_for.is_some_and(|time| time >= SECOND);
                    (
                        &*target.label,
                        target.is_declared,
                        target.weight,
                        target.state,
                        target.in_flight,
                        is_out,
                    )
                })
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_switch_makes_one_drain_and_the_other_serve() {
        let upstreams: [(&str, &[u16]); 2] = [("blue", &[1, 0]), ("green", &[1])];
        let bench = Bench::new(&config("blue", &upstreams));
        let (blue, in_, out) = ("10.0.0.1:80", Rotation::In, Rotation::Draining);
        bench.state("blue", 1).begin();
        bench.state("blue", 1).begin_upgraded();
        // Never in rotation so far, so nobody knows since when it is not.
        bench.check(
            "blue",
            &[
                (blue, true, 1, in_, 1, false),
                ("10.0.0.2:80", true, 0, out, 0, false),
            ],
        );
        bench.check("green", &[(blue, true, 1, out, 0, false)]);
        bench.reload(&config("green", &upstreams));
        let report = bench.drain("blue").unwrap();
        assert_eq!(
            (
                report.is_declared,
                report.is_routed,
                report.in_flight,
                report.upgraded
            ),
            (true, false, 1, 1)
        );
        assert!(!report.is_drained() && bench.drain("green").unwrap().is_drained());
        assert_eq!(report.targets[0].out_for.map(|time| time >= SECOND), Some(true));
        bench.check("green", &[(blue, true, 1, in_, 0, false)]);
        bench.reload(&config("blue", &upstreams));
        assert_eq!(bench.drain("blue").unwrap().targets[0].out_for, None);
        bench.check("green", &[(blue, true, 1, out, 0, true)]);
    }

    #[test]
    fn what_is_gone_is_reported_while_something_is_under_way() {
        let bench = Bench::new(&config("blue", &[("blue", &[1, 1]), ("green", &[1])]));
        let (one, other) = (bench.state("blue", 1), bench.state("blue", 2));
        one.begin();
        other.begin();
        let out = Rotation::Draining;
        bench.reload(&config("blue", &[("blue", &[1]), ("green", &[1])]));
        bench.check(
            "blue",
            &[
                ("10.0.0.1:80", true, 1, Rotation::In, 1, false),
                ("10.0.0.2:80", false, 0, out, 1, true),
            ],
        );
        bench.reload(&config("green", &[("green", &[1])]));
        bench.check(
            "blue",
            &[
                ("10.0.0.1:80", false, 0, out, 1, true),
                ("10.0.0.2:80", false, 0, out, 1, true),
            ],
        );
        let all = |bench: &Bench| {
            let snapshot = bench.published.current();
            let all = drain_of_all(&snapshot, &bench.observed, clock::monotonic());
            all.into_iter().map(|report| report.name).collect::<Vec<_>>()
        };
        assert_eq!(all(&bench), ["green", "blue"]);
        other.end();
        bench.check("blue", &[("10.0.0.1:80", false, 0, out, 1, true)]);
        one.end();
        assert_eq!(bench.drain("blue"), None);
        assert_eq!(all(&bench), ["green"]);
        assert_eq!(bench.drain("nobody"), None);
    }

    #[test]
    fn an_edit_that_leaves_a_target_in_says_nothing_of_it() {
        let bench = Bench::new(&config("blue", &[("blue", &[1, 1])]));
        bench.reload(&config("blue", &[("blue", &[7, 0])]));
        let (one, other) = (bench.state("blue", 1), bench.state("blue", 2));
        let now = clock::monotonic() + SECOND;
        assert_eq!(one.out_for(now), None);
        let out_for = other.out_for(now).unwrap();
        // Out it stays, since then.
        bench.reload(&config("blue", &[("blue", &[8, 0])]));
        bench.reload(&config("blue", &[("blue", &[8])]));
        assert_eq!(other.out_for(now), Some(out_for));
        bench.reload(&config("blue", &[("blue", &[8, 1])]));
        assert_eq!(other.out_for(now), None);
    }
}
