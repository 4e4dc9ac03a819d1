//! A compiled Upstream: its Targets as addresses, and what chooses among them.
//!
//! What the operator wrote is fixed for the life of a snapshot. Which addresses it stands for is
//! not: names resolve to something else. So the addresses and the selectors over them are one
//! immutable [`Endpoints`], swapped whole by the control thread; a request loads it once per try.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;
use log::warn;
use prometheus::IntGauge;

use crate::balance::{Candidate, HashKey, Ring, Weighted};
use crate::metrics::{Slot, metrics};
use crate::model::{self, Algorithm, HashInput, Secret, Target, TargetHost};

/// Identity of an Upstream across snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamKey {
    /// A declared Upstream, by name.
    Named(String),
    /// A Service's own host and port, dialled directly.
    Direct(TargetHost, u16),
}

/// A compiled Upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Identity across snapshots.
    pub key: UpstreamKey,
    /// Host header for all Targets, when the Upstream sets one.
    pub host_header: Option<HeaderValue>,
    /// Consistent hashing, when the Upstream uses it.
    pub hashing: Option<Hashing>,
    /// Separates the pooled connections of this Upstream from those of others on the same address.
    pub group_key: u64,
    label: String,
    source: model::Upstream,
    endpoints: ArcSwap<Endpoints>,
    is_empty: AtomicBool,
    positions: Arc<Positions>,
}

/// Consistent hashing, compiled.
#[derive(Debug, PartialEq)]
pub struct Hashing {
    /// First choice and fallback, each with the key its values are hashed under.
    pub inputs: Vec<(HashInput, HashKey)>,
    slots: u32,
}

/// The addresses behind an Upstream and the selectors over them.
#[derive(Debug)]
pub struct Endpoints {
    /// Addresses that may be chosen; the selectors speak of positions in this list.
    pub list: Vec<Endpoint>,
    /// Round robin over `list`; `None` when it is empty.
    pub weighted: Option<Weighted>,
    /// Ring over `list`, when the Upstream hashes.
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
    upstream: Arc<str>,
    in_flight: Slot<IntGauge>,
}

/// Positions of the round robins. They outlive a rebuild, so that a reload does not send the next
/// requests to the first Target again, and are shared by all workers, so that shares are exact
/// over all of them.
#[derive(Debug, Default)]
struct Positions {
    first: AtomicU64,
    retry: AtomicU64,
}

impl Upstream {
    /// Compiles an Upstream. `previous` is the one of the same key in the snapshot before, whose
    /// positions go on; `addresses` says what a name resolves to just now.
    pub(super) fn build(
        key: UpstreamKey,
        source: model::Upstream,
        secret: Option<&Secret>,
        previous: Option<&Upstream>,
        addresses: &dyn Fn(&str) -> Vec<IpAddr>,
    ) -> Self {
        let hashing = match &source.algorithm {
            Algorithm::RoundRobin => None,
            Algorithm::ConsistentHashing(hashing) => Some(Hashing::build(hashing, secret)),
        };
        let label = match &key {
            UpstreamKey::Named(name) => name.clone(),
            UpstreamKey::Direct(..) => source.name.clone(),
        };
        let upstream = Self {
            host_header: source
                .host_header
                .as_deref()
                .map(|host| HeaderValue::from_str(host).expect("the model holds valid hosts")),
            hashing,
            group_key: ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(&key),
            label,
            endpoints: ArcSwap::from_pointee(Endpoints::empty()),
            is_empty: AtomicBool::new(true),
            positions: previous
                .map(|upstream| upstream.positions.clone())
                .unwrap_or_default(),
            key,
            source,
        };
        upstream.refresh(addresses);
        upstream
    }

    /// Says whether this was compiled from the same source and secret.
    pub(super) fn is_built_from(&self, source: &model::Upstream, secret: Option<&Secret>) -> bool {
        self.source == *source
            && match (&self.hashing, &source.algorithm) {
                (Some(built), Algorithm::ConsistentHashing(hashing)) => {
                    *built == Hashing::build(hashing, secret)
                }
                _ => true,
            }
    }

    /// Compiles the addresses anew and swaps them in; for the control thread.
    pub fn refresh(&self, addresses: &dyn Fn(&str) -> Vec<IpAddr>) {
        let endpoints = Endpoints::build(
            &self.label,
            &self.source.targets,
            self.hashing.as_ref(),
            addresses,
        );
        self.is_empty.store(endpoints.list.is_empty(), Ordering::Relaxed);
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Returns what metrics and logs call the Upstream.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the labels of all Targets, those out of rotation included.
    pub fn target_labels(&self) -> impl Iterator<Item = String> {
        self.source.targets.iter().map(Target::label)
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

    /// Takes the next position of the round robin. Relaxed: positions must be distinct, not ordered.
    pub fn next_position(&self) -> u64 {
        self.positions.first.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the next position for retries, which have a counter of their own so that a failing
    /// Target does not skew the shares of first picks.
    pub fn next_retry_position(&self) -> u64 {
        self.positions.retry.fetch_add(1, Ordering::Relaxed)
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
    fn empty() -> Self {
        Self {
            list: Vec::new(),
            weighted: None,
            ring: None,
        }
    }

    fn build(
        upstream: &str,
        targets: &[Target],
        hashing: Option<&Hashing>,
        addresses: &dyn Fn(&str) -> Vec<IpAddr>,
    ) -> Self {
        let upstream: Arc<str> = upstream.into();
        let mut list: Vec<Endpoint> = Vec::with_capacity(targets.len());
        let mut candidates: Vec<Candidate> = Vec::with_capacity(targets.len());
        let mut known: HashMap<SocketAddr, usize> = HashMap::with_capacity(targets.len());
        for target in targets {
            let label: Arc<str> = target.label().into();
            let resolved = match (target.weight.active(), &target.host) {
                (None, _) => Vec::new(),
                (Some(_), TargetHost::Address(address)) => vec![*address],
                (Some(_), TargetHost::Name(name)) => addresses(name),
            };
            let eligible = metrics()
                .target_eligible
                .with_label_values(&[&*upstream, &*label]);
            eligible.set(i64::from(!resolved.is_empty()));
            let weight = NonZeroU32::from(target.weight.active().unwrap_or(std::num::NonZeroU16::MIN));
            for address in resolved {
                let address = SocketAddr::new(address, target.port);
                match known.get(&address) {
                    Some(&at) => {
                        candidates[at].weight = candidates[at].weight.saturating_add(weight.get());
                    }
                    None => {
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
                            upstream: upstream.clone(),
                            in_flight: Slot::default(),
                        });
                    }
                }
            }
        }
        let ring = hashing.and_then(|hashing| match Ring::build(&candidates, hashing.slots) {
            Ok(ring) => Some(ring),
            Err(error) => {
                warn!("upstream {upstream}: {error}; its requests are spread by round robin");
                None
            }
        });
        Self {
            weighted: Weighted::build(&candidates),
            ring,
            list,
        }
    }
}

impl Endpoint {
    /// Returns the gauge of requests that this Target serves now.
    pub fn in_flight(&self) -> &IntGauge {
        let find = || {
            metrics()
                .target_in_flight
                .with_label_values(&[&*self.upstream, &*self.label])
        };
        self.in_flight.get(find)
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
