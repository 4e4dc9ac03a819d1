//! Weighted round robin: exact over each cycle, even on the way.
//!
//! Pingora's weighted selector keeps a block of entries for each target, as many as it weighs, and a
//! selection algorithm says which entry is read. Its own round robin reads them in the order of
//! addresses, 90 times one target and then 10 times the other, and begins anew at each rebuild. Here
//! the algorithm is [`Position`], which reads the entry it is told, so order and counter are ours:
//! [`smooth_order`] spreads the picks, and the counter is the caller's.
//!
//! When the set of eligible targets changes, the caller builds another selector and goes on counting:
//! the new cycle is entered at the counter modulo its length. Shares are exact over each whole cycle
//! from there on, and the phase is never set back, so that many changes in a row starve nobody.

use std::fmt;
use std::sync::Arc;

use pingora_load_balancing::selection::weighted::Weighted as Blocks;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, SelectionAlgorithm};

use super::cumulative::{Cumulative, draw, spread, stride};
use super::smooth::smooth_order;
use super::{Candidate, Index, MAX_SELECTOR_TARGETS, Share, backends, by_address, gcd, ordinal};

/// Longest cycle that is written out: 6 MiB, 2 bytes an entry in Pingora and 4 here. Two targets reach
/// it only with weights such as 524,288:524,287; what a person writes has common factors.
const MAX_TABLE_ENTRIES: u64 = 1 << 20;

/// Round robin over targets that may be picked now, by weight.
pub struct Weighted {
    /// In the order of addresses, weights divided by their greatest common divisor.
    shares: Box<[Share]>,
    order: Order,
}

/// How the count becomes a target.
enum Order {
    /// Pingora's blocks, read in smooth order: for each place in the cycle the entry to read.
    Smooth {
        blocks: Arc<Blocks<Position>>,
        entries: Box<[u32]>,
    },
    /// Above [`MAX_TABLE_ENTRIES`] or [`MAX_SELECTOR_TARGETS`]: the same shares, exact over a cycle as
    /// well, spread without the bound of [`smooth_order`] on the way.
    Cumulative(Cumulative),
}

/// Reads the entry whose number is the key: eight bytes, little-endian.
struct Position;

impl SelectionAlgorithm for Position {
    fn new() -> Self {
        Self
    }

    fn next(&self, key: &[u8]) -> u64 {
        key.try_into().map_or(0, u64::from_le_bytes)
    }
}

impl Weighted {
    /// Builds the selector of the eligible candidates; none without a candidate.
    ///
    /// Give it eligible ones only: each is picked as often as it weighs. Weights are divided by their
    /// greatest common divisor, so 9000:1000 is a cycle of 10. Costs W · log n steps and 6·W bytes for
    /// a cycle of W picks; above 2^20 picks, or 65,535 candidates, n steps and 8·n bytes.
    ///
    /// # Panics
    ///
    /// In debug builds, when two candidates have one address.
    pub fn build(eligible: &[Candidate]) -> Option<Self> {
        if eligible.is_empty() {
            return None;
        }
        let sorted = by_address(eligible);
        let divisor = sorted.iter().fold(0, |divisor, candidate| {
            gcd(divisor, u64::from(candidate.weight.get()))
        });
        let shares: Box<[Share]> = sorted
            .iter()
            .map(|candidate| Share {
                index: candidate.index,
                weight: u64::from(candidate.weight.get()) / divisor,
            })
            .collect();
        let cycle: u64 = shares.iter().map(|share| share.weight).sum();
        let order = if cycle <= MAX_TABLE_ENTRIES && shares.len() <= MAX_SELECTOR_TARGETS {
            smooth(&sorted, &shares)
        } else {
            Order::Cumulative(Cumulative::build(&shares))
        };
        Some(Self { shares, order })
    }

    /// Returns the target for a count.
    ///
    /// Counts 0, 1, 2, … each given out once, by whichever worker, make the shares exact: a relaxed
    /// `fetch_add` on one counter is enough. Costs about 15 ns: a division, two reads, and Pingora's
    /// `Arc` taken and given back; in a cycle above 2^20 a binary search instead.
    pub fn pick(&self, count: u64) -> Index {
        let ordinal = match &self.order {
            Order::Smooth { blocks, entries } => {
                let place = (count % entries.len() as u64) as usize;
                let mut choices = blocks.iter(&u64::from(entries[place]).to_le_bytes());
                // Only the first choice goes by weight; a second is never asked for.
                ordinal(choices.next().expect("built from at least one candidate"))
            }
            Order::Cumulative(cumulative) => cumulative.pick(count),
        };
        self.shares[ordinal].index
    }

