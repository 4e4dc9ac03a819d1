//! Latency: whoever would answer soonest, by a peak-sensitive moving average.
//!
//! Peak EWMA comes from Twitter's Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`) and lives on in
//! linkerd. An average of how long a target takes is raised at once to a new peak and comes down only
//! by and by, with a decay of [`DECAY`]: trouble is seen with the first slow answer, recovery is believed
//! after several. A target is scored by average · (requests in flight + 1) / weight, the time a request
//! would take if those before it were answered one after the other.
//!
//! The average of a target that answers nothing decays towards 0, so that one which was slow is asked
//! again by and by: at ten times the others' average after 10 s · ln 10 = 23 s.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::time::Duration;

use super::lowest::pick_lowest;
use super::{Candidate, Index};

/// Time in which an average comes down to 1/e of itself: Kong's and linkerd's 10 s.
pub const DECAY: Duration = Duration::from_secs(10);

/// What a failed try counts as at least. A refused connection comes back in no time, and must not
/// look like a quick answer.
pub const LEAST_PENALTY: Duration = Duration::from_secs(1);

/// What failed tries count as at most, unless they took longer: some 90 s until a target is asked
/// again beside others that take 10 ms.
pub const MOST_PENALTY: Duration = Duration::from_secs(60);

/// Picks the eligible candidate that is likely to answer soonest, past those that `is_tried` names;
/// none when all were tried.
///
/// `average` is [`PeakEwma::average`] of a target now. A target that has none was never asked: it comes
/// first, so that it gets one, but with one request at a time until it has answered, so that a
/// target that is new or was restarted is not overrun. Where nobody has an average it is
/// [least connections](super::least_connections). Equals take turns by `position`.
///
/// Costs two reads and an exponential for each candidate, about 20 ns; no lock, no allocation.
pub fn pick(
    eligible: &[Candidate],
    position: u64,
    is_tried: impl Fn(Index) -> bool,
    in_flight: impl Fn(Index) -> u32,
    average: impl Fn(Index) -> Option<f64>,
) -> Option<Index> {
    pick_lowest(eligible, position, |candidate| {
        if is_tried(candidate.index) {
            return None;
        }
        let in_flight = in_flight(candidate.index);
        let load = (f64::from(in_flight) + 1.0) / f64::from(candidate.weight.get());
        Some(match average(candidate.index) {
            None if in_flight == 0 => Score(Rank::Unknown, load),
            None => Score(Rank::Awaited, load),
            Some(average) => Score(Rank::Known, average * load),
        })
    })
}

/// Lower is better: by rank, then by number.
#[derive(Debug, Clone, Copy)]
struct Score(Rank, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Never asked, and idle.
    Unknown,
    /// Has an average.
    Known,
    /// Asked for the first time, and about to answer.
    Awaited,
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0).then(self.1.total_cmp(&other.1))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

/// How long a target takes, peaks first; shared by all workers.
///
/// Average and time are halves of one word, so that no reader sees the one without the other and no
/// lock is needed: seconds as an `f32` (seven digits), and milliseconds as a `u32` that wraps. What a
/// target did more than 24 days ago is taken for what it did just now, until it answers once more.
/// Relaxed: nothing else is ordered by it.
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

/// An average as it was at a time; [`PeakEwma`] unpacked.
#[derive(Debug, Clone, Copy)]
struct Sampled {
    seconds: f32,
    at_ms: u32,
}

impl PeakEwma {
    /// Takes in how long an answer took. `now` counts from any fixed moment, the same for all calls.
    pub fn observe(&self, took: Duration, now: Duration) {
        self.update(now, |_| took);
    }

    /// Takes in how long an answer took that says the target is in trouble (a 5xx): it raises the
    /// average, but never lowers it. A target that fails fast would draw all requests otherwise.
    pub fn observe_error(&self, took: Duration, now: Duration) {
        self.update(now, |known| took.max(known));
    }

    /// Takes in a try that brought no answer: at least [`LEAST_PENALTY`] and twice what is known, so
    /// that a target that goes on failing falls behind however slow the others are.
    pub fn observe_failure(&self, took: Duration, now: Duration) {
        self.update(now, |known| {
            took.max((known * 2).clamp(LEAST_PENALTY, MOST_PENALTY))
        });
    }

    /// Returns the average in seconds, decayed since the last answer; none while there was none.
    pub fn average(&self, now: Duration) -> Option<f64> {
        let sampled = Sampled::unpack(self.0.load(Memory::Relaxed))?;
        Some(f64::from(sampled.seconds) * sampled.weight_at(milliseconds(now)))
    }

    fn update(&self, now: Duration, sample: impl Fn(Duration) -> Duration) {
        let now = milliseconds(now);
        let update = |word| {
            let known = Sampled::unpack(word);
            let seconds = known.map_or(0.0, |known| known.seconds);
            // Not below a nanosecond: 0 says that there is no average.
            let took = sample(Duration::from_secs_f32(seconds)).max(Duration::from_nanos(1));
            let next = match known {
                Some(known) => known.after(took.as_secs_f32(), now).pack(),
                None => Sampled::first(took.as_secs_f32(), now).pack(),
            };
            (next != word).then_some(next)
        };
        // `Err` says that nothing changed.
        let _ = self.0.fetch_update(Memory::Relaxed, Memory::Relaxed, update);
    }
}

