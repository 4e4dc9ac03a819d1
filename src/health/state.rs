//! What is known of Upstreams and their addresses beside any snapshot.
//!
//! Keyed by the Upstream and by the address, so that no reload, edit of a weight or added Target
//! resets it. Everything is an atomic that workers share; the maps are locked only while a snapshot
//! is built.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::balance::PeakEwma;
use crate::model::UpstreamKey;

/// The states of all Upstreams.
#[derive(Debug, Default)]
pub struct Registry {
    upstreams: Mutex<HashMap<UpstreamKey, Arc<UpstreamState>>>,
}

/// The state of one Upstream.
#[derive(Debug, Default)]
pub struct UpstreamState {
    first_position: AtomicU64,
    retry_position: AtomicU64,
    retries: AtomicU64,
    targets: Mutex<HashMap<SocketAddr, Arc<TargetState>>>,
}

/// The state of one address of one Upstream.
#[derive(Debug, Default)]
pub struct TargetState {
    in_flight: AtomicU32,
    latency: PeakEwma,
}

/// Counts a request as being retried while it lives.
#[derive(Debug)]
pub struct RetryPermit(Arc<UpstreamState>);

impl Registry {
    /// Returns the state of an Upstream, new when it was never seen.
    pub fn upstream(&self, key: &UpstreamKey) -> Arc<UpstreamState> {
        lock(&self.upstreams).entry(key.clone()).or_default().clone()
    }

    /// Forgets the Upstreams that `is_kept` does not name.
    pub fn retain(&self, is_kept: impl Fn(&UpstreamKey) -> bool) {
        lock(&self.upstreams).retain(|key, _| is_kept(key));
    }
}

impl UpstreamState {
    /// Takes the next position of the round robin: shared by all workers, so that shares are exact
    /// over all of them, and carried over every rebuild. Relaxed, as all counters here: numbers must
    /// be distinct, not ordered.
    pub fn next_position(&self) -> u64 {
        self.first_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the next position for retries, which have a counter of their own so that a failing
    /// Target does not skew the shares of first picks.
    pub fn next_retry_position(&self) -> u64 {
        self.retry_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets one more request be retried unless `limit` are already. Relaxed: the count is all there is
    /// to agree on, and it never exceeds the limit.
    pub fn permit_retry(self: &Arc<Self>, limit: u64) -> Option<RetryPermit> {
        let one_more = |count| (count < limit).then_some(count + 1);
        self.retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
            .then(|| RetryPermit(self.clone()))
    }

    /// Returns the state of an address, new when it was never seen.
    pub fn target(&self, address: SocketAddr) -> Arc<TargetState> {
        lock(&self.targets).entry(address).or_default().clone()
    }
}

impl TargetState {
    /// Counts a request in.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number of requests being served by this address now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns how long this address takes to answer; kept only where the algorithm asks for it.
    pub fn latency(&self) -> &PeakEwma {
        &self.latency
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No holder of these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_and_given_back() {
        let state = Arc::new(UpstreamState::default());
        let permits: Vec<_> = (0..3).map(|_| state.permit_retry(2)).collect();
        assert_eq!(
            permits.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(state.permit_retry(3).is_some(), "and given back at once");
        drop(permits);
        assert!(state.permit_retry(1).is_some());
        assert!(state.permit_retry(0).is_none());
    }
}
