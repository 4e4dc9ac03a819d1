//! Where requests wait while the store is another process's, and from where they are passed on when it has
//! become the one to answer.

use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::forward::Forward;

/// Lets requests of the Admin API go on, wait, or go elsewhere.
#[derive(Debug, Default)]
pub struct Gate {
    /// Held shared by what needs the store, and exclusively while that is lent.
    turns: Arc<RwLock<()>>,
    elsewhere: OnceLock<Forward>,
}

/// Holds requests up while it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held, not read")] OwnedRwLockWriteGuard<()>);

/// Where a request is answered.
pub(super) enum Entry<'g> {
    /// Here; what needs the store has a turn until it is answered.
    Here(Option<OwnedRwLockReadGuard<()>>),
    /// By the successor.
    Elsewhere(&'g Forward),
}

impl Gate {
    /// Waits until no request that needs the store is under way, and holds those up that come.
    pub async fn hold(&self) -> Hold {
        Hold(self.turns.clone().write_owned().await)
    }

    /// From now on the successor answers; also those that have waited.
    pub fn leave(&self, hold: Hold, forward: Forward) {
        let _ = self.elsewhere.set(forward);
        drop(hold);
    }

    /// Says whether the successor answers.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.get().is_some()
    }

    /// Lets a request in, after waiting if it needs the store.
    pub(super) async fn enter(&self, needs_store: bool) -> Entry<'_> {
        let turn = match needs_store && !self.is_elsewhere() {
            true => Some(self.turns.clone().read_owned().await),
            false => None,
        };
        match self.elsewhere.get() {
            Some(forward) => Entry::Elsewhere(forward),
            None => Entry::Here(turn),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::forward::forward_pair;
    use super::*;

    fn is_waiting(future: std::pin::Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn what_needs_the_store_waits_for_the_end_of_a_hold_and_the_rest_does_not() {
        let gate = Gate::default();
        let writing = gate.enter(true).await;
        let mut holding = pin!(gate.hold());
        assert!(is_waiting(holding.as_mut()), "a write is under way");
        drop(writing);
        let hold = holding.await;
        let mut write = pin!(gate.enter(true));
        assert!(is_waiting(write.as_mut()));
        assert!(matches!(gate.enter(false).await, Entry::Here(None)));
        drop(hold);
        assert!(matches!(write.await, Entry::Here(Some(_))));
    }

    #[tokio::test]
    async fn what_has_waited_goes_elsewhere_with_all_the_rest() {
        let gate = Gate::default();
        let hold = gate.hold().await;
        let mut write = pin!(gate.enter(true));
        assert!(matches!(
            write.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Pending
        ));
        let (forward, _far) = forward_pair().unwrap();
        gate.leave(hold, forward);
        assert!(matches!(write.await, Entry::Elsewhere(_)));
        assert!(matches!(gate.enter(false).await, Entry::Elsewhere(_)));
    }
}
