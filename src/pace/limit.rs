//! How many requests a worker has under way at once.
//!
//! A request under way holds some 20 KiB. A worker that is saturated and still begins all that clients send works
//! on memory that has left the core's caches meanwhile: with 256 connections that costs half as much CPU
//! again. So a saturated worker lets fewer be under way, down to those that keep it busy; the others wait
//! where they would wait anyway, as they came. As soon as it has time to spare, because origins take
//! longer than that, it lets more. A worker that was never saturated holds nobody back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

use crate::clock;
use crate::metrics::Counted;

/// As many are always let: what they hold fits a second cache of 512 KiB beside all else, and a call to the
/// system for what has come is little among so many.
const LEAST: usize = 16;
/// The limit of a worker that holds nobody back.
const MOST: usize = Semaphore::MAX_PERMITS;
/// How often a worker with more than the least under way looks at its time: the longest that a request waits
/// for one with time to spare.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Part of its time that a worker has to spare if it is not saturated: one in so many.
const SPARE: u32 = 8;
/// Part of those that were finished since the last look by which the limit narrows: one in so many.
const NARROWING: usize = 4;
/// Where fewer were finished, others make up for them. What is under way for long, like downloads and tunnels, or keeps
/// the worker busy otherwise, like handshakes, shuts nobody out.
const A_FEW: usize = 4;

/// The requests of a worker.
#[derive(Debug)]
pub struct Pace {
    places: Semaphore,
    // A worker is one thread: atomics are for the compiler, and need no order.
    /// How many may be under way.
    limit: AtomicUsize,
    /// How many places over the limit are to be given up once they are free.
    excess: AtomicUsize,
    /// How many were finished, ever.
    finished: AtomicUsize,
    is_watched: AtomicBool,
    waiting: IntGauge,
}

/// A request under way, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct UnderWay<'a> {
    pace: &'a Pace,
    place: Option<SemaphorePermit<'a>>,
}

impl Pace {
    /// Begins with nothing under way, and without a limit; counts in `waiting` who has to wait.
    pub fn new(waiting: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            places: Semaphore::new(MOST),
            limit: AtomicUsize::new(MOST),
            excess: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
            waiting,
        })
    }

    /// Waits until a request may begin.
    pub async fn begin(self: &Arc<Self>) -> UnderWay<'_> {
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Counted::new(&self.waiting);
                self.places.acquire().await.expect("it is never closed")
            }
        };
        if self.under_way() > LEAST && !self.is_watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().watch());
        }
        UnderWay {
            pace: self,
            place: Some(place),
        }
    }

    pub(super) fn under_way(&self) -> usize {
        let places = self.limit.load(Ordering::Relaxed) + self.excess.load(Ordering::Relaxed);
        places - self.places.available_permits()
    }

    /// Sets the limit by the worker's time, until it has some to spare and little under way.
    async fn watch(self: Arc<Self>) {
        let mut last = self.look();
        loop {
            sleep(LOOK_EVERY).await;
            let now = self.look();
            let is_saturated = now.is_saturated_since(&last);
            let under_way = self.under_way();
            if under_way == 0 || under_way <= LEAST && !is_saturated && !self.is_full() {
                break;
            }
            self.adapt(is_saturated, now.finished.wrapping_sub(last.finished));
            last = now;
        }
        self.set_limit(MOST);
        self.is_watched.store(false, Ordering::Relaxed);
    }

    fn look(&self) -> Look {
        Look {
            at: clock::monotonic(),
            worked: clock::of_this_thread(),
            finished: self.finished.load(Ordering::Relaxed),
        }
    }

    /// Says whether a request would have to wait.
    fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Narrows the limit of a saturated worker, and widens that of another by half where it keeps requests waiting:
    /// time that is lost costs more than a narrow limit saves.
    fn adapt(&self, is_saturated: bool, finished: usize) {
        let under_way = self.under_way();
        if is_saturated && finished >= A_FEW {
            let fewer = under_way.saturating_sub(finished / NARROWING);
            self.set_limit(fewer.max(LEAST).min(self.limit.load(Ordering::Relaxed)));
        } else if self.is_full() {
            let more = match is_saturated {
                true => A_FEW - finished,
                false => under_way / 2,
            };
            self.set_limit(under_way + more);
        }
    }

    fn set_limit(&self, limit: usize) {
        let before = self.limit.swap(limit, Ordering::Relaxed);
        let excess = self.excess.load(Ordering::Relaxed);
        let excess = if limit < before {
            let fewer = before - limit;
            excess + fewer - self.places.forget_permits(fewer)
        } else {
            let more = limit - before;
            self.places.add_permits(more.saturating_sub(excess));
            excess.saturating_sub(more)
        };
        self.excess.store(excess, Ordering::Relaxed);
    }
}

/// What a worker has done up to an instant.
struct Look {
    at: Instant,
    /// CPU time of its thread.
    worked: Duration,
    finished: usize,
}

