//! A compiled Upstream: its Targets as addresses, and what chooses among them.
//!
//! What the operator wrote is fixed for the life of a snapshot. Which addresses it stands for is
//! not: names resolve to something else. So the addresses and the selectors over them are one
//! immutable [`Endpoints`], swapped whole by the control thread; a request loads it once per try.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;
use log::warn;

use crate::balance::{Candidate, HashKey, Ring, SessionKey, Sessions, Weighted};
use crate::health::{Names, Observed, Resolved, TargetState, UpstreamState};
use crate::model::{self, Algorithm, HashInput, Secret, SessionCookie, Target, TargetHost, UpstreamKey};

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
    source: model::Upstream,
    endpoints: ArcSwap<Endpoints>,
    is_empty: AtomicBool,
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
    /// May be chosen.
    pub is_eligible: bool,
    /// What outlives this snapshot.
    pub state: Arc<TargetState>,
}

impl Upstream {
    /// Compiles an Upstream; what was observed of it before goes on.
    pub(super) fn build(
        key: UpstreamKey,
        source: model::Upstream,
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
            state: observed.registry.upstream(&key),
            key,
            source,
        };
        upstream.refresh(observed);
        upstream
    }

    /// Says whether this was compiled from the same source and secret.
    pub(super) fn is_built_from(&self, source: &model::Upstream, secret: Option<&Secret>) -> bool {
        self.source == *source && self.selection == Selection::build(&source.algorithm, secret)
    }

    /// Compiles the addresses anew from what was observed, and swaps them in; for the control thread.
    pub fn refresh(&self, observed: &Observed) {
        let endpoints = Endpoints::build(&self.source, &self.state, &self.selection, &observed.names);
        self.is_empty
            .store(endpoints.weighted.is_none(), Ordering::Relaxed);
        self.endpoints.store(Arc::new(endpoints));
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
    ) -> Self {
        let mut list: Vec<Endpoint> = Vec::with_capacity(upstream.targets.len());
        let mut candidates: Vec<Candidate> = Vec::with_capacity(upstream.targets.len());
        let mut known: HashMap<SocketAddr, usize> = HashMap::with_capacity(upstream.targets.len());
        for target in &upstream.targets {
            let Some(weight) = target.weight.active().map(NonZeroU32::from) else {
                continue;
            };
            let label: Arc<str> = target.label().into();
            let addresses = match &target.host {
                TargetHost::Address(address) => vec![Resolved::new(*address)],
                TargetHost::Name(name) => names.addresses(name),
            };
            for resolved in addresses {
                let address = SocketAddr::new(resolved.address, resolved.port.unwrap_or(target.port));
                let weight = resolved
                    .weight
                    .and_then(|weight| NonZeroU32::new(weight.into()))
                    .unwrap_or(weight);
                // Targets that resolve to one address are one for selection.
                if let Some(&at) = known.get(&address) {
                    candidates[at].weight = candidates[at].weight.saturating_add(weight.get());
                    continue;
                }
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
                    is_eligible: true,
                    state: state.target(address),
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
        let eligible: Vec<Candidate> = candidates
            .into_iter()
            .filter(|candidate| list[candidate.index].is_eligible)
            .collect();
        Self {
            weighted: Weighted::build(&eligible),
            eligible,
            sessions,
            ring,
            list,
        }
    }
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
