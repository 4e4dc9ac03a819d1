//! Least connections: whoever has the fewest requests in flight for its weight.
//!
//! Kong's rule: the lowest (requests in flight + 1) / weight. The one more is the request being
//! placed, so an idle pool prefers its heaviest target, and n requests that stay in flight are shared
//! out by weight (the method of D'Hondt: after as many as the weights sum up to, each has its weight).
//! Kong counts in each worker by itself; here all workers count in one place.

use std::cmp::Ordering;

use super::lowest::pick_lowest;
use super::{Candidate, Index};

/// Picks the eligible candidate with the fewest requests in flight for its weight, past those that
/// `is_tried` names; none when all were tried.
///
/// Candidates in balance take turns by `position`, a counter of the caller's. Costs one read of
/// `in_flight` for each candidate, and up to another where several are tied; no lock, no allocation.
pub fn pick(
    eligible: &[Candidate],
    position: u64,
    is_tried: impl Fn(Index) -> bool,
    in_flight: impl Fn(Index) -> u32,
) -> Option<Index> {
    pick_lowest(eligible, position, |candidate| {
        (!is_tried(candidate.index)).then(|| Load {
            requests: u64::from(in_flight(candidate.index)) + 1,
            weight: u64::from(candidate.weight.get()),
        })
    })
}

/// Requests for each unit of weight, kept as a fraction so that equal is exactly equal.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// At most 2^32.
    requests: u64,
    /// Below 2^32, so that products fit.
    weight: u64,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.requests * other.weight).cmp(&(other.requests * self.weight))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::super::candidates;
    use super::*;

    /// Places requests that all stay in flight, and returns how many each target has.
    fn fill(weights: &[u32], requests: u32, start: u64) -> Vec<u32> {
        let loads = RefCell::new(vec![0; weights.len()]);
        let candidates = candidates(weights);
        for position in start..start + u64::from(requests) {
            let picked = pick(&candidates, position, |_| false, |index| loads.borrow()[index]);
            loads.borrow_mut()[picked.expect("one is eligible")] += 1;
        }
        loads.into_inner()
    }

    fn check(weights: &[u32], loads: &[u32], expected: Option<Index>) {
        let picked = pick(&candidates(weights), 0, |_| false, |index| loads[index]);
        assert_eq!(picked, expected, "weights {weights:?}, in flight {loads:?}");
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_picked() {
        check(&[1, 1, 1], &[2, 0, 1], Some(1));
        check(&[100, 300], &[0, 1], Some(1));
        check(&[100, 300], &[0, 3], Some(0));
        check(&[1, 0, 1], &[5, 0, 6], Some(0));
        check(&[0, 0], &[0, 0], None);
        check(&[], &[], None);
    }

    #[test]
    fn an_idle_pool_prefers_the_heaviest_and_takes_turns_among_equals() {
        let all = candidates(&[2, 1, 2]);
        let picks: Vec<_> = (0..4)
            .map(|position| pick(&all, position, |_| false, |_| 0))
            .collect();
        assert_eq!(picks, [Some(0), Some(2), Some(0), Some(2)]);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        check(&[u32::MAX, u32::MAX], &[u32::MAX, u32::MAX - 1], Some(1));
    }

    #[test]
    fn requests_in_flight_are_shared_out_by_weight() {
        assert_eq!(fill(&[50, 30, 20], 100, 7), [50, 30, 20]);
        assert_eq!(fill(&[100, 100, 100], 9, 0), [3, 3, 3]);
        assert_eq!(fill(&[9, 0, 1], 20, 3), [18, 0, 2]);
    }

    /// Four threads place requests that stay in flight, each by what it sees of all.
    #[test]
    fn loads_are_counted_over_all_workers() {
        let candidates = candidates(&[1, 1, 1, 1]);
        let loads = [const { AtomicU32::new(0) }; 4];
        let position = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let turn = position.fetch_add(1, Ordering::Relaxed);
                        let picked = pick(
                            &candidates,
                            turn,
                            |_| false,
                            |index| loads[index].load(Ordering::Relaxed),
                        );
                        loads[picked.unwrap()].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        // Four that look at one moment can be off by one each, and what is uneven is evened out next.
        let loads = loads.map(AtomicU32::into_inner);
        assert_eq!(loads.iter().sum::<u32>(), 4_000);
        assert!(loads.iter().all(|load| load.abs_diff(1_000) <= 4), "{loads:?}");
    }

    proptest! {
        #[test]
        fn a_pick_is_eligible_untried_and_no_other_is_lower(
            targets in prop::collection::vec((0..=1_000_u32, 0..=50_u32, any::<bool>()), 0..=12),
            position in any::<u64>(),
        ) {
            let weights: Vec<_> = targets.iter().map(|target| target.0).collect();
            let picked = pick(&candidates(&weights), position, |index| targets[index].2, |index| targets[index].1);
            let open = targets.iter().filter(|target| target.0 > 0 && !target.2);
            match picked {
                None => prop_assert_eq!(open.count(), 0),
                Some(index) => {
                    let (weight, load, is_tried) = targets[index];
                    prop_assert!(weight > 0 && !is_tried);
                    for other in open {
                        prop_assert!(u64::from(load + 1) * u64::from(other.0) <= u64::from(other.1 + 1) * u64::from(weight));
                    }
                }
            }
        }

        #[test]
        fn what_stays_in_flight_equals_the_weights(
            weights in prop::collection::vec(0..=60_u32, 1..=8),
            start in 0..u64::MAX / 2,
        ) {
            let total = weights.iter().sum();
            prop_assert_eq!(fill(&weights, total, start), weights);
        }

        #[test]
        fn ties_are_exact_over_each_cycle(
            ups in prop::collection::vec(any::<bool>(), 1..=9),
            cycles in 1..=4_u64,
            start in 0..u64::MAX / 2,
        ) {
            let up = ups.iter().filter(|up| **up).count() as u64;
            let all = candidates(&vec![7; ups.len()]);
            let mut counts = vec![0; ups.len()];
            for position in start..start + cycles * up {
                counts[pick(&all, position, |index| !ups[index], |_| 3).unwrap()] += 1;
            }
            let expected: Vec<_> = ups.iter().map(|up| if *up { cycles } else { 0 }).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
