//! Shares without a table of the whole cycle: a place in the cycle is found in the sums of weights.
//!
//! Taking places one after the other would give blocks: all of the first target, then all of the
//! second. [`spread`] therefore steps through the cycle of W places by a stride coprime to W, which
//! visits each place once, so the counts stay exact; the stride lies near W / φ, the multiple that
//! leaves the most even gaps at every length (the three-distance theorem; Knuth, TAOCP 6.4).

use super::{Index, Share, gcd};

/// 2^64 / φ.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Sums of weights, searched by halving.
pub(super) struct Cumulative {
    /// For each ordinal, the first place that is no longer its own.
    ends: Box<[u64]>,
    stride: u64,
}

impl Cumulative {
    /// Takes at least one share, none of weight 0. 8 bytes for each.
    pub(super) fn build(shares: &[Share]) -> Self {
        let mut cycle = 0;
        let ends = shares
            .iter()
            .map(|share| {
                cycle += share.weight;
                cycle
            })
            .collect();
        Self {
            ends,
            stride: stride(cycle),
        }
    }

    /// Number of picks after which each share has been met exactly.
    fn cycle(&self) -> u64 {
        *self.ends.last().expect("built from at least one share")
    }

    /// Gives the ordinal for a counter's value. One search: log2 of the number of targets compares.
    pub(super) fn pick(&self, count: u64) -> usize {
        let place = spread(count, self.cycle(), self.stride);
        self.ends.partition_point(|&end| end <= place)
    }
}

/// Draws among the shares that `is_open` lets through, each as many places wide as it weighs. `place`
/// receives the number of places and says which one is drawn; it must stay below that number.
///
/// Two passes over the shares, no allocation. `is_open` may change its mind between them (health is
/// read live): the answer is then another open share, never a closed one.
pub(super) fn draw(
    shares: &[Share],
    is_open: impl Fn(Index) -> bool,
    place: impl FnOnce(u64) -> u64,
) -> Option<Index> {
    let open = || shares.iter().filter(|share| is_open(share.index));
    let total: u64 = open().map(|share| share.weight).sum();
    if total == 0 {
        return None;
    }
    let mut left = place(total);
    let mut last = None;
    for share in open() {
        last = Some(share.index);
        match left.checked_sub(share.weight) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    last
}

/// Maps a counter to a place below `total`: each run of `total` counts meets each place once.
pub(super) fn spread(count: u64, total: u64, stride: u64) -> u64 {
    let product = u128::from(count % total) * u128::from(stride);
    (product % u128::from(total)) as u64
}

/// Returns the number nearest to `total / φ` that is coprime to `total`. A few divisions: below
/// 2^64 a coprime number is never more than some hundred steps away (Jacobsthal's function).
pub(super) fn stride(total: u64) -> u64 {
    let ideal = ((u128::from(total) * u128::from(GOLDEN)) >> 64) as u64;
    (0..total)
        .flat_map(|distance| [ideal.checked_add(distance), ideal.checked_sub(distance)])
        .flatten()
        .find(|&stride| gcd(stride, total) == 1)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(weights: &[u64]) -> Vec<Share> {
        let share = |(index, &weight)| Share { index, weight };
        weights.iter().enumerate().map(share).collect()
    }

    /// Counts one cycle that starts at `start` and compares with the weights.
    fn check(weights: &[u64], start: u64) {
        let cumulative = Cumulative::build(&shares(weights));
        let mut counts = vec![0; weights.len()];
        for count in start..start + cumulative.cycle() {
            counts[cumulative.pick(count)] += 1;
        }
        assert_eq!(counts, weights, "one cycle from {start}");
    }

    #[test]
    fn a_single_target_gets_everything() {
        check(&[1], 7);
        check(&[5], 7);
    }

    #[test]
    fn strides_are_coprime_and_near_the_golden_section() {
        for total in (1..5_000).chain([1 << 32, (1 << 40) + 6, 6_469_693_230 * 31, u64::MAX]) {
            let stride = stride(total);
            assert_eq!(gcd(stride, total), 1, "total {total}");
            assert!(
                stride.abs_diff((total as f64 * 0.618_034) as u64) <= 40 + total / 1_000_000,
                "total {total}"
            );
        }
    }

    #[test]
    fn a_cycle_beyond_any_table_has_no_long_runs() {
        let cumulative = Cumulative::build(&shares(&[u64::from(u32::MAX) - 1, u64::from(u32::MAX)]));
        let picks: Vec<_> = (0..10_000).map(|count| cumulative.pick(count)).collect();
        let longest_run = picks.chunk_by(|a, b| a == b).map(<[_]>::len).max();
        assert!(longest_run <= Some(2), "{longest_run:?}");
        let first = picks.iter().filter(|&&ordinal| ordinal == 0).count();
        assert!((4_995..=5_005).contains(&first), "{first}");
    }

    #[test]
    fn draw_answers_an_open_share_even_if_others_close_meanwhile() {
        let asked = std::cell::Cell::new(0);
        let is_open = |index| {
            asked.set(asked.get() + 1);
            asked.get() <= 3 || index == 0
        };
        assert_eq!(draw(&shares(&[1, 1, 1]), is_open, |total| total - 1), Some(0));
    }

    proptest! {
        #[test]
        fn one_cycle_from_any_count_equals_the_weights(
            weights in prop::collection::vec(1..=1_000_u64, 1..=12),
            start in 0..u64::MAX / 2,
        ) {
            check(&weights, start);
        }
    }
}
