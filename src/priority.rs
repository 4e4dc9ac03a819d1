//! Which threads go first when there is more to do than cores to do it.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use log::warn;

use crate::clock;

/// How much later than requests a change is served: a sixth of the weight of a thread that serves them, by the
/// kernel's table, so that changes stay possible on a machine that is overloaded.
const NICE: i32 = 8;

/// How long a thread that lets others go first computes before it offers them its core. The kernel would take
/// it away at its next tick, after up to 4 ms, whoever waits. Much more often would not do: Linux 6.18 counts
/// a core that was offered to somebody as used for a whole slice.
const TURN: Duration = Duration::from_micros(500);

thread_local! {
    /// Since when this thread has had its core, if it lets others go first.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets every other thread of the process go before this one. Threads that it begins go after them as well.
pub fn yield_to_requests() {
    // Elsewhere it would be the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, NICE)
    {
        warn!("changes are served as urgently as requests: {error}");
    }
    TURN_BEGAN.set(Some(clock::monotonic()));
}

/// Goes through what may be many, and offers the core to requests between them where this thread lets others go
/// first.
pub fn patiently<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    /// A look at the clock costs as much as some of the items.
    const LOOK_EVERY: u32 = 32;
    let mut count = 0_u32;
    items.into_iter().inspect(move |_| {
        count = count.wrapping_add(1);
        if count.is_multiple_of(LOOK_EVERY) {
            offer_core(clock::monotonic());
        }
    })
}

/// Offers the core to others if it was had for long; says whether it did.
fn offer_core(now: Instant) -> bool {
    let is_over = |began: Instant| now.saturating_duration_since(began) >= TURN;
    let is_offered = TURN_BEGAN.get().is_some_and(is_over);
    if is_offered {
        thread::yield_now();
        TURN_BEGAN.set(Some(clock::monotonic()));
    }
    is_offered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_offered_after_each_turn_by_those_who_let_others_go_first() {
        let now = clock::monotonic();
        assert!(!offer_core(now + 10 * TURN), "this thread goes before others");
        TURN_BEGAN.set(Some(now));
        assert!(!offer_core(now + TURN / 2));
        assert!(offer_core(now + TURN));
        // The next turn began at the offer, which is later than `now`.
        assert!(!offer_core(now + TURN));
    }

    #[test]
    fn everything_is_gone_through_in_its_order() {
        assert!(patiently(0..1000).eq(0..1000));
        assert_eq!(patiently(0..1000).size_hint(), (1000, Some(1000)));
    }
}
