//! A compiled Upstream: its Targets as addresses, and what chooses among them.
//!
//! What the operator wrote is fixed for the life of a snapshot. Which addresses it stands for is
//! not: names resolve to something else. So the addresses and the selectors over them are one
//! immutable [`Endpoints`], swapped whole by the control thread; a request loads it once per try.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use log::warn;
use uuid::Uuid;

use crate::balance::{Candidate, HashKey, Index, Ring, SessionKey, Sessions, Weighted};
use crate::clock;
use crate::health::{Names, Observed, Resolved, TargetState, UpstreamState, ramped_weights};
use crate::model::{
    self, Algorithm, HashInput, HealthChecks, PassiveChecks, Secret, SessionCookie, Target, TargetHost,
    UpstreamKey,
};

/// A compiled Upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Identity across snapshots.
    pub key: UpstreamKey,
    /// Host header for all Targets, when the Upstream sets one.
    pub host_header: Option<HeaderValue>,
    /// How a Target is chosen.
    pub selection: Selection,
    /// Separates the pooled connections of this Upstream from those of others on the same address.
    pub group_key: u64,
    source: Arc<model::Upstream>,
    endpoints: ArcSwap<Endpoints>,
    is_empty: AtomicBool,
    /// Flips that `endpoints` know of.
    flips_seen: AtomicU64,
    /// One refresh at a time, lest an older look at health replaces a newer one.
    refreshing: Mutex<()>,
    state: Arc<UpstreamState>,
}

/// How a Target is chosen: the algorithm, compiled.
#[derive(Debug, PartialEq)]
pub enum Selection {
    /// Weighted round robin; what the others come back to as well.
    RoundRobin,
    /// A place on a ring.
    ConsistentHashing(Hashing),
    /// The fewest requests in flight.
    LeastConnections,
    /// The quickest answers.
    Latency,
    /// The Target that the client's cookie names.
    StickySessions(Session),
}

/// Sticky sessions, compiled.
#[derive(Debug, PartialEq)]
pub struct Session {
    /// The cookie that names a Target.
    pub cookie: SessionCookie,
    key: SessionKey,
}

/// Consistent hashing, compiled.
#[derive(Debug, PartialEq)]
pub struct Hashing {
    /// First choice and fallback, each with the key its values are hashed under.
    pub inputs: Vec<(HashInput, HashKey)>,
    slots: u32,
}

/// The addresses behind an Upstream and the selectors over them. A selector speaks of an address by
/// its position in `list`.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Every address of a Target in rotation, eligible or not.
    pub list: Vec<Endpoint>,
    /// The eligible ones, as selectors take them.
    pub eligible: Vec<Candidate>,
    /// Round robin over the eligible; `None` when there is none.
    pub weighted: Option<Weighted>,
    /// What cookies call the addresses of the whole list, when sessions are sticky.
    pub sessions: Option<Sessions>,
    /// Ring over the whole list, when the Upstream hashes: a Target that goes down moves no key but
    /// its own.
    pub ring: Option<Ring>,
    /// Which addresses each Target stands for.
    pub members: Vec<Member>,
    /// Weight of all Targets in rotation, and how much of it is healthy.
    pub weight: Availability,
    /// Some address is being given its weight little by little.
    pub is_ramping: bool,
}

/// An address of a Target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Position of the Target in the Upstream.
    pub target: usize,
    /// The address.
    pub endpoint: Index,
    /// Weight that this Target brings to the address.
    pub weight: u32,
}

/// How much of a weight is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    /// The whole.
    pub total: u64,
    /// What may be chosen, but for the Upstream's threshold.
    pub available: u64,
}

/// One address of an Upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Host header for this Target when the Upstream sets none.
    pub host_header: HeaderValue,
    /// What metrics and logs call the Target.
    pub label: Arc<str>,
    /// No check and no operator had taken it out when the selectors were made, so that what is told of health is
    /// what they choose by.
    pub is_healthy: bool,
    /// May be chosen: it is healthy, and so is the Upstream.
    pub is_eligible: bool,
    /// What outlives this snapshot.
    pub state: Arc<TargetState>,
}

impl Upstream {
    /// Compiles an Upstream; what was observed of it before goes on.
    pub(super) fn build(
        key: UpstreamKey,
        source: Arc<model::Upstream>,
        secret: Option<&Secret>,
        observed: &Observed,
    ) -> Self {
        let upstream = Self {
            host_header: source
                .host_header
                .as_deref()
                .map(|host| HeaderValue::from_str(host).expect("the model holds valid hosts")),
            selection: Selection::build(&source.algorithm, secret),
            group_key: ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(&key),
            endpoints: ArcSwap::from_pointee(Endpoints::default()),
            is_empty: AtomicBool::new(true),
            flips_seen: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            state: observed.registry.upstream(&key),
            key,
            source,
        };
        upstream.refresh(observed);
        upstream
    }

