//! Consistent hashing: the same key to the same target, and few keys move when the targets change.
//!
//! The ring is Pingora's port of nginx's Ketama (Karger and others, 1997; R. Jones, 2007): each target
//! stands on a circle of 2^32 places at as many points as it weighs, a key belongs to the next point
//! clockwise. All targets of weight > 0 are on it, whether they are healthy or not. One that must not be
//! picked is walked past, which gives its keys to those they would have without it and leaves
//! all others where they are; so a flip of health rebuilds nothing.
//!
//! How many points a unit of weight has follows from `slots` alone ([`points_per_weight`]). It does not
//! depend on the sum of weights, nor are weights reduced by a common factor: either would move keys
//! between targets that nobody touched. Hence raising a weight only brings keys to that target, and
//! removing a target only moves its own.
//!
//! A share on a ring is a matter of chance: with p points a target's share is off by about 1/√p of
//! itself (100 points: 10 %; 1,600 points, the default: 2.5 %).

use std::sync::Arc;
use std::{error, fmt};

use pingora_load_balancing::selection::consistent::{KetamaConfig, KetamaHashing};
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

use super::cumulative::draw;
use super::{Candidate, Index, MAX_SELECTOR_TARGETS, RingKey, Share, backends, by_address, ordinal};

/// Most points of a ring: 96 MiB at 6 bytes a point, and one to two seconds to build. Ten targets of the
/// largest weight, 65,535, fit at the default of `slots`. Far below 2^32, where Pingora's own sum of
/// points would overflow.
pub const MAX_POINTS: u64 = 1 << 24;

/// Most points a pick looks at before it stops walking: at some 35 ns each, 0.15 ms.
///
/// A walk meets a target of share s after 1/s points on average, so this is beyond 40 times the
/// average as long as those that may be picked have 1 % of the weight together.
const MAX_STEPS: usize = 4_096;

/// Returns the points that each unit of weight has on a ring: `slots` / 625, at least 1.
///
/// Kong's default of 10,000 slots gives 16, so a target of the default weight 100 has 1,600.
pub const fn points_per_weight(slots: u32) -> u32 {
    let points = slots / 625;
    if points == 0 { 1 } else { points }
}

/// A consistent-hashing ring of targets.
pub struct Ring {
    /// In the order of addresses, weights as configured.
    shares: Box<[Share]>,
    ketama: Arc<KetamaHashing>,
}

/// Why a ring was not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// More targets than [`MAX_SELECTOR_TARGETS`].
    TooManyTargets {
        /// How many there are.
        count: usize,
    },
    /// More points than [`MAX_POINTS`]: the sum of weights times [`points_per_weight`].
    TooManyPoints {
        /// How many there would be.
        points: u64,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyTargets { count } => write!(
                f,
                "a ring of {count} targets, {MAX_SELECTOR_TARGETS} is the most: \
                 use round-robin, or several upstreams"
            ),
            Self::TooManyPoints { points } => write!(
                f,
                "a ring of {points} points, {MAX_POINTS} is the most: \
                 lower `slots`, or divide all weights by one number"
            ),
        }
    }
}

impl error::Error for RingError {}

