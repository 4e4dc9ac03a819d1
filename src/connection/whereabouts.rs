//! Where an exchange is, and whether it is to end there.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use super::Place;

/// The exchange that everything on a connection is, when all of it is to end.
const EVERYTHING: u64 = u64::MAX;

/// Where the exchange of a connection is, or with HTTP/2 of one of its streams. Relaxed throughout: the
/// numbers are all there is to agree on, and the task reads them after the wake-up that follows them.
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// The exchange under way, by its place and its number here; 0 while there is none.
    exchange: AtomicU64,
    /// The exchange that is to end: in full, so that one which has ended by itself takes no other along.
    ending: AtomicU64,
    /// Exchanges so far.
    exchanges: AtomicU32,
    /// The task that serves them.
    task: Waker,
}

impl Whereabouts {
    /// Makes those of what this task serves; so far it is nowhere.
    pub fn new(task: Waker) -> Self {
        Self {
            exchange: AtomicU64::new(0),
            ending: AtomicU64::new(0),
            exchanges: AtomicU32::new(0),
            task,
        }
    }

    /// Says that an exchange begins at this place, and ended where it was before.
    pub fn begin(&self, place: Place) {
        let number = self.exchanges.load(Ordering::Relaxed).wrapping_add(1);
        self.exchanges.store(number, Ordering::Relaxed);
        let exchange = u64::from(place.0) << 32 | u64::from(number);
        self.exchange.store(exchange, Ordering::Relaxed);
    }

    /// Says that there is no exchange any more.
    pub fn leave(&self) {
        self.exchange.store(0, Ordering::Relaxed);
    }

    /// Returns the exchange under way, if its place is one of those.
    pub fn exchange_at(&self, is_there: impl Fn(Place) -> bool) -> Option<u64> {
        let exchange = self.exchange.load(Ordering::Relaxed);
        let place = Place((exchange >> 32) as u32);
        (exchange != 0 && is_there(place)).then_some(exchange)
    }

    /// Ends an exchange unless it has ended by itself; says whether nobody has before.
    pub fn end(&self, exchange: u64) -> bool {
        let is_first = self.ending.swap(exchange, Ordering::Relaxed) != exchange;
        self.task.wake_by_ref();
        is_first
    }

    /// Ends whatever there is, wherever it is.
    pub fn end_everything(&self) {
        self.exchange.store(EVERYTHING, Ordering::Relaxed);
        self.end(EVERYTHING);
    }

    /// Says whether the exchange under way is to end.
    pub fn is_ending(&self) -> bool {
        let ending = self.ending.load(Ordering::Relaxed);
        ending != 0 && ending == self.exchange.load(Ordering::Relaxed)
    }

    /// Waits for something, or until the exchange is to end: at once if `is_urgent`, otherwise once there is
    /// nothing left to do but to wait, so that a last answer can be given.
    pub async fn unless_ending<T>(&self, is_urgent: bool, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        std::future::poll_fn(|ctx| {
            if is_urgent && self.is_ending() {
                return Poll::Ready(None);
            }
            match what.as_mut().poll(ctx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending if self.is_ending() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: Place = Place::new(1);
    const GREEN: Place = Place::new(2);

    fn nowhere() -> Whereabouts {
        Whereabouts::new(Waker::noop().clone())
    }

    fn exchange_at(one: &Whereabouts, place: Place) -> Option<u64> {
        one.exchange_at(|there| there == place)
    }

    #[test]
    fn an_exchange_is_where_it_was_moved_to_last() {
        let exchange = nowhere();
        assert_eq!(exchange_at(&exchange, BLUE), None);
        exchange.begin(BLUE);
        assert!(exchange_at(&exchange, BLUE).is_some());
        exchange.begin(GREEN);
        assert_eq!(exchange_at(&exchange, BLUE), None);
        assert!(exchange_at(&exchange, GREEN).is_some());
        exchange.leave();
        assert_eq!(exchange_at(&exchange, GREEN), None);
    }

    #[test]
    fn an_exchange_that_ended_by_itself_takes_no_other_along() {
        let here = nowhere();
        here.begin(BLUE);
        let seen = exchange_at(&here, BLUE).unwrap();
        here.leave();
        // Also not one at the same place.
        here.begin(BLUE);
        assert!(here.end(seen));
        assert!(!here.is_ending());
        let seen = exchange_at(&here, BLUE).unwrap();
        assert!(here.end(seen));
        assert!(here.is_ending());
        assert!(!here.end(seen));
        here.begin(GREEN);
        assert!(!here.is_ending());
    }

    #[tokio::test]
    async fn what_is_ending_waits_for_nothing_but_does_what_it_can() {
        let here = nowhere();
        here.begin(BLUE);
        assert_eq!(here.unless_ending(true, async { 1 }).await, Some(1));
        here.end(exchange_at(&here, BLUE).unwrap());
        assert_eq!(here.unless_ending(true, async { 1 }).await, None);
        assert_eq!(here.unless_ending(false, async { 1 }).await, Some(1));
        let never = std::future::pending::<()>();
        assert_eq!(here.unless_ending(false, never).await, None);
    }
}
