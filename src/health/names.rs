//! What names resolve to.
//!
//! The last good answer stays in force while a name cannot be resolved; a name that never could
//! leaves its Target out of the pool.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::metrics::metrics;

/// Shortest time an answer is used, whatever its time to live: bounds the look-ups of a name
/// that is served with a time to live of 0.
const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time an answer is used, so that a change is seen within the hour in any case.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Time after which a failed look-up is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What names resolve to.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<String, Known>>,
}

/// One address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolved {
    /// The address.
    pub address: IpAddr,
    /// Port of an SRV record, which overrides the Target's.
    pub port: Option<u16>,
    /// Weight of an SRV record, which overrides the Target's; never 0.
    pub weight: Option<u16>,
}

impl Resolved {
    /// An address without a port or weight of its own.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            port: None,
            weight: None,
        }
    }
}

/// A good answer: addresses and how long they may be used. No addresses are no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Every address, at least one.
    pub addresses: Vec<Resolved>,
    /// Time to live.
    pub ttl: Duration,
}

#[derive(Debug, Clone)]
struct Known {
    /// Last good answer, sorted; empty when there never was one.
    addresses: Vec<Resolved>,
    answered: Option<Instant>,
    due: Instant,
    /// The last look-up failed, and the log says so.
    is_failing: bool,
}

impl Names {
    /// Returns what a name resolves to just now; empty when that is not known.
    pub fn addresses(&self, name: &str) -> Vec<Resolved> {
        self.lock()
            .get(name)
            .map(|known| known.addresses.clone())
            .unwrap_or_default()
    }

    /// Returns the time of the last good answer for each name that ever had one.
    pub fn answered(&self) -> Vec<(String, Instant)> {
        self.lock()
            .iter()
            .filter_map(|(name, known)| Some((name.clone(), known.answered?)))
            .collect()
    }

    /// Says whether a name was ever looked up.
    pub fn knows(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Forgets the names that are not in use, and returns those of the others that are due and when
    /// the next one will be.
    pub fn due(&self, in_use: &HashSet<String>, now: Instant) -> (Vec<String>, Option<Instant>) {
        let mut known = self.lock();
        known.retain(|name, _| in_use.contains(name));
        let is_due = |name: &&String| known.get(*name).is_none_or(|known| known.due <= now);
        let due = in_use.iter().filter(is_due).cloned().collect();
        (
            due,
            known
                .values()
                .map(|known| known.due)
                .filter(|due| *due > now)
                .min(),
        )
    }

    /// Takes for granted that a name has an address, for whoever asks what would be if it had.
    pub fn assume(&self, name: &str, now: Instant) {
        let answer = Answer {
            addresses: vec![Resolved::new(IpAddr::from([0, 0, 0, 0]))],
            ttl: MAX_TTL,
        };
        self.take(name, Ok(answer), now);
    }

    /// Takes the outcome of a look-up in and says whether the addresses changed.
    pub fn take(&self, name: &str, outcome: Result<Answer, String>, now: Instant) -> bool {
        let mut all = self.lock();
        let known = all.entry(name.to_owned()).or_insert_with(|| Known {
            addresses: Vec::new(),
            answered: None,
            due: now,
            is_failing: false,
        });
        match outcome {
            Ok(Answer { mut addresses, ttl }) if !addresses.is_empty() => {
                metrics().dns_lookups.with_label_values(&["ok"]).inc();
                addresses.sort_unstable();
                addresses.dedup();
                known.due = now + ttl.clamp(MIN_TTL, MAX_TTL);
                known.answered = Some(now);
                known.is_failing = false;
                let is_changed = known.addresses != addresses;
                if is_changed {
                    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                    info!("{name} resolves to {}", list.join(", "));
                    known.addresses = addresses;
                }
                is_changed
            }
            outcome => {
                metrics().dns_lookups.with_label_values(&["failed"]).inc();
                let error = outcome
                    .err()
                    .unwrap_or_else(|| "the answer holds no address".to_owned());
                known.due = now + RETRY_AFTER;
                // Once, not every second while it lasts.
                if std::mem::replace(&mut known.is_failing, true) {
                    return false;
                }
                match known.addresses.is_empty() {
                    true => warn!("{name} cannot be resolved: {error}; its Target is out"),
                    false => warn!("{name} cannot be resolved: {error}; the last good answer stays"),
                }
                false
            }
        }
    }

    /// No holder of this lock can panic half-way through a change, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", std::net::SocketAddr::new(self.address, port)),
            None => write!(f, "{}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn address(text: &str) -> Resolved {
        Resolved::new(text.parse().unwrap())
    }

    fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, String> {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        Ok(Answer {
            addresses,
            ttl: Duration::from_secs(ttl),
        })
    }

    fn in_use() -> HashSet<String> {
        HashSet::from(["shop.test".to_owned()])
    }

    #[test]
    fn the_last_good_answer_stays_while_a_name_cannot_be_resolved() {
        let (names, now) = (Names::default(), clock::monotonic());
        assert!(names.take("shop.test", answer(&["127.0.0.5"], 60), now));
        assert!(!names.take("shop.test", Err("no such name".into()), now));
        assert!(!names.take("shop.test", answer(&[], 60), now));
        assert_eq!(names.addresses("shop.test"), [address("127.0.0.5")]);
        let (due, next) = names.due(&in_use(), now);
        assert_eq!((due, next), (vec![], Some(now + RETRY_AFTER)));
    }

    #[test]
    fn an_answer_is_used_for_its_time_to_live_and_at_least_a_second() {
        let (names, now) = (Names::default(), clock::monotonic());
        assert_eq!(names.due(&in_use(), now), (vec!["shop.test".to_owned()], None));
        names.take("shop.test", answer(&["127.0.0.5"], 30), now);
        assert_eq!(names.due(&in_use(), now).1, Some(now + Duration::from_secs(30)));
        names.take("shop.test", answer(&["127.0.0.5"], 0), now);
        assert_eq!(names.due(&in_use(), now).1, Some(now + MIN_TTL));
        assert_eq!(names.due(&in_use(), now + MIN_TTL).0, ["shop.test"]);
    }

    #[test]
    fn the_order_of_records_is_no_change() {
        let (names, now) = (Names::default(), clock::monotonic());
        assert!(names.take("shop.test", answer(&["127.0.0.5", "127.0.0.6"], 1), now));
        assert!(!names.take("shop.test", answer(&["127.0.0.6", "127.0.0.5"], 1), now));
        assert!(names.take("shop.test", answer(&["127.0.0.6"], 1), now));
    }

    #[test]
    fn names_out_of_use_are_forgotten() {
        let (names, now) = (Names::default(), clock::monotonic());
        names.take("shop.test", answer(&["127.0.0.5"], 30), now);
        names.due(&HashSet::new(), now);
        assert!(!names.knows("shop.test"));
    }
}