impl Ring {
    /// Builds the ring of all candidates, eligible or not. Without any it is empty and picks none.
    ///
    /// `slots` sets the points of each unit of weight; see [`points_per_weight`]. Costs a CRC-32 and a
    /// place in a sort for each point (1,600 points take about 40 µs, a million 50 ms) and 6 bytes:
    /// build off the request path, and keep the ring while neither targets nor weights change.
    ///
    /// # Errors
    ///
    /// When there are more than [`MAX_SELECTOR_TARGETS`] targets or more than [`MAX_POINTS`] points. A
    /// coarser ring in its place would move keys without being asked to.
    ///
    /// # Panics
    ///
    /// In debug builds, when two candidates have one address.
    pub fn build(candidates: &[Candidate], slots: u32) -> Result<Self, RingError> {
        if candidates.len() > MAX_SELECTOR_TARGETS {
            let count = candidates.len();
            return Err(RingError::TooManyTargets { count });
        }
        let sorted = by_address(candidates);
        let shares: Box<[Share]> = sorted
            .iter()
            .map(|candidate| Share {
                index: candidate.index,
                weight: u64::from(candidate.weight.get()),
            })
            .collect();
        // At most 2^16 weights below 2^32: the sum is below 2^48, the product may not fit.
        let weight: u64 = shares.iter().map(|share| share.weight).sum();
        let points = weight.saturating_mul(points_per_weight(slots).into());
        if points > MAX_POINTS {
            return Err(RingError::TooManyPoints { points });
        }
        let weighted = sorted.iter().zip(&shares);
        let backends = backends(weighted.map(|(candidate, share)| (candidate.address, share.weight)));
        // Naming a multiple also selects the second version of Pingora's ring: two targets whose points
        // collide are told apart by address, where the first version leaves it to the sort.
        let config = KetamaConfig {
            point_multiple: Some(points_per_weight(slots)),
        };
        Ok(Self {
            shares,
            ketama: Arc::new(KetamaHashing::build_with_config(&backends, &config)),
        })
    }

    /// Returns the first target from the key's place onwards that is acceptable; none when none is.
    ///
    /// That is the target the key would have on a ring of the acceptable ones alone (but for places
    /// where points of two targets coincide: on a ring of P points about P²/2^33 of them). A target is
    /// asked about once, however many of its points are met.
    ///
    /// Costs a CRC-32 of 16 bytes, a binary search in the points, and one look-up by address, some
    /// 100 ns in all; then one step of about 35 ns for each point walked past, 1/s of them on
    /// average where the acceptable targets have share s of the weight. After 4,096 steps the
    /// key draws among the acceptable targets by weight, in two passes over all: still one answer for
    /// one key and one set of acceptable targets, but another set may move more keys than it must.
    /// Allocates only for a refused target beyond the 256th address.
    pub fn pick(&self, key: &RingKey, acceptable: impl Fn(Index) -> bool) -> Option<Index> {
        let mut walk = self.ketama.iter(key.as_bytes());
        let mut refused = Refused::default();
        for _ in 0..MAX_STEPS {
            let ordinal = ordinal(walk.next()?);
            if refused.contains(ordinal) {
                continue;
            }
            let index = self.shares[ordinal].index;
            if acceptable(index) {
                return Some(index);
            }
            refused.insert(ordinal);
            if refused.count == self.shares.len() {
                return None;
            }
        }
        draw(&self.shares, acceptable, |total| {
            let [a, b, c, d, e, f, g, h, ..] = *key.as_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, g, h]) % total
        })
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("shares", &self.shares)
            .finish_non_exhaustive()
    }
}

/// Ordinals that a walk has refused: a bit for each, the first 256 without allocation.
#[derive(Default)]
struct Refused {
    low: [u64; 4],
    high: Vec<u64>,
    count: usize,
}

impl Refused {
    fn contains(&self, ordinal: usize) -> bool {
        let word = ordinal / 64;
        let bits = match word.checked_sub(self.low.len()) {
            None => self.low[word],
            Some(above) => self.high.get(above).copied().unwrap_or(0),
        };
        bits >> (ordinal % 64) & 1 == 1
    }