    /// Says whether this was compiled from the same source and secret.
    pub(super) fn is_built_from(&self, source: &Arc<model::Upstream>, secret: Option<&Secret>) -> bool {
        let is_same = Arc::ptr_eq(&self.source, source) || self.source == *source;
        is_same && self.selection == Selection::build(&source.algorithm, secret)
    }

    /// Compiles the addresses anew from what was observed, and swaps them in; for the threads of
    /// control and health.
    pub fn refresh(&self, observed: &Observed) {
        // What is guarded is the order of refreshes; a panic leaves the last one in force.
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the states, so that a flip in between is one that was not seen.
        let flips = self.state.flips();
        let now = clock::monotonic();
        let endpoints = Endpoints::build(&self.source, &self.state, &self.selection, &observed.names, now);
        self.is_empty
            .store(endpoints.weighted.is_none(), Ordering::Relaxed);
        self.endpoints.store(Arc::new(endpoints));
        self.flips_seen.store(flips, Ordering::Relaxed);
        self.state.addresses_changed();
    }

    /// Says whether health has changed since the last refresh.
    pub fn is_outdated(&self) -> bool {
        self.flips_seen.load(Ordering::Relaxed) != self.state.flips()
    }

    /// Returns when a Target counts as healthy.
    pub fn health(&self) -> &HealthChecks {
        &self.source.health
    }

    /// Returns what is learnt from requests, if anything is.
    pub fn passive_checks(&self) -> Option<&PassiveChecks> {
        let passive = &self.source.health.passive;
        passive.thresholds.has_failures().then_some(passive)
    }

    /// Says whether this is an Upstream that the operator named, not a Service's own host.
    pub fn is_declared(&self) -> bool {
        matches!(self.key, UpstreamKey::Named(_))
    }

    /// Returns the identity that the operator or the source gave it.
    pub fn id(&self) -> Uuid {
        self.source.id
    }

    /// Returns what metrics and logs call the Upstream.
    pub fn label(&self) -> &str {
        &self.source.name
    }

    /// Returns the Targets as declared, those out of rotation included.
    pub fn targets(&self) -> &[Target] {
        &self.source.targets
    }

    /// Returns the names that must be resolved for this Upstream.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.source
            .targets
            .iter()
            .filter_map(|target| match &target.host {
                TargetHost::Name(name) if target.weight.active().is_some() => Some(&**name),
                _ => None,
            })
    }

    /// Returns the addresses as they are now; one atomic load and a reference count.
    pub fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }

    /// Says whether nothing may be chosen, so that the answer is 503. A relaxed load: a request
    /// that reads it one moment late is answered by `select` instead.
    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Relaxed)
    }

    /// Returns what outlives this snapshot: positions of round robins, the state of each address.
    pub fn state(&self) -> &Arc<UpstreamState> {
        &self.state
    }
}

impl Selection {
    fn build(algorithm: &Algorithm, secret: Option<&Secret>) -> Self {
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::ConsistentHashing(hashing) => Self::ConsistentHashing(Hashing::build(hashing, secret)),
            Algorithm::LeastConnections => Self::LeastConnections,
            Algorithm::Latency => Self::Latency,
            Algorithm::StickySessions(cookie) => Self::StickySessions(Session {
                cookie: cookie.clone(),
                // Whoever runs this has the secret: `config::secret` sees to it.
                key: SessionKey::from_secret(secret.map_or(&[], Secret::expose)),
            }),
        }
    }
}

impl Hashing {
    fn build(hashing: &model::Hashing, secret: Option<&Secret>) -> Self {
        let keyed = |input: &HashInput| {
            let key = match secret {
                Some(secret) if input.is_chosen_by_client() => HashKey::from_secret(secret.expose()),
                _ => HashKey::published(),
            };
            (input.clone(), key)
        };
        Self {
            inputs: std::iter::once(&hashing.input)
                .chain(&hashing.fallback)
                .map(keyed)
                .collect(),
            slots: hashing.slots,
        }
    }
}

