//! One atomic swap.
//!
//! Publishing is a pointer store: the next request on any thread reads the new snapshot, requests
//! under way keep theirs, and the last of those frees it.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Snapshot;
use crate::clock;
use crate::metrics::{STABLE, STATUS_CLASSES, metrics};

/// The snapshot in force.
#[derive(Debug)]
pub struct Published {
    current: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl Published {
    /// Puts the first snapshot in force.
    pub fn new(snapshot: Snapshot) -> Self {
        let generation = snapshot.generation;
        record(generation);
        Self {
            current: ArcSwap::from_pointee(snapshot),
            generation: watch::Sender::new(generation),
        }
    }

    /// Returns the snapshot in force; one atomic load and a reference count.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a snapshot in force: when this returns, every request that begins reads it.
    pub fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        let snapshot = Arc::new(snapshot);
        let previous = self.current.swap(snapshot.clone());
        record(generation);
        self.generation.send_replace(generation);
        forget_series(&previous, &snapshot);
    }

    /// Returns a watch on the number in force.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

fn record(generation: u64) {
    metrics()
        .generation
        .set(i64::try_from(generation).unwrap_or(i64::MAX));
    metrics().reload_successful.set(1);
    metrics().reload_timestamp.set(clock::unix().as_secs_f64());
}

/// Takes the series of what no longer exists out of the registry, so that a proxy that is
/// reconfigured for months does not grow. A request that still runs on the old snapshot counts
/// into a child that nobody reads.
fn forget_series(old: &Snapshot, new: &Snapshot) {
    fn gone<T: std::hash::Hash + Eq>(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> Vec<T> {
        let new: HashSet<T> = new.collect();
        old.filter(|label| !new.contains(label)).collect()
    }
    let service_of = |route: &super::Route| route.service.as_ref().map_or(String::new(), |s| s.label.clone());
    let routes = |snapshot: &Snapshot| {
        snapshot
            .routes
            .iter()
            .map(|r| (service_of(r), r.label.clone()))
            .collect::<Vec<_>>()
    };
    let gone_routes: HashSet<_> = gone(routes(old).into_iter(), routes(new).into_iter())
        .into_iter()
        .collect();
    // Handles that a request under way has yet to find are found now, or it would register anew
    // what is taken out here, and nobody would ever take that out.
    for route in &old.routes {
        if gone_routes.contains(&(service_of(route), route.label.clone())) {
            for class in 0..STATUS_CLASSES.len() {
                route.requests(class);
            }
        }
    }
    for (service, route) in gone_routes {
        for class in STATUS_CLASSES {
            let _ = metrics()
                .requests
                .remove_label_values(&[&*service, &*route, class]);
        }
    }
    let services = |snapshot: &Snapshot| {
        let services = snapshot.routes.iter().filter_map(|route| route.service.as_ref());
        services
            .map(|s| (s.label.clone(), s.upstream.label().to_owned()))
            .collect::<HashSet<_>>()
    };
    let (old_services, new_services) = (services(old), services(new));
    for service in old.routes.iter().filter_map(|route| route.service.as_ref()) {
        if !new_services.contains(&(service.label.clone(), service.upstream.label().to_owned())) {
            service.find_handles();
        }
    }
    for (service, upstream) in old_services.difference(&new_services) {
        for class in STATUS_CLASSES {
            let labels = [&**service, &**upstream, STABLE, class];
            let _ = metrics().upstream_requests.remove_label_values(&labels);
        }
        if !new_services.iter().any(|(kept, _)| kept == service) {
            let _ = metrics()
                .request_duration
                .remove_label_values(&[&**service, STABLE]);
            let _ = metrics()
                .upstream_duration
                .remove_label_values(&[&**service, STABLE]);
            let _ = metrics().retries_denied.remove_label_values(&[&**service]);
            for reason in super::RetryReason::ALL {
                let _ = metrics()
                    .retries
                    .remove_label_values(&[&**service, reason.label()]);
            }
        }
    }
}