impl Sampled {
    const fn first(seconds: f32, at_ms: u32) -> Self {
        Self { seconds, at_ms }
    }

    fn unpack(word: u64) -> Option<Self> {
        (word != 0).then(|| Self {
            seconds: f32::from_bits((word >> 32) as u32),
            at_ms: word as u32,
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.seconds.to_bits()) << 32 | u64::from(self.at_ms)
    }

    /// Milliseconds since the last answer; 0 for another thread's moment just before it.
    fn elapsed_ms(self, now_ms: u32) -> u32 {
        u32::try_from(now_ms.wrapping_sub(self.at_ms).cast_signed()).unwrap_or(0)
    }

    /// What is left of the average: 1 at first, 1/e after [`DECAY`].
    fn weight_at(self, now_ms: u32) -> f64 {
        const PER_MS: f64 = -1.0 / DECAY.as_millis() as f64;
        (f64::from(self.elapsed_ms(now_ms)) * PER_MS).exp()
    }

    fn after(self, took: f32, now_ms: u32) -> Self {
        let elapsed_ms = self.elapsed_ms(now_ms);
        let seconds = if took >= self.seconds {
            took
        } else {
            let weight = self.weight_at(now_ms);
            (f64::from(self.seconds) * weight + f64::from(took) * (1.0 - weight)) as f32
        };
        Self {
            seconds,
            at_ms: self.at_ms.wrapping_add(elapsed_ms),
        }
    }
}

/// Milliseconds, wrapping.
fn milliseconds(time: Duration) -> u32 {
    time.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::super::candidates;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pool whose targets have these averages and loads.
    fn check(targets: &[(u32, Option<f64>, u32)], position: u64, expected: Option<Index>) {
        let weights: Vec<_> = targets.iter().map(|target| target.0).collect();
        let picked = pick(
            &candidates(&weights),
            position,
            |_| false,
            |index| targets[index].2,
            |index| targets[index].1,
        );
        assert_eq!(picked, expected, "(weight, average, in flight): {targets:?}");
    }

    /// Feeds (at, took) in milliseconds and compares the average at a time.
    fn check_average(samples: &[(u32, u32)], at: u32, expected_ms: f64) {
        let ewma = PeakEwma::default();
        for (now, took) in samples {
            ewma.observe(MS * *took, MS * *now);
        }
        let average = ewma.average(MS * at).unwrap() * 1e3;
        assert!(
            (average - expected_ms).abs() < expected_ms * 1e-5,
            "{samples:?}: {average}"
        );
    }

    #[test]
    fn the_quickest_for_its_load_and_weight_is_picked() {
        check(&[(1, Some(0.010), 0), (1, Some(0.020), 0)], 0, Some(0));
        check(&[(1, Some(0.010), 2), (1, Some(0.020), 0)], 0, Some(1));
        check(&[(1, Some(0.010), 0), (3, Some(0.020), 0)], 0, Some(1));
        check(&[(0, Some(0.001), 0), (1, Some(0.020), 9)], 0, Some(1));
        check(&[(0, None, 0)], 0, None);
    }

    #[test]
    fn a_target_never_asked_comes_first_but_with_one_request_at_a_time() {
        check(&[(1, Some(0.010), 0), (1, None, 0)], 0, Some(1));
        check(&[(1, Some(0.010), 5), (1, None, 1)], 0, Some(0));
        // A pool that was just started: each gets one, then the least loaded.
        check(&[(1, None, 1), (1, None, 0)], 0, Some(1));
        check(&[(1, None, 2), (1, None, 1)], 0, Some(1));
    }

    #[test]
    fn a_peak_is_taken_at_once_and_decays() {
        check_average(&[(0, 10)], 0, 10.0);
        check_average(&[(0, 10), (1, 500)], 1, 500.0);
        check_average(&[(0, 500)], 10_000, 500.0 / std::f64::consts::E);
        // After 10 s a quick answer counts for 1 - 1/e, the peak for the rest.
        let share = 1.0 / std::f64::consts::E;
        check_average(
            &[(0, 500), (10_000, 100)],
            10_000,
            500.0 * share + 100.0 * (1.0 - share),
        );
    }

    #[test]
    fn answers_within_one_millisecond_count_as_one() {
        check_average(&[(5, 20), (5, 10), (5, 10)], 5, 20.0);
    }

    #[test]
    fn another_threads_earlier_moment_does_not_turn_time_back() {
        check_average(&[(1_000, 20), (999, 10)], 1_000, 20.0);
    }

    #[test]
    fn time_goes_on_when_the_milliseconds_wrap() {
        let ewma = PeakEwma::default();
        let wrap = Duration::from_millis(1 << 32);
        ewma.observe(100 * MS, wrap - 5_000 * MS);
        let average = ewma.average(wrap + 5_000 * MS).unwrap();
        assert!((average - 0.1 / std::f64::consts::E).abs() < 1e-6, "{average}");
    }

    #[test]
    fn failures_cost_more_each_time_and_errors_never_help() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.average(MS), None);
        let averages: Vec<_> = (0..8)
            .map(|_| {
                ewma.observe_failure(MS, MS);
                ewma.average(MS).unwrap()
            })
            .collect();
        assert_eq!(averages, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        ewma.observe_failure(90_000 * MS, MS);
        assert_eq!(ewma.average(MS), Some(90.0));

        let ewma = PeakEwma::default();
        ewma.observe(20 * MS, MS);
        ewma.observe_error(MS, 60_000 * MS);
        assert!((ewma.average(60_000 * MS).unwrap() - 0.020).abs() < 1e-6);
    }

