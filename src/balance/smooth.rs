//! The order of a cycle: exact at its end, and even on the way there.
//!
//! This is the chairman assignment of R. Tijdeman ("The chairman assignment problem", Discrete
//! Mathematics 32, 1980): states of different size take turns at the chair so that, at every moment,
//! each has had it about as often as its size says. After the first t of W picks a target of weight w
//! among n has been picked t·w/W times, give or take at most 1 − 1/(2n − 2), the least that can be
//! promised for all weights. It follows that a cycle is exact, since counts are whole numbers, and that
//! any run of picks, wherever it starts, is less than 2 off.
//!
//! The two usual orders are not as even. nginx's smooth weighted round robin and Webster's method
//! (earliest (2k + 1) / 2w) both drift further off as targets become more: Webster picks ten targets of
//! weight 1 beside one of weight 100 in a row, since all ten are due in the middle.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Share;

/// When a target's next turn must come at the latest: `due / weight`, in units of W / (2n − 2) picks.
#[derive(PartialEq, Eq)]
struct Deadline {
    due: u64,
    weight: u64,
    ordinal: usize,
}

impl Ord for Deadline {
    /// Earlier first; at the same time the larger weight, then the lower address.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due * other.weight)
            .cmp(&(other.due * self.weight))
            .then(other.weight.cmp(&self.weight))
            .then(self.ordinal.cmp(&other.ordinal))
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Lists the ordinals of one cycle in the order in which they are picked.
///
/// At pick t (from 1) those take part whose claim `t·w/W − picked so far` is at least 1/(2n − 2); of
/// them the one is picked whose claim would first exceed 1 − 1/(2n − 2). Claims add up to 1, so they
/// cannot all be below 1/(2n − 2) ≤ 1/n: somebody always takes part.
///
/// Weights must not be 0, at most 2^16 of them, and add up to at most 2^20: products then stay
/// below 2^58. Costs W · log n steps, about 0.1 s at the largest.
pub(super) fn smooth_order(shares: &[Share]) -> Vec<usize> {
    let cycle: u64 = shares.iter().map(|share| share.weight).sum();
    // Claims are counted in parts of a pick. A lone target has no one to share with: any number does.
    let parts = (2 * shares.len() as u64).saturating_sub(2).max(1);
    let release = |ordinal: usize, picked: u64| {
        let weight = shares[ordinal].weight;
        Reverse((
            (((picked * parts) + 1) * cycle).div_ceil(parts * weight),
            ordinal,
            picked,
        ))
    };
    let mut waiting: BinaryHeap<_> = (0..shares.len()).map(|ordinal| release(ordinal, 0)).collect();
    let mut ready: BinaryHeap<Reverse<(Deadline, u64)>> = BinaryHeap::new();
    let mut order = Vec::with_capacity(cycle as usize);
    for now in 1..=cycle {
        while let Some(&Reverse((at, ordinal, picked))) = waiting.peek()
            && at <= now
        {
            waiting.pop();
            let weight = shares[ordinal].weight;
            let due = (picked + 1) * parts - 1;
            ready.push(Reverse((Deadline { due, weight, ordinal }, picked)));
        }
        let Reverse((Deadline { ordinal, .. }, picked)) = ready.pop().expect("claims add up to one pick");
        order.push(ordinal);
        waiting.push(release(ordinal, picked + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(weights: &[u64]) -> Vec<usize> {
        let share = |(index, &weight)| Share { index, weight };
        smooth_order(&weights.iter().enumerate().map(share).collect::<Vec<_>>())
    }

    /// Writes the order with a letter for each target.
    fn check(weights: &[u64], expected: &str) {
        let letters = order(weights)
            .into_iter()
            .map(|ordinal| (b'a' + ordinal as u8) as char);
        assert_eq!(letters.collect::<String>(), expected, "weights {weights:?}");
    }

    /// Compares each prefix with the exact shares, in whole numbers: all sides times W · (2n − 2).
    fn check_deviation(weights: &[u64]) {
        let cycle: u64 = weights.iter().sum();
        let parts = (2 * weights.len() as u64 - 2).max(1);
        let mut counts = vec![0_u64; weights.len()];
        for (before, ordinal) in order(weights).into_iter().enumerate() {
            counts[ordinal] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let deviation = (count * cycle).abs_diff(weight * (before as u64 + 1));
                assert!(
                    deviation * parts <= (parts - 1) * cycle,
                    "{count} of {} picks for weight {weight} of {cycle}",
                    before + 1
                );
            }
        }
        assert_eq!(counts, weights);
    }

    #[test]
    fn equal_weights_take_turns_in_the_order_of_addresses() {
        check(&[1], "a");
        check(&[1, 1], "ab");
        check(&[1, 1, 1], "abc");
        check(&[1, 1, 1, 1, 1], "abcde");
    }

    #[test]
    fn weights_are_spread_over_the_cycle() {
        check(&[2, 1], "aba");
        check(&[1, 2], "bab");
        check(&[2, 1, 1], "abca");
        check(&[5, 1, 1], "aabaaca");
        check(&[9, 1], "aaaaabaaaa");
        check(&[3, 2], "ababa");
    }

    #[test]
    fn the_one_in_a_hundred_stands_in_the_middle() {
        let order = order(&[99, 1]);
        assert_eq!(order.iter().position(|&ordinal| ordinal == 1), Some(50));
    }

    #[test]
    fn light_targets_do_not_bunch() {
        let mut weights = vec![100];
        weights.extend([1; 10]);
        let light: Vec<_> = order(&weights)
            .into_iter()
            .enumerate()
            .filter_map(|(place, ordinal)| (ordinal > 0).then_some(place))
            .collect();
        assert!(light.windows(2).all(|pair| pair[1] - pair[0] > 5), "{light:?}");
    }

    #[test]
    fn the_largest_cycle_stays_within_the_bound() {
        check_deviation(&[(1 << 20) - 2, 1, 1]);
    }

    proptest! {
        #[test]
        fn each_prefix_is_within_one_pick_of_the_shares(
            weights in prop::collection::vec(1..=1_000_u64, 1..=12),
        ) {
            check_deviation(&weights);
        }

        #[test]
        fn many_light_targets_keep_the_bound_too(
            weights in prop::collection::vec(1..=4_u64, 1..=80),
        ) {
            check_deviation(&weights);
        }
    }
}
