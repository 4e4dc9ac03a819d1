//! Writes that arrive together and are made into one generation.
//!
//! Clients that write one after the other, several at a time, get their answers together and come back
//! together, but not at the same instant. Who took the first of them only would make one generation for it
//! and one for the rest, each time. So a write waits for as many as came last time, but for no more than a
//! part of what a generation costs. (PostgreSQL's `commit_delay` is the same, with a fixed time.)

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::door::{Errand, Request, Write};

/// Writes that are made into one generation at most: enough for every client that waits, and few enough
/// that one that cannot be built costs little when they are tried again one by one.
const MAX_BATCH: usize = 256;

/// Part of what the last generation cost that a write waits for others, and how long at most.
const PATIENCE: u32 = 4;
const MAX_PATIENCE: Duration = Duration::from_millis(25);

/// What was learned from the last writes.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    expected: usize,
    patience: Duration,
}

/// Writes for one generation, and what is to be done after it.
pub(super) struct Gathered {
    pub(super) writes: Vec<Write>,
    pub(super) then: Option<Errand>,
}

impl Gathering {
    /// Takes what waits behind `first`, and what comes while waiting is worth it.
    pub(super) async fn gather(&self, first: Request, queue: &mut mpsc::Receiver<Request>) -> Gathered {
        let mut is_over = pin!(sleep(self.patience));
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write(write) => writes.push(write),
                Request::Errand(errand) => {
                    let then = Some(errand);
                    return Gathered { writes, then };
                }
            }
            if writes.len() == MAX_BATCH {
                break;
            }
            next = match queue.try_recv() {
                Ok(request) => Some(request),
                Err(_) if writes.len() < self.expected => tokio::select! {
                    biased;
                    request = queue.recv() => request,
                    () = &mut is_over => None,
                },
                Err(_) => None,
            };
        }
        Gathered { writes, then: None }
    }

    /// Remembers how many writes made the last generation, and how long that took.
    pub(super) fn learn(&mut self, writes: usize, took: Duration) {
        self.expected = writes;
        self.patience = (took / PATIENCE).min(MAX_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::door::Author;
    use tokio::sync::oneshot;

    const GENERATION: Duration = Duration::from_millis(80);
    const PATIENT: Duration = Duration::from_millis(20);

    fn write() -> Request {
        let author = Author {
            who: String::new(),
            what: String::new(),
        };
        Request::Write(Write {
            author,
            plan: Box::new(|_| None),
            done: oneshot::channel().0,
        })
    }

    fn errand() -> Request {
        Request::Errand(Errand::Load(oneshot::channel().0))
    }

    fn after(writes: usize) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.learn(writes, GENERATION);
        gathering
    }

    /// Gathers while one more write comes every `distance`; returns how many were gathered and after how long.
    async fn gathered(gathering: &Gathering, distance: Duration, coming: usize) -> (usize, Duration) {
        let (sender, mut queue) = mpsc::channel(1024);
        let begun = tokio_now();
        tokio::spawn(async move {
            for _ in 0..coming {
                sleep(distance).await;
                let _ = sender.send(write()).await;
            }
            // The queue stays open for longer than anyone waits.
            sleep(Duration::from_mins(1)).await;
        });
        let gathered = gathering.gather(write(), &mut queue).await;
        assert!(gathered.then.is_none());
        (gathered.writes.len(), tokio_now() - begun)
    }

    /// Returns the time that the runtime has, which stands still but for sleeps.
    #[expect(clippy::disallowed_methods, reason = "it is not the clock")]
    fn tokio_now() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_alone_does_not_wait() {
        for gathering in [Gathering::default(), after(1)] {
            let alone = gathered(&gathering, Duration::from_millis(1), 9).await;
            assert_eq!(alone, (1, Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_last_time_are_awaited_and_no_more() {
        let distance = Duration::from_millis(1);
        assert_eq!(gathered(&after(10), distance, 50).await.0, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn writers_that_have_left_are_awaited_once() {
        let mut gathering = after(10);
        let distance = Duration::from_millis(1);
        let (count, took) = gathered(&gathering, distance, 2).await;
        assert_eq!(count, 3);
        assert!(took >= PATIENT && took < GENERATION, "{took:?}");
        gathering.learn(count, GENERATION);
        assert_eq!(gathered(&gathering, distance, 2).await.0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_wait_has_an_end() {
        let mut gathering = Gathering::default();
        gathering.learn(10, Duration::from_mins(1));
        let (count, took) = gathered(&gathering, Duration::from_secs(1), 9).await;
        assert_eq!(count, 1);
        assert!(took < 2 * MAX_PATIENCE, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_taken_without_waiting_up_to_the_most() {
        let (sender, mut queue) = mpsc::channel(1024);
        for _ in 0..300 {
            sender.send(write()).await.unwrap();
        }
        let gathered = after(1).gather(write(), &mut queue).await;
        assert_eq!((gathered.writes.len(), queue.len()), (MAX_BATCH, 45));
    }

    #[tokio::test(start_paused = true)]
    async fn an_errand_ends_the_gathering_and_comes_after_the_writes_before_it() {
        let (sender, mut queue) = mpsc::channel(1024);
        for request in [write(), errand(), write()] {
            sender.send(request).await.unwrap();
        }
        let gathered = after(10).gather(write(), &mut queue).await;
        assert!(matches!(gathered.then, Some(Errand::Load(_))));
        assert_eq!((gathered.writes.len(), queue.len()), (2, 1));
    }
}
