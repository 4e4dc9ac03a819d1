//! Which Targets may be chosen under a snapshot, and what one snapshot takes out that another had in.
//!
//! In rotation is an address of a Target with a weight, in an Upstream that some Route leads to: by its
//! Service or by that one's release. Health does not come into it: what is unhealthy may come back.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;

use super::difference::Difference;
use super::{Route, Snapshot, Upstream};
use crate::model::UpstreamKey;

impl Snapshot {
    /// Returns the Upstreams that some Route leads to; looks at every Route.
    pub fn routed_upstreams(&self) -> HashSet<&UpstreamKey> {
        let destinations = self.routes.iter().flat_map(|route| route.destinations());
        destinations
            .map(|destination| &destination.upstream.key)
            .collect()
    }
}

impl Upstream {
    /// Returns the addresses of all Targets with a weight, healthy or not.
    pub fn addresses(&self) -> HashSet<SocketAddr> {
        let endpoints = self.endpoints();
        endpoints.list.iter().map(|endpoint| endpoint.address).collect()
    }
}

/// Notes at each address since when it is out of rotation. What did not change is not looked at.
pub(super) fn note_rotation(difference: &Difference<'_>, now: Instant) {
    if difference.is_empty() {
        return;
    }
    let pools = |routes: &[&'_ Route]| -> HashMap<*const Upstream, Arc<Upstream>, RandomState> {
        let destinations = routes.iter().flat_map(|route| route.destinations());
        let pools = destinations.map(|destination| &destination.upstream);
        pools
            .map(|upstream| (Arc::as_ptr(upstream), upstream.clone()))
            .collect()
    };
    let [gone, came, kept] =
        [&difference.gone, &difference.came, &difference.kept].map(|routes| pools(routes));
    // Whoever leads to a pool that is another one now is another Route.
    let came_by_key: HashMap<&UpstreamKey, &Arc<Upstream>, RandomState> =
        came.values().map(|upstream| (&upstream.key, upstream)).collect();
    for (address, before) in &gone {
        if came.contains_key(address) || kept.contains_key(address) {
            continue;
        }
        match came_by_key.get(&before.key) {
            Some(upstream) => {
                // What a name stood for once may come back with its next answer. No change took it out.
                let is_fixed = upstream.names().next().is_none();
                take_out(before, &upstream.addresses(), is_fixed, now);
            }
            None => take_out(before, &HashSet::new(), true, now),
        }
    }
    for (address, upstream) in &came {
        if gone.contains_key(address) || kept.contains_key(address) {
            continue;
        }
        for endpoint in &upstream.endpoints().list {
            endpoint.state.take_in();
        }
    }
}

/// Takes out what was in rotation and is not in `kept`; with `is_all`, also what was out of it already.
fn take_out(upstream: &Upstream, kept: &HashSet<SocketAddr>, is_all: bool, now: Instant) {
    let were_in = upstream.addresses();
    for (address, state) in upstream.state().targets() {
        if kept.contains(&address) {
            continue;
        }
        if were_in.contains(&address) {
            state.take_out(now);
        } else if is_all {
            state.keep_out(now);
        }
    }
}
