//! A timer for waits that follow each other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// A timer for waits that follow each other, of which most are short.
///
/// So it is not set for each of them, but when there is none, when it would go off too late, and when it goes off before the
/// present wait is over: once in the longest wait that there may be.
#[derive(Debug, Default)]
pub struct WaitTimer(Option<Pin<Box<Sleep>>>);

impl WaitTimer {
    /// Is ready once the wait is over that lasts until `end` at most.
    pub fn poll(&mut self, end: Instant, ctx: &mut Context<'_>) -> Poll<()> {
        let end = end.into();
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        // A limit may have become shorter.
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        while timer.deadline() < end {
            ready!(timer.as_mut().poll(ctx));
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(ctx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::clock::paused::now;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns how long after the beginning of the test a wait ends that begins now.
    async fn end_of(timer: &mut WaitTimer, start: tokio::time::Instant, limit: Duration) -> Duration {
        let end = now().into_std() + limit;
        poll_fn(|ctx| timer.poll(end, ctx)).await;
        now() - start
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_end() {
        let (mut timer, start) = (WaitTimer::default(), now());
        for (after, limit, end) in [(0, 10, 10), (5, 10, 25), (0, 3, 28), (1, 60, 89)] {
            tokio::time::sleep(after * SECOND).await;
            let ended = end_of(&mut timer, start, limit * SECOND).await;
            // The runtime's timers are exact to a millisecond.
            assert!(
                ended.abs_diff(end * SECOND) < Duration::from_millis(10),
                "{ended:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_cut_short_does_not_shorten_the_next() {
        let (mut timer, start) = (WaitTimer::default(), now());
        for _ in 0..20 {
            let end = now().into_std() + 10 * SECOND;
            let wait = poll_fn(|ctx| timer.poll(end, ctx));
            let is_over = tokio::time::timeout(7 * SECOND, wait).await.is_ok();
            assert!(!is_over);
        }
        let ended = end_of(&mut timer, start, 2 * SECOND).await;
        assert!(
            ended.abs_diff(142 * SECOND) < Duration::from_millis(50),
            "{ended:?}"
        );
    }
}
