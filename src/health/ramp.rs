//! Slow start: how much weight an address has while it is coming back.
//!
//! From a tenth of its weight, at least 1, in a straight line to the whole over the time that the
//! operator gave. Weights are what a round robin selects by, so they must be whole; where a tenth of
//! one would be less than 1, all weights of the Upstream are multiplied first, which keeps their
//! shares and makes steps of a tenth possible.

use std::num::NonZeroU32;
use std::time::Duration;

/// Weight at the beginning, in thousandths.
const FIRST: u128 = 100;
/// Weight below which a tenth of it could not be told from the whole.
const FINE_ENOUGH: u32 = 10;

/// Returns the weights to select by while some address is coming back; `None` when none is.
///
/// Takes for each address its weight and for how long it has been back, `None` if it was never out.
pub fn ramped_weights(
    addresses: &[(NonZeroU32, Option<Duration>)],
    over: Duration,
) -> Option<Vec<NonZeroU32>> {
    let is_ramping = |back_for: &Option<Duration>| back_for.is_some_and(|back_for| back_for < over);
    let smallest = addresses
        .iter()
        .filter(|(_, back_for)| is_ramping(back_for))
        .map(|(weight, _)| *weight)
        .min()?;
    let scale = FINE_ENOUGH.div_ceil(smallest.get());
    let weight_of = |(weight, back_for): &(NonZeroU32, Option<Duration>)| {
        let whole = u128::from(weight.get()) * u128::from(scale);
        let weight = match back_for.filter(|_| is_ramping(back_for)) {
            None => whole,
            Some(back_for) => {
                let thousandths = FIRST + (1000 - FIRST) * back_for.as_nanos() / over.as_nanos();
                whole * thousandths / 1000
            }
        };
        NonZeroU32::new(u32::try_from(weight).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
    };
    Some(addresses.iter().map(weight_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Duration = Duration::from_secs(30);

    /// The first address comes back, the others were never out.
    fn check(weights: &[u32], second: u64, expected: Option<&[u32]>) {
        let addresses: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| {
                let back_for = (at == 0).then_some(Duration::from_secs(second));
                (NonZeroU32::new(*weight).unwrap(), back_for)
            })
            .collect();
        let ramped = ramped_weights(&addresses, OVER);
        let ramped = ramped.map(|weights| weights.into_iter().map(NonZeroU32::get).collect::<Vec<_>>());
        assert_eq!(ramped.as_deref(), expected, "second {second}");
    }

    #[test]
    fn a_weight_grows_from_a_tenth_to_the_whole() {
        check(&[100, 100], 0, Some(&[10, 100]));
        check(&[100, 100], 10, Some(&[40, 100]));
        check(&[100, 100], 29, Some(&[97, 100]));
        check(&[100, 100], 30, None);
        check(&[100, 100], 3000, None);
    }

    #[test]
    fn small_weights_are_multiplied_and_keep_their_shares() {
        check(&[1, 1], 0, Some(&[1, 10]));
        check(&[1, 3], 10, Some(&[4, 30]));
        check(&[4, 1], 10, Some(&[4, 3]));
        check(&[15, 1], 0, Some(&[1, 1]));
    }

    #[test]
    fn nobody_who_was_never_out_is_slowed() {
        let never = (NonZeroU32::MIN, None);
        assert_eq!(ramped_weights(&[never, never], OVER), None);
        assert_eq!(ramped_weights(&[], OVER), None);
    }

    #[test]
    fn weights_only_grow_and_end_below_the_whole() {
        for weight in [1, 2, 7, 10, 99, 65_535, u32::MAX] {
            let at = |tenth: u32| {
                let addresses = [(NonZeroU32::new(weight).unwrap(), Some(OVER * tenth / 300))];
                ramped_weights(&addresses, OVER).unwrap()[0]
            };
            let grown: Vec<_> = (0..300).map(at).collect();
            assert!(grown.is_sorted(), "{weight}: {grown:?}");
        }
    }
}
