//! Writes that arrive together and are made into one generation.
//!
//! Making a generation takes the time of a core, and requests are not to notice. So after each there is a
//! rest, as long as it took: of whoever writes without a pause the requests feel half a core at most. What
//! comes meanwhile goes into the next generation, in which clients that write several at a time, get their
//! answers together and come back together, find each other. (PostgreSQL's `commit_delay` is for the
//! second, with a fixed time.) A write that comes later than that waits for nothing.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::door::{Errand, Request, Write};

/// Writes that are made into one generation at most: enough for every client that waits, and few enough
/// that one that cannot be built costs little when they are tried again one by one.
const MAX_BATCH: usize = 256;

/// How long the rest after a generation lasts at most.
const MAX_REST: Duration = Duration::from_millis(50);

/// The rest between generations.
#[derive(Debug)]
pub(super) struct Gathering {
    rest_end: Instant,
}

/// Writes for one generation, and what is to be done after it.
pub(super) struct Gathered {
    pub(super) writes: Vec<Write>,
    pub(super) then: Option<Errand>,
}

impl Gathering {
    /// Begins without a rest.
    pub(super) const fn new(now: Instant) -> Self {
        Self { rest_end: now }
    }

    /// Takes what waits behind `first`, and what comes until the rest is over.
    pub(super) async fn gather(&self, first: Request, queue: &mut mpsc::Receiver<Request>) -> Gathered {
        let mut is_over = pin!(sleep_until(self.rest_end.into()));
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
            next = tokio::select! {
                biased;
                request = queue.recv() => request,
                () = &mut is_over => None,
            };
        }
        Gathered { writes, then: None }
    }

    /// Begins the rest after a generation that took so long.
    pub(super) fn rest(&mut self, now: Instant, took: Duration) {
        self.rest_end = now + took.min(MAX_REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::paused::now;
    use crate::control::door::Author;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    const GENERATION: Duration = Duration::from_millis(20);

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

    /// Gathers right after a generation that took so long, while one more write comes each millisecond;
    /// returns how many were gathered and after how long.
    async fn gathered_after(took: Duration) -> (usize, Duration) {
        let mut gathering = Gathering::new(now().into_std());
        gathering.rest(now().into_std(), took);
        let (sender, mut queue) = mpsc::channel(1024);
        let begun = now();
        tokio::spawn(async move {
            while sender.send(write()).await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        let gathered = gathering.gather(write(), &mut queue).await;
        assert!(gathered.then.is_none());
        (gathered.writes.len(), now() - begun)
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_rests_as_long_as_the_last_one_took() {
        let (count, took) = gathered_after(GENERATION).await;
        assert!((20..=22).contains(&count), "{count}");
        assert!(took >= GENERATION && took < 2 * GENERATION, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_rest_has_an_end() {
        let (_, took) = gathered_after(Duration::from_mins(1)).await;
        assert!(took >= MAX_REST && took < 2 * MAX_REST, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_the_rest_does_not_wait() {
        let mut gathering = Gathering::new(now().into_std());
        gathering.rest(now().into_std(), GENERATION);
        sleep(GENERATION).await;
        let (_sender, mut queue) = mpsc::channel(1024);
        let begun = now();
        assert_eq!(gathering.gather(write(), &mut queue).await.writes.len(), 1);
        assert_eq!(now(), begun);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_taken_up_to_the_most() {
        let (sender, mut queue) = mpsc::channel(1024);
        for _ in 0..300 {
            sender.send(write()).await.unwrap();
        }
        let gathered = Gathering::new(now().into_std()).gather(write(), &mut queue).await;
        assert_eq!((gathered.writes.len(), queue.len()), (MAX_BATCH, 45));
    }

    #[tokio::test(start_paused = true)]
    async fn an_errand_ends_the_gathering_and_comes_after_the_writes_before_it() {
        let (sender, mut queue) = mpsc::channel(1024);
        for request in [write(), errand(), write()] {
            sender.send(request).await.unwrap();
        }
        let gathered = Gathering::new(now().into_std()).gather(write(), &mut queue).await;
        assert!(matches!(gathered.then, Some(Errand::Load(_))));
        assert_eq!((gathered.writes.len(), queue.len()), (2, 1));
    }
}