    /// Returns a target that `is_tried` denies, by weight among those; none when all were tried.
    ///
    /// For retries. `count` comes from a counter of its own, lest retries skew the first picks: counts
    /// in a row with the same targets tried are exact over one cycle of the weight that is left.
    /// Costs two passes over the targets; allocates nothing.
    pub fn pick_excluding(&self, count: u64, is_tried: impl Fn(Index) -> bool) -> Option<Index> {
        draw(
            &self.shares,
            |index| !is_tried(index),
            |total| spread(count, total, stride(total)),
        )
    }

    /// Number of picks after which every share is met exactly.
    pub fn cycle(&self) -> u64 {
        self.shares.iter().map(|share| share.weight).sum()
    }
}

impl fmt::Debug for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted")
            .field("shares", &self.shares)
            .finish_non_exhaustive()
    }
}

/// Lays out Pingora's blocks and the order in which their entries are read. All entries of a block
/// answer alike, so the first stands for all.
fn smooth(sorted: &[Candidate], shares: &[Share]) -> Order {
    let weighted = sorted.iter().zip(shares);
    let backends = backends(weighted.map(|(candidate, share)| (candidate.address, share.weight)));
    let mut first_entries = vec![0; shares.len()];
    let mut next_entry = 0;
    for backend in &backends {
        first_entries[ordinal(backend)] = next_entry;
        next_entry += backend.weight as u32;
    }
    Order::Smooth {
        blocks: Arc::new(Blocks::build(&backends)),
        entries: smooth_order(shares)
            .into_iter()
            .map(|ordinal| first_entries[ordinal])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::candidates;
    use super::*;

    /// Sets the weights of those that are down to 0.
    fn masked(weights: &[u32], up: &[bool]) -> Vec<u32> {
        let pairs = weights.iter().zip(up);
        pairs.map(|(&weight, &up)| if up { weight } else { 0 }).collect()
    }

    /// Divides by the greatest common divisor: what a cycle must count.
    fn lowest_terms(weights: &[u32]) -> Vec<u32> {
        let divisor = weights
            .iter()
            .fold(0, |divisor, &weight| gcd(divisor, weight.into()))
            .max(1);
        weights.iter().map(|weight| weight / divisor as u32).collect()
    }

    /// Counts one cycle that starts at `start` and compares with the weights of those that are up.
    fn check(weights: &[u32], up: &[bool], start: u64) {
        let eligible = masked(weights, up);
        let Some(weighted) = Weighted::build(&candidates(&eligible)) else {
            assert!(eligible.iter().all(|&weight| weight == 0));
            return;
        };
        let mut counts = vec![0; weights.len()];
        for count in start..start + weighted.cycle() {
            counts[weighted.pick(count)] += 1;
        }
        assert_eq!(counts, lowest_terms(&eligible), "one cycle from {start}");
    }

    /// As `check`, for retries that may not go to those that are down.
    fn check_excluding(weights: &[u32], up: &[bool], start: u64) {
        let Some(weighted) = Weighted::build(&candidates(weights)) else {
            return;
        };
        let is_tried = |index: Index| !up[index];
        let left = masked(&lowest_terms(weights), up);
        let cycle = left.iter().copied().map(u64::from).sum::<u64>();
        if cycle == 0 {
            assert_eq!(weighted.pick_excluding(start, is_tried), None);
            return;
        }
        let mut counts = vec![0; weights.len()];
        for count in start..start + cycle {
            counts[weighted.pick_excluding(count, is_tried).expect("some are left")] += 1;
        }
        assert_eq!(counts, left, "one cycle from {start}");
    }

    fn picks(weighted: &Weighted, counts: std::ops::Range<u64>) -> Vec<Index> {
        counts.map(|count| weighted.pick(count)).collect()
    }

    #[test]
    fn nothing_is_built_from_nothing() {
        assert!(Weighted::build(&[]).is_none());
    }

    #[test]
    fn ninety_nine_to_one_is_exact_in_each_hundred() {
        let weighted = Weighted::build(&candidates(&[99, 1])).unwrap();
        for start in 0..100 {
            let light = picks(&weighted, start..start + 100)
                .iter()
                .filter(|&&i| i == 1)
                .count();
            assert_eq!(light, 1);
        }
        assert_eq!(weighted.pick(50), 1);
    }

    #[test]
    fn common_factors_do_not_lengthen_the_cycle() {
        let weighted = Weighted::build(&candidates(&[9_000, 1_000])).unwrap();
        assert_eq!(weighted.cycle(), 10);
    }

    #[test]
    fn the_answer_is_the_callers_index_whatever_the_order_of_declaration() {
        let mut declared = candidates(&[2, 0, 1, 1]);
        let expected = picks(&Weighted::build(&declared).unwrap(), 0..4);
        assert_eq!(expected, [0, 2, 3, 0]);
        declared.reverse();
        assert_eq!(picks(&Weighted::build(&declared).unwrap(), 0..4), expected);
    }

    #[test]
    fn both_families_of_addresses_can_be_mixed() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let weight = NonZeroU32::MIN;
        let declared = [
            (7, "[2001:db8::1]:80"),
            (8, "[fe80::1%3]:80"),
            (9, "192.0.2.1:80"),
            (10, "[::1]:80"),
        ];
        let mixed = declared.map(|(index, text)| Candidate {
            index,
            address: address(text),
            weight,
        });
        let mut cycle = picks(&Weighted::build(&mixed).unwrap(), 0..4);
        cycle.sort_unstable();
        assert_eq!(cycle, [7, 8, 9, 10]);
    }

    #[test]
    fn a_long_cycle_keeps_its_shares() {
        let weights = [1_048_573, 7, 65_537];
        let weighted = Weighted::build(&candidates(&weights)).unwrap();
        assert!(matches!(weighted.order, Order::Cumulative(_)));
        check(&weights, &[true; 3], 12_345);
    }

    #[test]
    fn more_targets_than_pingora_can_number_still_take_turns() {
        let weighted = Weighted::build(&candidates(&vec![1; 65_536])).unwrap();
        assert!(matches!(weighted.order, Order::Cumulative(_)));
        let mut cycle = picks(&weighted, 0..65_536);
        cycle.sort_unstable();
        assert!(cycle.into_iter().eq(0..65_536));
    }

    /// Four threads draw from one counter: the sum of what they saw is exact, whoever got which count.
    #[test]
    fn shares_are_exact_over_all_workers() {
        let weighted = Weighted::build(&candidates(&[90, 9, 1])).unwrap();
        let counter = AtomicU64::new(0);
        let totals = [const { AtomicU64::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25_000 {
                        let count = counter.fetch_add(1, Ordering::Relaxed);
                        totals[weighted.pick(count)].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(totals.map(AtomicU64::into_inner), [90_000, 9_000, 1_000]);
    }

    #[test]
    fn every_subset_of_twelve_targets_is_exact() {
        let weights = [0, 1, 2, 3, 5, 8, 13, 21, 1, 4, 6, 10];
        for subset in 0..1_u32 << weights.len() {
            let up: Vec<_> = (0..weights.len()).map(|bit| subset >> bit & 1 == 1).collect();
            check(&weights, &up, u64::from(subset));
            check_excluding(&weights, &up, u64::from(subset));
        }
    }

    #[test]
    fn retries_are_spread_over_what_is_left() {
        let weighted = Weighted::build(&candidates(&[6, 3, 1])).unwrap();
        let cycle: Vec<_> = (0..4)
            .map(|count| weighted.pick_excluding(count, |index| index == 0))
            .collect();
        assert_eq!(cycle, [Some(1), Some(2), Some(1), Some(1)]);
        assert_eq!(weighted.pick_excluding(0, |_| true), None);
    }

    proptest! {
        #[test]
        fn one_cycle_from_any_count_equals_the_weights_of_the_eligible(
            targets in prop::collection::vec((0..=1_000_u32, any::<bool>()), 1..=12),
            start in 0..u64::MAX / 2,
        ) {
            let (weights, up): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
            check(&weights, &up, start);
        }

        #[test]
        fn retries_are_exact_over_a_cycle_and_never_repeat_a_target(
            targets in prop::collection::vec((0..=1_000_u32, any::<bool>()), 1..=12),
            start in 0..u64::MAX / 2,
        ) {
            let (weights, up): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
            check_excluding(&weights, &up, start);
        }
    }
}
