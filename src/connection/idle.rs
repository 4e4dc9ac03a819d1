//! How long a connection may wait for its next request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use crate::clock;

/// A limit for waits that follow each other on one connection.
///
/// Most of them are short, so its timer is not set for each: it is set anew when it goes off before the
/// present wait is over, which is once in the longest wait that there may be.
#[derive(Debug)]
pub(super) struct Idle {
    end: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub fn new() -> Self {
        Self {
            end: clock::monotonic(),
            timer: None,
        }
    }

    /// Begins a wait.
    pub fn begin(&mut self, now: Instant, limit: Duration) {
        self.end = now + limit;
    }

    /// Is ready once the wait has lasted too long.
    pub fn poll(&mut self, ctx: &mut Context<'_>) -> Poll<()> {
        let end = self.end.into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
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
    use super::*;
    use crate::clock::paused::now;
    use std::future::poll_fn;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns how long after the beginning of the test a wait ends that begins now.
    async fn end_of(idle: &mut Idle, start: tokio::time::Instant, limit: Duration) -> Duration {
        idle.begin(now().into_std(), limit);
        poll_fn(|ctx| idle.poll(ctx)).await;
        now() - start
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_end() {
        let (mut idle, start) = (Idle::new(), now());
        for (after, limit, end) in [(0, 10, 10), (5, 10, 25), (0, 3, 28), (1, 60, 89)] {
            tokio::time::sleep(after * SECOND).await;
            let ended = end_of(&mut idle, start, limit * SECOND).await;
            // The runtime's timers are exact to a millisecond.
            assert!(
                ended.abs_diff(end * SECOND) < Duration::from_millis(10),
                "{ended:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_cut_short_does_not_shorten_the_next() {
        let (mut idle, start) = (Idle::new(), now());
        for _ in 0..20 {
            idle.begin(now().into_std(), 10 * SECOND);
            let wait = poll_fn(|ctx| idle.poll(ctx));
            let is_over = tokio::time::timeout(7 * SECOND, wait).await.is_ok();
            assert!(!is_over);
        }
        let ended = end_of(&mut idle, start, 2 * SECOND).await;
        assert!(
            ended.abs_diff(142 * SECOND) < Duration::from_millis(50),
            "{ended:?}"
        );
    }
}
