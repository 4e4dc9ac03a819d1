//! How many connections there may be: in all, and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pingora_core::protocols::Stream;

use crate::metrics::metrics;

/// Connections that are open, counted over all workers.
///
/// The sum is the gauge that is scraped. Those of one address are counted under a lock, taken at accept
/// and at close, and only while there is a limit for them.
#[derive(Debug, Default)]
pub struct Admission {
    by_address: Mutex<HashMap<IpAddr, usize, ahash::RandomState>>,
}

/// A connection that was let in, counted until this is dropped, also when its task panics.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    peer: Option<IpAddr>,
    /// It is counted by its address too.
    is_counted: bool,
}

impl Admission {
    /// Lets a connection in unless there are `total` already, or `per_address` of its address. One that is
    /// not let in is counted by the reason.
    pub fn admit(
        self: &Arc<Self>,
        stream: &Stream,
        total: usize,
        per_address: Option<usize>,
    ) -> Option<Admitted> {
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
        self.admit_address(peer.map(|peer| peer.ip().to_canonical()), total, per_address)
    }

    fn admit_address(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        total: usize,
        per_address: Option<usize>,
    ) -> Option<Admitted> {
        // Two workers may see the last place free at once: a limit of this size is not exact to one.
        if usize::try_from(metrics().connections.get()).is_ok_and(|open| open >= total) {
            metrics().connections_refused.with_label_values(&["total"]).inc();
            return None;
        }
        let is_counted = match (peer, per_address) {
            (Some(peer), Some(limit)) if !self.count(peer, limit) => {
                metrics().connections_refused.with_label_values(&["per_ip"]).inc();
                return None;
            }
            (Some(_), Some(_)) => true,
            _ => false,
        };
        metrics().connections.inc();
        Some(Admitted {
            admission: self.clone(),
            peer,
            is_counted,
        })
    }

    /// Counts one more connection of an address, unless it has its limit.
    fn count(&self, peer: IpAddr, limit: usize) -> bool {
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(peer).or_default();
        let has_room = *count < limit;
        *count += usize::from(has_room);
        has_room
    }
}

impl Admitted {
    /// Returns the other end, which a Unix socket has not.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        metrics().connections.dec();
        if let Some(peer) = self.peer.filter(|_| self.is_counted)
            && let Entry::Occupied(mut count) = self.admission.by_address.lock().entry(peer)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: usize = usize::MAX;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let admission = Arc::new(Admission::default());
        let admit = |last| admission.admit_address(address(last), ANY, Some(2));
        let first = admit(1).unwrap();
        let second = admit(1).unwrap();
        assert!(admit(1).is_none());
        let other = admit(2).unwrap();
        assert_eq!(other.peer(), address(2));
        drop(first);
        let third = admit(1).unwrap();
        drop((second, third, other));
        assert!(admission.by_address.lock().is_empty());
    }

    #[test]
    fn a_limit_that_comes_later_counts_those_that_come_later() {
        let admission = Arc::new(Admission::default());
        let before = admission.admit_address(address(1), ANY, None);
        let after = admission.admit_address(address(1), ANY, Some(1));
        assert!(before.is_some() && after.is_some());
        drop(before);
        assert!(admission.admit_address(address(1), ANY, Some(1)).is_none());
    }

    #[test]
    fn a_socket_without_addresses_has_the_sum_only() {
        let admission = Arc::new(Admission::default());
        let admit = || admission.admit_address(None, ANY, Some(1));
        assert!((admit(), admit()).1.is_some());
        assert!(admission.admit_address(None, 0, None).is_none());
    }
}
