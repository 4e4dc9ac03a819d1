//! Names → addresses, off the request path.
//!
//! The control thread looks every name in use up when it first occurs and again when the answer's
//! time to live is over. The last good answer stays in force while a name cannot be resolved; a
//! name that never could leaves its Target out of the pool. A request only ever reads addresses.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use log::{info, warn};
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Observed;
use crate::clock;
use crate::metrics::metrics;
use crate::snapshot::Published;

/// Shortest time an answer is used, whatever its time to live: bounds the look-ups of a name
/// that is served with a time to live of 0.
const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time an answer is used, so that a change is seen within the hour in any case.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Time after which a failed look-up is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long start and reload wait for names they have not seen before.
const FIRST_LOOKUP: Duration = Duration::from_secs(3);
/// Look-ups under way at once.
const CONCURRENCY: usize = 64;

/// What names resolve to.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// Last good answer, sorted; empty when there never was one.
    addresses: Vec<IpAddr>,
    due: Instant,
}

/// Returns a resolver on the name servers of this host (`/etc/resolv.conf`, `/etc/hosts`); with
/// `/etc/hosts` alone where there are none, as in an empty container.
///
/// It belongs to the runtime that it is made in.
pub fn system_resolver() -> TokioResolver {
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        warn!("no name servers: {error}; only /etc/hosts is asked");
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
    });
    builder
        .build()
        .expect("a resolver without TLS has nothing to fail on")
}

/// Keeps the names of the snapshot in force up to date until shutdown.
pub async fn run(
    observed: &Observed,
    resolver: &TokioResolver,
    published: &Published,
    mut shutdown: ShutdownWatch,
) {
    let names = &observed.names;
    let mut generation = published.watch();
    loop {
        let snapshot = published.current();
        let in_use: HashSet<String> = snapshot
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.names())
            .map(str::to_owned)
            .collect();
        let changed = names
            .look_up(resolver, names.due(in_use, clock::monotonic()))
            .await;
        // The snapshot may have been replaced meanwhile; what is in force is what must be right.
        for upstream in &published.current().upstreams {
            if upstream.names().any(|name| changed.contains(name)) {
                upstream.refresh(observed);
            }
        }
        let pause = names
            .next_due()
            .map_or(MAX_TTL, |due| due.saturating_duration_since(clock::monotonic()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = generation.changed() => if changed.is_err() { return },
            _ = shutdown.changed() => return,
        }
    }
}

impl Names {
    /// Returns what a name resolves to just now; empty when that is not known.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.lock()
            .get(name)
            .map(|known| known.addresses.clone())
            .unwrap_or_default()
    }

    /// Looks up the names that were never asked for, and returns when all have answered or
    /// [`FIRST_LOOKUP`] is over.
    pub async fn learn(&self, resolver: &TokioResolver, names: impl IntoIterator<Item = String>) {
        let unknown: HashSet<String> = {
            let known = self.lock();
            names
                .into_iter()
                .filter(|name| !known.contains_key(name))
                .collect()
        };
        if !unknown.is_empty() {
            let _ = timeout(FIRST_LOOKUP, self.look_up(resolver, unknown)).await;
        }
    }

    /// Forgets names that are not in use and returns those of the others that are due.
    fn due(&self, in_use: HashSet<String>, now: Instant) -> HashSet<String> {
        let mut known = self.lock();
        known.retain(|name, _| in_use.contains(name));
        in_use
            .into_iter()
            .filter(|name| known.get(name).is_none_or(|known| known.due <= now))
            .collect()
    }

    /// Returns when the next look-up is due.
    fn next_due(&self) -> Option<Instant> {
        self.lock().values().map(|known| known.due).min()
    }

    /// Looks names up and returns those whose addresses changed.
    async fn look_up(&self, resolver: &TokioResolver, names: HashSet<String>) -> HashSet<String> {
        let mut changed = HashSet::new();
        let mut waiting = names.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < CONCURRENCY {
                let Some(name) = waiting.next() else { break };
                let resolver = resolver.clone();
                under_way.spawn(async move {
                    let answer = resolver.lookup_ip(fully_qualified(&name)).await;
                    (name, answer)
                });
            }
            let Some(done) = under_way.join_next().await else {
                return changed;
            };
            let Ok((name, answer)) = done else { continue };
            let now = clock::monotonic();
            let answer = match answer {
                Ok(answer) => {
                    let mut addresses: Vec<IpAddr> = answer.iter().collect();
                    addresses.sort_unstable();
                    addresses.dedup();
                    let ttl = answer
                        .valid_until()
                        .saturating_duration_since(now)
                        .clamp(MIN_TTL, MAX_TTL);
                    Ok((addresses, now + ttl))
                }
                Err(error) => Err(error.to_string()),
            };
            if self.take_answer(&name, answer, now) {
                changed.insert(name);
            }
        }
    }

    /// Takes an answer in and says whether the addresses changed.
    fn take_answer(&self, name: &str, answer: Result<(Vec<IpAddr>, Instant), String>, now: Instant) -> bool {
        let mut all = self.lock();
        let known = all.entry(name.to_owned()).or_insert(Known {
            addresses: Vec::new(),
            due: now,
        });
        match answer {
            Ok((addresses, due)) if !addresses.is_empty() => {
                metrics().dns_lookups.with_label_values(&["ok"]).inc();
                known.due = due;
                let changed = known.addresses != addresses;
                if changed {
                    info!("{name} resolves to {addresses:?}");
                    known.addresses = addresses;
                }
                changed
            }
            Ok(_) => self.failed(name, "the answer holds no address", known, now),
            Err(error) => self.failed(name, &error, known, now),
        }
    }

    fn failed(&self, name: &str, error: &str, known: &mut Known, now: Instant) -> bool {
        metrics().dns_lookups.with_label_values(&["failed"]).inc();
        known.due = now + RETRY_AFTER;
        match known.addresses.is_empty() {
            true => warn!("{name} cannot be resolved: {error}; its Target is out"),
            false => warn!(
                "{name} cannot be resolved: {error}; keeping {:?}",
                known.addresses
            ),
        }
        false
    }

    /// No holder of this lock can panic half-way through a change, so a poisoned one is still whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A dot at the end keeps a name with dots from being tried under every search domain first.
fn fully_qualified(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') {
        format!("{name}.")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_answer_stays_while_a_name_cannot_be_resolved() {
        let names = Names::default();
        let now = clock::monotonic();
        let address: IpAddr = "127.0.0.5".parse().unwrap();
        assert!(names.take_answer("shop.test", Ok((vec![address], now)), now));
        assert!(!names.take_answer("shop.test", Err("no such name".into()), now));
        assert!(!names.take_answer("shop.test", Ok((vec![], now)), now));
        assert_eq!(names.addresses("shop.test"), [address]);
        assert_eq!(names.lock()["shop.test"].due, now + RETRY_AFTER);
    }

    #[tokio::test]
    async fn localhost_is_known_without_a_name_server() {
        let names = Names::default();
        names.learn(&system_resolver(), ["localhost".to_owned()]).await;
        assert!(names.addresses("localhost").iter().any(IpAddr::is_loopback));
    }
}
