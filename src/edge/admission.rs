//! How many connections there may be: in all, and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

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
    /// Lets a connection in unless there are `total` already; one that is not let in is counted.
    pub fn admit(self: &Arc<Self>, total: usize) -> Option<Admitted> {
        // Two workers may see the last place free at once: a limit of this size is not exact to one.
        if usize::try_from(metrics().connections.get()).is_ok_and(|open| open >= total) {
            metrics().connections_refused.with_label_values(&["total"]).inc();
            return None;
        }
        metrics().connections.inc();
        Some(Admitted {
            admission: self.clone(),
            peer: None,
            is_counted: false,
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
    /// Counts it by the address of its other end, which a Unix socket has not; says whether that one has
    /// room for it among `limit`. One that has none is counted.
    pub fn is_of(&mut self, peer: Option<IpAddr>, limit: Option<usize>) -> bool {
        self.peer = peer;
        let (Some(peer), Some(limit)) = (peer, limit) else {
            return true;
        };
        self.is_counted = self.admission.count(peer, limit);
        if !self.is_counted {
            metrics().connections_refused.with_label_values(&["per_ip"]).inc();
        }
        self.is_counted
    }

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

    fn admit(admission: &Arc<Admission>, peer: Option<IpAddr>, limit: Option<usize>) -> Option<Admitted> {
        let mut admitted = admission.admit(ANY)?;
        admitted.is_of(peer, limit).then_some(admitted)
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let admission = Arc::new(Admission::default());
        let admit = |last| admit(&admission, address(last), Some(2));
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
        let before = admit(&admission, address(1), None);
        let after = admit(&admission, address(1), Some(1));
        assert!(before.is_some() && after.is_some());
        drop(before);
        assert!(admit(&admission, address(1), Some(1)).is_none());
    }

    #[test]
    fn a_socket_without_addresses_has_the_sum_only() {
        let admission = Arc::new(Admission::default());
        let admit = || admit(&admission, None, Some(1));
        assert!((admit(), admit()).1.is_some());
        assert!(admission.admit(0).is_none());
    }
}