    /// Adds an ordinal that is not yet contained.
    fn insert(&mut self, ordinal: usize) {
        let word = ordinal / 64;
        let bits = match word.checked_sub(self.low.len()) {
            None => &mut self.low[word],
            Some(above) => {
                if self.high.len() <= above {
                    self.high.resize(above + 1, 0);
                }
                &mut self.high[above]
            }
        };
        *bits |= 1 << (ordinal % 64);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::super::{HashKey, Input, candidates};
    use super::*;

    const SLOTS: u32 = 10_000;
    const KEYS: u32 = 100_000;

    fn ring(weights: &[u32]) -> Ring {
        Ring::build(&candidates(weights), SLOTS).unwrap()
    }

    fn key(number: u32) -> RingKey {
        HashKey::published().ring_key(Input::Header(&number.to_le_bytes()))
    }

    /// Compares two sets of weights: `moved(from, to)` must hold for each key that has another target.
    /// Returns how many have.
    fn check_moves(before: &[u32], after: &[u32], keys: u32, moved: impl Fn(Index, Index) -> bool) -> u32 {
        let (old, new) = (ring(before), ring(after));
        let mut count = 0;
        for number in 0..keys {
            let from = old.pick(&key(number), |_| true).unwrap();
            let to = new.pick(&key(number), |_| true).unwrap();
            if from != to {
                assert!(moved(from, to), "key {number} moved from {from} to {to}");
                count += 1;
            }
        }
        count
    }

    /// Compares a walk past those that are down with a ring on which they do not stand.
    fn check_walk(weights: &[u32], up: &[bool], keys: u32) {
        let whole = ring(weights);
        let kept: Vec<_> = weights
            .iter()
            .zip(up)
            .map(|(&weight, &up)| if up { weight } else { 0 })
            .collect();
        let part = ring(&kept);
        for number in 0..keys {
            let walked = whole.pick(&key(number), |index| up[index]);
            assert_eq!(
                walked,
                part.pick(&key(number), |_| true),
                "key {number}, {weights:?}, {up:?}"
            );
        }
    }

    #[test]
    fn points_follow_from_slots_alone() {
        let points = [10, 624, 625, 1_250, 10_000, 65_536].map(points_per_weight);
        assert_eq!(points, [1, 1, 1, 2, 16, 104]);
    }

    #[test]
    fn removing_a_target_moves_only_its_own_keys() {
        for n in [2_u32, 3, 5, 10] {
            let mut weights = vec![100; n as usize];
            let before = weights.clone();
            weights[0] = 0;
            let moved = check_moves(&before, &weights, KEYS, |from, _| from == 0);
            assert!(moved * 10 * n <= 12 * KEYS, "{moved} of {KEYS} keys, {n} targets");
        }
    }

    #[test]
    fn raising_a_weight_only_brings_keys() {
        let moved = check_moves(&[100, 100, 100], &[100, 150, 100], KEYS, |_, to| to == 1);
        assert!(moved > 0);
        // Also where a common factor comes and goes.
        check_moves(&[1, 99], &[2, 99], KEYS, |_, to| to == 0);
        check_moves(&[2, 98], &[3, 98], KEYS, |_, to| to == 0);
    }

    #[test]
    fn shares_follow_the_weights() {
        let ring = ring(&[300, 100]);
        let first = (0..KEYS).filter(|&number| ring.pick(&key(number), |_| true) == Some(0));
        // 1,600 points: the smaller share is off by 2.5 % of itself, four times that is allowed.
        let smaller = KEYS - first.count() as u32;
        assert!(smaller.abs_diff(KEYS / 4) <= KEYS / 40, "{smaller}");
    }

    #[test]
    fn a_target_of_no_weight_has_no_keys() {
        let ring = ring(&[100, 0, 100]);
        assert!((0..10_000).all(|number| ring.pick(&key(number), |_| true) != Some(1)));
    }

    #[test]
    fn a_walk_finds_the_light_target_behind_a_heavy_one() {
        let ring = ring(&[99, 1]);
        for number in 0..10_000 {
            assert_eq!(ring.pick(&key(number), |index| index == 1), Some(1));
        }
    }

    #[test]
    fn a_walk_that_takes_too_long_draws_instead() {
        let ring = ring(&[60_000, 1, 3]);
        let mut counts = [0_u32; 3];
        for number in 0..4_000 {
            let pick = ring.pick(&key(number), |index| index != 0).unwrap();
            counts[pick] += 1;
            assert_eq!(ring.pick(&key(number), |index| index != 0), Some(pick));
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1].abs_diff(1_000) < 250, "{counts:?}");
    }

