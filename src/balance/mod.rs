//! Choosing among the Targets of an Upstream: weighted round robin, consistent hashing, least
//! connections, latency and sticky sessions; a file for each. And `bucket`: choosing between two
//! releases by share.
//!
//! What it promises:
//! - A pick is a pure function of the candidates and of the numbers or key that come with it. The
//!   counter of a round robin belongs to the caller, so it outlives a rebuild and is shared by all
//!   workers; a ring answers the same in each process, after each restart and on each node.
//! - Shares of a round robin are exact over each cycle, not on average.
//! - A weight of 0 cannot be written down, so no path, retries included, can pick one.
//! - Picking takes no lock and, but for a ring of more than 256 targets that walks past one of
//!   them, allocates nothing. Every loop has a bound.
//!
//! What it leaves to others: who is eligible (`health`), how a key is read from a request and how
//! often a request is retried (`proxy`), when a selector is rebuilt (`snapshot`). Nothing here reads
//! a clock or does I/O, and of Pingora only the selection types are used.
//!
//! Pingora's selectors do the choosing. They are fed so that two habits of theirs never show: the
//! fallback of its weighted selector ignores weights, hence [`Weighted`] takes eligible candidates
//! only and asks for one answer; its ring repeats nodes without end, hence [`Ring`] remembers whom it
//! refused.

mod bucket;
mod cumulative;
mod key;
pub mod latency;
pub mod least_connections;
mod lowest;
mod ring;
mod session;
mod smooth;
mod visitor;
mod weighted;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use pingora_load_balancing::Backend;

pub use bucket::{Bucket, BucketKey, Buckets, is_turn};
pub use key::{HashKey, Input, RingKey};
pub use latency::PeakEwma;
pub use ring::{MAX_POINTS, Ring, RingError, points_per_weight};
pub use session::{SessionKey, Sessions, Token};
pub use visitor::{VisitorCookie, VisitorKey};
pub use weighted::Weighted;

/// Most targets that Pingora's selectors can tell apart: they number them with a `u16`.
pub const MAX_SELECTOR_TARGETS: usize = 65_535;

/// Position of a target in a list that the caller keeps.
pub type Index = usize;

/// A target that a selector may pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What a pick answers with. The caller's own numbering, so that a selector of the eligible and a
    /// ring of all targets speak of the same list.
    pub index: Index,
    /// Where the target listens. No two candidates of a selector have the same: the caller merges
    /// targets that resolve to one address and adds their weights.
    pub address: SocketAddr,
    /// Share relative to the other candidates.
    pub weight: NonZeroU32,
}

/// What a selector keeps of a candidate. Its rank among the shares, which are in the order of
/// addresses, is called its ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    index: Index,
    weight: u64,
}

/// Sorts candidates by address, so that no answer depends on the order in which they were declared.
fn by_address(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable_by_key(|candidate| (candidate.address, candidate.weight));
    debug_assert!(
        sorted.windows(2).all(|pair| pair[0].address != pair[1].address),
        "targets at one address must be merged before selection"
    );
    sorted
}

/// What rides on Pingora's `Backend` to say whose it is; Pingora leaves it out of comparisons.
#[derive(Clone, Copy)]
struct Ordinal(usize);

/// Gives addresses and weights, in the order of ordinals, the shape that Pingora's selectors take.
fn backends(targets: impl Iterator<Item = (SocketAddr, u64)>) -> BTreeSet<Backend> {
    targets
        .enumerate()
        .map(|(ordinal, (address, weight))| {
            let mut backend = Backend::new_with_weight(&address.to_string(), weight as usize)
                .expect("a socket address prints as one that parses");
            backend.ext.insert(Ordinal(ordinal));
            backend
        })
        .collect()
}

/// Reads whose a `Backend` is. One look-up by type, without hashing.
fn ordinal(backend: &Backend) -> usize {
    let Ordinal(ordinal) = backend
        .ext
        .get()
        .expect("each backend given to Pingora carries its ordinal");
    *ordinal
}

/// Greatest common divisor; `gcd(0, b)` is `b`.
const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while a != 0 {
        (a, b) = (b % a, a);
    }
    b
}

/// Candidates for tests: the n-th weight belongs to index n at `10.0.0.n:80`, zeros are left out.
#[cfg(test)]
fn candidates(weights: &[u32]) -> Vec<Candidate> {
    weights
        .iter()
        .enumerate()
        .filter_map(|(index, &weight)| {
            let [.., high, low] = index.to_be_bytes();
            Some(Candidate {
                index,
                address: SocketAddr::from(([10, 0, high, low], 80)),
                weight: NonZeroU32::new(weight)?,
            })
        })
        .collect()
}