impl Look {
    fn is_saturated_since(&self, before: &Self) -> bool {
        let passed = self.at - before.at;
        let spare = passed.saturating_sub(self.worked - before.worked);
        spare < passed / SPARE
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let finished = &self.pace.finished;
        finished.store(
            finished.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        let excess = &self.pace.excess;
        if excess.load(Ordering::Relaxed) > 0
            && let Some(place) = self.place.take()
        {
            excess.fetch_sub(1, Ordering::Relaxed);
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::task::Poll;

    use futures_util::{FutureExt, poll};
    use proptest::prelude::*;

    use super::*;

    fn new_pace() -> Arc<Pace> {
        Pace::new(IntGauge::new("waiting", "waiting").unwrap())
    }

    /// Begins as many as begin without waiting, up to a number.
    fn begin_some(pace: &Arc<Pace>, count: usize) -> Vec<UnderWay<'_>> {
        iter::from_fn(|| pace.begin().now_or_never())
            .take(count)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_until_the_worker_was_saturated() {
        let pace = new_pace();
        let under_way = begin_some(&pace, 1000);
        assert_eq!(under_way.len(), 1000);
        pace.adapt(false, 0);
        assert!(begin_some(&pace, 1).len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_saturated_worker_lets_fewer_and_fewer_be_under_way_but_never_too_few() {
        let pace = new_pace();
        let mut under_way = begin_some(&pace, 1000);
        pace.adapt(true, 19);
        assert_eq!(
            (pace.under_way(), pace.limit.load(Ordering::Relaxed)),
            (1000, 996)
        );
        assert!(begin_some(&pace, 1).is_empty());
        // Five end before the next may begin.
        under_way.truncate(996);
        assert!(begin_some(&pace, 1).is_empty());
        under_way.truncate(995);
        assert_eq!(begin_some(&pace, 2).len(), 1);
        for _ in 0..1000 {
            pace.adapt(true, A_FEW);
            under_way.truncate(pace.limit.load(Ordering::Relaxed));
        }
        assert_eq!(pace.under_way(), LEAST);
        under_way.clear();
        assert_eq!(begin_some(&pace, 1000).len(), LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_with_time_to_spare_takes_those_who_wait_in_their_order() {
        let pace = new_pace();
        let mut under_way = begin_some(&pace, LEAST);
        pace.adapt(true, A_FEW);
        let mut waiting: Vec<_> = (0..3 * LEAST).map(|_| Box::pin(pace.begin())).collect();
        for begin in &mut waiting {
            assert!(poll!(begin).is_pending());
        }
        assert_eq!(pace.waiting.get(), 3 * LEAST as i64);
        under_way.pop();
        let mut begun = Vec::new();
        for begin in &mut waiting {
            begun.push(poll!(begin));
        }
        assert!(begun[0].is_ready() && begun[1..].iter().all(Poll::is_pending));
        pace.adapt(false, 0);
        let mut later = 0;
        for begin in &mut waiting[1..] {
            if let Poll::Ready(place) = poll!(begin) {
                assert_eq!(begun.len(), 3 * LEAST + later);
                begun.push(Poll::Ready(place));
                later += 1;
            }
        }
        assert_eq!(later, LEAST / 2);
        assert_eq!(pace.waiting.get(), (3 * LEAST - 1 - later) as i64);
        drop(waiting);
        assert_eq!(pace.waiting.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_for_long_shuts_nobody_out() {
        let pace = new_pace();
        let mut under_way = begin_some(&pace, 100);
        pace.adapt(true, 99);
        assert!(begin_some(&pace, 1).is_empty());
        pace.adapt(true, 0);
        under_way.extend(begin_some(&pace, 100));
        assert_eq!(under_way.len(), 100 + A_FEW);
        pace.adapt(true, A_FEW - 1);
        assert_eq!(begin_some(&pace, 100).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_forgotten_with_the_load() {
        let pace = new_pace();
        let under_way = begin_some(&pace, LEAST + 1);
        pace.adapt(true, A_FEW);
        drop(under_way);
        while pace.is_watched.load(Ordering::Relaxed) {
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(begin_some(&pace, 1000).len(), 1000);
    }

    #[test]
    fn a_worker_is_saturated_with_less_than_an_eighth_of_its_time_to_spare() {
        let start = clock::monotonic();
        let look = |passed, worked| Look {
            at: start + Duration::from_micros(passed),
            worked: Duration::from_micros(worked),
            finished: 0,
        };
        for (passed, worked, expected) in [
            (800, 701, true),
            (800, 700, false),
            (800, 0, false),
            // Its thread's clock may be ahead by a moment.
            (800, 801, true),
        ] {
            let is_saturated = look(100 + passed, 50 + worked).is_saturated_since(&look(100, 50));
            assert_eq!(is_saturated, expected, "{worked} of {passed} us");
        }
    }

    proptest! {
        #[test]
        fn every_place_is_accounted_for(steps in prop::collection::vec((0_u8..4, 0_usize..40), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _entered = runtime.enter();
            let pace = new_pace();
            let mut under_way = Vec::new();
            for (step, count) in steps {
                match step {
                    0 => under_way.extend(begin_some(&pace, count)),
                    1 => under_way.truncate(under_way.len().saturating_sub(count)),
                    step => pace.adapt(step == 2, count),
                }
                let limit = pace.limit.load(Ordering::Relaxed);
                prop_assert_eq!(pace.under_way(), under_way.len());
                prop_assert!(limit >= LEAST);
                prop_assert_eq!(pace.excess.load(Ordering::Relaxed), under_way.len().saturating_sub(limit));
                prop_assert_eq!(pace.is_full(), under_way.len() >= limit);
            }
        }
    }
}