    #[test]
    fn a_slow_target_is_asked_again_once_its_average_came_down() {
        let slow = PeakEwma::default();
        slow.observe(100 * MS, Duration::ZERO);
        let picked_at = |seconds| {
            let average = |index| match index {
                0 => Some(0.010),
                _ => slow.average(Duration::from_secs(seconds)),
            };
            pick(&candidates(&[1, 1]), 0, |_| false, |_| 0, average)
        };
        assert_eq!(picked_at(23), Some(0));
        assert_eq!(picked_at(24), Some(1));
    }

    proptest! {
        #[test]
        fn a_pick_is_eligible_and_untried(
            targets in prop::collection::vec(
                (0..=1_000_u32, prop::option::of(0.0..100.0), 0..=50_u32, any::<bool>()), 0..=12),
            position in any::<u64>(),
        ) {
            let weights: Vec<_> = targets.iter().map(|target| target.0).collect();
            let picked = pick(
                &candidates(&weights),
                position,
                |index| targets[index].3,
                |index| targets[index].2,
                |index| targets[index].1,
            );
            match picked {
                None => prop_assert!(targets.iter().all(|target| target.0 == 0 || target.3)),
                Some(index) => prop_assert!(targets[index].0 > 0 && !targets[index].3),
            }
        }

        #[test]
        fn equally_quick_targets_share_by_weight_what_stays_in_flight(
            weights in prop::collection::vec(0..=60_u32, 1..=8),
            average in prop::option::of(0.000_1..10.0),
            start in 0..u64::MAX / 2,
        ) {
            let loads = RefCell::new(vec![0; weights.len()]);
            let all = candidates(&weights);
            let total: u32 = weights.iter().sum();
            for position in start..start + u64::from(total) {
                let picked = pick(&all, position, |_| false, |index| loads.borrow()[index], |_| average);
                loads.borrow_mut()[picked.unwrap()] += 1;
            }
            match average {
                Some(_) => prop_assert_eq!(loads.into_inner(), weights),
                // Nobody gets a second request before each has had its first.
                None => prop_assert_eq!(loads.into_inner().iter().sum::<u32>(), total),
            }
        }

        #[test]
        fn ties_are_exact_over_each_cycle(
            count in 1..=9_usize,
            cycles in 1..=4_u64,
            average in prop::option::of(0.000_1..10.0),
            start in 0..u64::MAX / 2,
        ) {
            let all = candidates(&vec![7; count]);
            let mut counts = vec![0; count];
            for position in start..start + cycles * count as u64 {
                counts[pick(&all, position, |_| false, |_| 0, |_| average).unwrap()] += 1;
            }
            prop_assert!(counts.iter().all(|times| *times == cycles), "{:?}", counts);
        }

        #[test]
        fn without_answers_an_average_only_comes_down(
            took in 1..=10_000_u32,
            mut times in prop::collection::vec(0..=1_000_000_u32, 2..=20),
        ) {
            let ewma = PeakEwma::default();
            ewma.observe(MS * took, Duration::ZERO);
            times.sort_unstable();
            let averages: Vec<_> = times.iter().map(|at| ewma.average(MS * *at).unwrap()).collect();
            prop_assert!(averages.is_sorted_by(|a, b| a >= b), "{averages:?}");
        }

        #[test]
        fn an_average_stays_between_the_quickest_and_the_slowest_answer(
            samples in prop::collection::vec((0..=5_000_u32, 1..=10_000_u32), 1..=50),
        ) {
            let ewma = PeakEwma::default();
            let mut now = 0;
            for (pause, took) in &samples {
                now += pause;
                ewma.observe(MS * *took, MS * now);
            }
            let average = ewma.average(MS * now).unwrap() * 1e3;
            let least = samples.iter().map(|sample| sample.1).min().unwrap();
            let most = samples.iter().map(|sample| sample.1).max().unwrap();
            prop_assert!(average > f64::from(least) * 0.999 && average < f64::from(most) * 1.001);
        }
    }
}
