//! The share of traffic at an instant: a pure function of ramp and time.
//!
//! A ramp of *n* steps goes from nobody to everybody in *n* equal increments, each of which comes at the
//! end of its part of the duration (Kong's Canary Release plugin): in ten hours with ten steps nobody
//! for an hour, then a tenth, and everybody after the tenth hour.

use std::time::Duration;

use crate::balance::Bucket;
use crate::model::{Ramp, Share};

/// Returns the share at an instant, given since 1970.
pub fn share_at(ramp: &Ramp, now: Duration) -> Share {
    let Some(elapsed) = now.checked_sub(ramp.start) else {
        return Share::NONE;
    };
    if elapsed >= ramp.duration {
        return Share::ALL;
    }
    let steps = elapsed.as_nanos() * step_count(ramp) / ramp.duration.as_nanos();
    share_after(ramp, steps)
}

/// Returns when the share next changes after `now`; `None` once everybody is reached.
pub fn next_change(ramp: &Ramp, now: Duration) -> Option<Duration> {
    let elapsed = now.checked_sub(ramp.start).unwrap_or_default();
    if now >= ramp.start + ramp.duration {
        return None;
    }
    let steps = elapsed.as_nanos() * step_count(ramp) / ramp.duration.as_nanos();
    Some(end_of_step(ramp, steps + 1))
}

/// Returns when a bucket comes to be owned by the canary.
pub fn reached_at(ramp: &Ramp, bucket: Bucket) -> Duration {
    // The smallest number of steps whose share, rounded down, is above the bucket's number.
    let wanted = u128::from(bucket.number()) + 1;
    let steps = (wanted * step_count(ramp)).div_ceil(u128::from(Share::WHOLE));
    end_of_step(ramp, steps)
}

/// Returns how long a step takes.
pub fn step_length(ramp: &Ramp) -> Duration {
    ramp.duration / ramp.step_count.get()
}

fn step_count(ramp: &Ramp) -> u128 {
    u128::from(ramp.step_count.get())
}

fn share_after(ramp: &Ramp, steps: u128) -> Share {
    let basis_points = steps * u128::from(Share::WHOLE) / step_count(ramp);
    let basis_points = u16::try_from(basis_points).unwrap_or(Share::WHOLE);
    Share::new(basis_points).unwrap_or(Share::ALL)
}

/// The first instant at which so many steps are done.
fn end_of_step(ramp: &Ramp, steps: u128) -> Duration {
    let nanos = (steps * ramp.duration.as_nanos()).div_ceil(step_count(ramp));
    ramp.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::{BucketKey, Buckets};

    fn ramp(start: u64, duration: u64, steps: u32) -> Ramp {
        Ramp {
            start: Duration::from_secs(start),
            duration: Duration::from_secs(duration),
            step_count: NonZeroU32::new(steps).unwrap(),
        }
    }

    fn check(ramp: &Ramp, second: u64, basis_points: u16) {
        let share = share_at(ramp, Duration::from_secs(second));
        assert_eq!(share.basis_points(), basis_points, "at {second}");
    }

    #[test]
    fn ten_hours_in_ten_steps_are_a_tenth_an_hour() {
        let ramp = ramp(1_000_000, 36_000, 10);
        check(&ramp, 0, 0);
        check(&ramp, 1_000_000, 0);
        for hour in 1..=10 {
            let at = 1_000_000 + u64::from(hour) * 3600;
            check(&ramp, at - 1, (hour - 1) * 1000);
            check(&ramp, at, hour * 1000);
        }
        check(&ramp, u64::MAX, 10_000);
    }

    #[test]
    fn shares_that_do_not_come_out_even_are_rounded_down() {
        let ramp = ramp(0, 3, 3);
        check(&ramp, 1, 3333);
        check(&ramp, 2, 6666);
        check(&ramp, 3, 10_000);
    }

    #[test]
    fn the_next_change_is_the_end_of_the_step() {
        let ramp = ramp(100, 30, 3);
        let next = |second| next_change(&ramp, Duration::from_secs(second)).map(|at| at.as_secs());
        assert_eq!(next(0), Some(110));
        assert_eq!(next(110), Some(120));
        assert_eq!(next(129), Some(130));
        assert_eq!(next(130), None);
    }

    fn any_ramp() -> impl Strategy<Value = Ramp> {
        (0..4_000_000_000u64, 1..100_000_000u64, 2..1_000_000u32)
            .prop_map(|(start, duration, steps)| ramp(start, duration, steps))
    }

    proptest! {
        #[test]
        fn a_share_never_falls(ramp in any_ramp(), a in any::<u32>(), b in any::<u32>()) {
            let at = |offset: u32| ramp.start + Duration::from_millis(offset.into());
            prop_assert!(share_at(&ramp, at(a.min(b))) <= share_at(&ramp, at(a.max(b))));
        }

        #[test]
        fn a_change_is_told_to_the_nanosecond(ramp in any_ramp(), offset in any::<u32>()) {
            let now = ramp.start + Duration::from_millis(offset.into());
            if let Some(next) = next_change(&ramp, now) {
                prop_assert!(next > now);
                let before = share_at(&ramp, next - Duration::from_nanos(1));
                prop_assert_eq!(before, share_at(&ramp, now));
            } else {
                prop_assert_eq!(share_at(&ramp, now), Share::ALL);
            }
        }

        #[test]
        fn a_bucket_is_reached_when_told_and_not_before(ramp in any_ramp(), key in any::<u64>()) {
            let bucket = Buckets::new(b"").bucket(BucketKey::Header(&key.to_be_bytes()));
            let at = reached_at(&ramp, bucket);
            prop_assert!(bucket.is_in(share_at(&ramp, at)));
            prop_assert!(!bucket.is_in(share_at(&ramp, at - Duration::from_nanos(1))));
        }
    }
}
