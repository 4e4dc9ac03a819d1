//! Connections in even numbers over the workers.
//!
//! The workers' sockets share one queue, and whoever is awake first takes what is in it. Left alone, one worker
//! gets most of a burst, and keeps it for as long as connections last: four of HTTP/2 were often all on one. So
//! a worker that is ahead of another lets that one go first, for a moment; one that is kept from it by its
//! requests has had its chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a worker that is ahead leaves a connection to the others: time enough to wake up.
const PATIENCE: Duration = Duration::from_millis(1);
/// Part of its connections that a worker may be ahead by, so that many that come and go need no waiting.
const LEAD: usize = 16;

/// How many connections each worker has.
#[derive(Debug)]
pub struct Spread {
    open: Box<[AtomicUsize]>,
    taken: Notify,
}

/// The part of one worker.
#[derive(Debug, Clone)]
pub(super) struct Share {
    spread: Arc<Spread>,
    worker: usize,
}

/// A connection of a worker, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Taken(Share);

impl Spread {
    /// Begins with no connection on so many workers.
    pub fn over(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            open: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            taken: Notify::new(),
        })
    }

    /// Returns the part of a worker, by its number.
    pub(super) fn share(self: &Arc<Self>, worker: usize) -> Share {
        let spread = self.clone();
        Share { spread, worker }
    }
}

impl Share {
    /// Waits until it is this worker's turn to take a connection that is there.
    pub async fn turn(&self) {
        let caught_up = async {
            loop {
                let taken = self.spread.taken.notified();
                if !self.is_ahead() {
                    return;
                }
                taken.await;
            }
        };
        if self.is_ahead() {
            // Over or not, it goes on.
            let _ = timeout(PATIENCE, caught_up).await;
        }
    }

    /// Counts a connection that was taken.
    pub fn take(&self) -> Taken {
        self.own().fetch_add(1, Ordering::Relaxed);
        self.spread.taken.notify_waiters();
        Taken(self.clone())
    }

    fn is_ahead(&self) -> bool {
        let open = self.spread.open.iter().map(|open| open.load(Ordering::Relaxed));
        let least = open.min().unwrap_or_default();
        self.own().load(Ordering::Relaxed) > least + least / LEAD
    }

    fn own(&self) -> &AtomicUsize {
        &self.spread.open[self.worker]
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.own().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::paused::now;

    #[tokio::test(start_paused = true)]
    async fn who_is_ahead_waits_until_the_other_has_taken_one() {
        let spread = Spread::over(2);
        let (one, other) = (spread.share(0), spread.share(1));
        let start = now();
        one.turn().await;
        let first = one.take();
        let mut turn = Box::pin(one.turn());
        assert!(futures_util::poll!(&mut turn).is_pending());
        other.turn().await;
        let second = other.take();
        assert!(futures_util::poll!(&mut turn).is_ready());
        assert_eq!(now(), start);
        drop(first);
        assert!(other.is_ahead() && !one.is_ahead());
        drop(second);
        assert!(!other.is_ahead());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_one_that_does_not_come() {
        let spread = Spread::over(2);
        let share = spread.share(0);
        let _taken = share.take();
        let start = now();
        share.turn().await;
        assert!(now() - start >= PATIENCE);
    }

    #[test]
    fn with_many_the_lead_may_be_a_sixteenth() {
        let spread = Spread::over(3);
        let take = |worker, count| {
            (0..count)
                .map(|_| spread.share(worker).take())
                .collect::<Vec<_>>()
        };
        let _other = (take(1, 32), take(2, 64));
        let _own = take(0, 34);
        assert!(!spread.share(0).is_ahead());
        let _one_more = take(0, 1);
        assert!(spread.share(0).is_ahead());
    }

    #[tokio::test(start_paused = true)]
    async fn one_worker_alone_never_waits() {
        let share = Spread::over(1).share(0);
        let _taken = [share.take(), share.take()];
        let start = now();
        share.turn().await;
        assert_eq!(now(), start);
    }
}