impl Endpoints {
    fn build(
        upstream: &model::Upstream,
        state: &UpstreamState,
        selection: &Selection,
        names: &Names,
        now: Instant,
    ) -> Self {
        let mut list: Vec<Endpoint> = Vec::with_capacity(upstream.targets.len());
        let mut candidates: Vec<Candidate> = Vec::with_capacity(upstream.targets.len());
        let mut known: HashMap<SocketAddr, usize> = HashMap::with_capacity(upstream.targets.len());
        let mut members: Vec<Member> = Vec::with_capacity(upstream.targets.len());
        let mut weight_of_all = Availability::default();
        for (position, target) in upstream.targets.iter().enumerate() {
            let Some(weight) = target.weight.active().map(NonZeroU32::from) else {
                continue;
            };
            let label: Arc<str> = target.label().into();
            let addresses = match &target.host {
                TargetHost::Address(address) => vec![Resolved::new(*address)],
                TargetHost::Name(name) => names.addresses(name),
            };
            if addresses.is_empty() {
                // What cannot be resolved cannot serve, so its share is missing.
                weight_of_all.total += u64::from(weight.get());
            }
            for resolved in addresses {
                let address = SocketAddr::new(resolved.address, resolved.port.unwrap_or(target.port));
                let weight = resolved
                    .weight
                    .and_then(|weight| NonZeroU32::new(weight.into()))
                    .unwrap_or(weight);
                members.push(Member {
                    target: position,
                    endpoint: known.get(&address).copied().unwrap_or(list.len()),
                    weight: weight.get(),
                });
                // Targets that resolve to one address are one for selection.
                if let Some(&at) = known.get(&address) {
                    candidates[at].weight = candidates[at].weight.saturating_add(weight.get());
                    continue;
                }
                let state = state.target(address);
                known.insert(address, list.len());
                candidates.push(Candidate {
                    index: list.len(),
                    address,
                    weight,
                });
                list.push(Endpoint {
                    address,
                    host_header: host_header(target),
                    label: label.clone(),
                    is_healthy: state.health().is_healthy(),
                    is_eligible: true,
                    state,
                });
            }
        }
        let ring = match selection {
            Selection::ConsistentHashing(hashing) => Ring::build(&candidates, hashing.slots)
                .inspect_err(|error| {
                    warn!(
                        "upstream {}: {error}; its requests are spread by round robin",
                        upstream.name
                    );
                })
                .ok(),
            _ => None,
        };
        let sessions = match selection {
            Selection::StickySessions(session) => {
                let addresses = list.iter().map(|endpoint| endpoint.address);
                Some(Sessions::build(&session.key, &upstream.name, addresses))
            }
            _ => None,
        };
        apply_health(&upstream.health, &candidates, &mut list, &mut weight_of_all);
        let mut eligible: Vec<Candidate> = candidates
            .into_iter()
            .filter(|candidate| list[candidate.index].is_eligible)
            .collect();
        let is_ramping = match upstream.slow_start.filter(|_| upstream.health.is_on()) {
            None => false,
            Some(over) => slow_down(&mut eligible, &list, over, now),
        };
        Self {
            weighted: Weighted::build(&eligible),
            eligible,
            sessions,
            ring,
            list,
            members,
            weight: weight_of_all,
            is_ramping,
        }
    }
}

/// Takes out what is unhealthy, and everything when too little is left.
fn apply_health(
    checks: &HealthChecks,
    candidates: &[Candidate],
    list: &mut [Endpoint],
    weight: &mut Availability,
) {
    let is_on = checks.is_on();
    for Candidate {
        index,
        weight: of_one,
        ..
    } in candidates
    {
        let endpoint = &mut list[*index];
        endpoint.is_eligible = !is_on || endpoint.is_healthy;
        weight.total += u64::from(of_one.get());
        weight.available += u64::from(of_one.get()) * u64::from(endpoint.is_eligible);
    }
    if is_on && !checks.threshold.is_met(weight.available, weight.total) {
        for endpoint in list {
            endpoint.is_eligible = false;
        }
    }
}

/// Lowers the weights of addresses that came back within `over`, and says whether there are any. The
/// ring is left as it is: on it, each step would move keys.
fn slow_down(eligible: &mut [Candidate], list: &[Endpoint], over: Duration, now: Instant) -> bool {
    let addresses: Vec<_> = eligible
        .iter()
        .map(|candidate| (candidate.weight, list[candidate.index].state.back_for(now)))
        .collect();
    let Some(weights) = ramped_weights(&addresses, over) else {
        return false;
    };
    for (candidate, weight) in eligible.iter_mut().zip(weights) {
        candidate.weight = weight;
    }
    true
}

/// Host header for a Target: its own name, with the port unless it is 80 (Kong's rule for http).
fn host_header(target: &Target) -> HeaderValue {
    let label = target.label();
    let host = if target.port == 80 {
        label.trim_end_matches(":80")
    } else {
        &label
    };
    HeaderValue::from_str(host).expect("the model holds valid hosts")
}