    #[test]
    fn nobody_acceptable_is_an_answer_too() {
        for weights in [&[100, 100][..], &[60_000, 1], &[100; 300]] {
            let asked = Cell::new(0);
            let refuse = |_| {
                asked.set(asked.get() + 1);
                false
            };
            assert_eq!(ring(weights).pick(&key(7), refuse), None);
            // Once each, or once more when the walk was cut off.
            assert!(asked.get() <= 2 * weights.len(), "{} questions", asked.get());
        }
        assert_eq!(ring(&[]).pick(&key(7), |_| true), None);
    }

    #[test]
    fn walks_past_hundreds_of_targets_remember_them_all() {
        let ring = ring(&[1; 300]);
        for number in 0..300 {
            let last = number as usize;
            assert_eq!(ring.pick(&key(number), |index| index == last), Some(last));
        }
    }

    #[test]
    fn too_large_a_ring_is_refused_with_a_way_out() {
        let error = Ring::build(&candidates(&[524_288, 524_289]), SLOTS).unwrap_err();
        assert_eq!(error, RingError::TooManyPoints { points: 16_777_232 });
        assert!(error.to_string().contains("lower `slots`"));
        let enormous = Ring::build(&candidates(&[u32::MAX; 9]), u32::MAX).unwrap_err();
        assert!(matches!(enormous, RingError::TooManyPoints { .. }));
        let many = Ring::build(&candidates(&vec![1; 65_536]), SLOTS).unwrap_err();
        assert_eq!(many, RingError::TooManyTargets { count: 65_536 });
    }

    /// Constants, computed by another implementation: each node and each version must agree.
    #[test]
    fn golden_vectors() {
        let addresses = [
            "192.0.2.1:80",
            "192.0.2.2:80",
            "192.0.2.2:8080",
            "[2001:db8::1]:443",
        ];
        let declared: Vec<_> = addresses
            .iter()
            .zip([100, 100, 50, 150])
            .enumerate()
            .map(|(index, (address, weight))| Candidate {
                index,
                address: address.parse::<SocketAddr>().unwrap(),
                weight: NonZeroU32::new(weight).unwrap(),
            })
            .collect();
        let ring = Ring::build(&declared, SLOTS).unwrap();
        let secret = HashKey::from_secret(b"an example of a secret: 32 bytes");
        let other = HashKey::from_secret(b"an example of a secret: 32 byteS");
        let pick = |key: RingKey| addresses[ring.pick(&key, |_| true).unwrap()];
        let row = |key: &HashKey| {
            ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"]
                .map(|name| pick(key.ring_key(Input::Header(name.as_bytes()))))
        };
        assert_eq!(
            row(&secret),
            [
                "192.0.2.2:80",
                "192.0.2.1:80",
                "[2001:db8::1]:443",
                "[2001:db8::1]:443",
                "192.0.2.2:80",
                "[2001:db8::1]:443",
                "192.0.2.1:80",
                "192.0.2.1:80"
            ]
        );
        assert_eq!(
            row(&other),
            [
                "192.0.2.2:80",
                "192.0.2.2:80",
                "[2001:db8::1]:443",
                "192.0.2.2:8080",
                "192.0.2.1:80",
                "192.0.2.1:80",
                "192.0.2.2:80",
                "[2001:db8::1]:443"
            ]
        );
        let published = HashKey::published();
        let ips = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::7"]
            .map(|ip| pick(published.ring_key(Input::Ip(ip.parse().unwrap()))));
        assert_eq!(
            ips,
            [
                "[2001:db8::1]:443",
                "192.0.2.2:8080",
                "192.0.2.1:80",
                "192.0.2.2:8080"
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_walk_equals_the_ring_without_those_that_are_down(
            targets in prop::collection::vec((0..=20_u32, any::<bool>()), 1..=8),
        ) {
            let (weights, up): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
            check_walk(&weights, &up, 500);
        }
    }
}
