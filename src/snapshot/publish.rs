//! One atomic swap.
//!
//! Publishing is a pointer store: the next request on any thread reads the new snapshot, requests
//! under way keep theirs, and the last of those frees it.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::rotation::note_rotation;
use super::{Destination, RetryReason, Snapshot};
use crate::clock;
use crate::metrics::{STATUS_CLASSES, metrics};
use crate::model::{Reason, Variant};

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
        record_certificates(None, &snapshot);
        Self {
            current: ArcSwap::from_pointee(snapshot),
            generation: watch::Sender::new(generation),
        }
    }

    /// Returns the snapshot in force; one atomic load and a reference count.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Looks something up in the snapshot in force, without keeping it: one atomic load.
    pub fn peek<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(&self.current.load())
    }

    /// Puts a snapshot in force: when this returns, every request that begins reads it.
    pub fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        let snapshot = Arc::new(snapshot);
        let previous = self.current.swap(snapshot.clone());
        record(generation);
        record_certificates(Some(&previous), &snapshot);
        note_rotation(&previous, &snapshot, clock::monotonic());
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

/// Shows until when each certificate is valid.
fn record_certificates(previous: Option<&Snapshot>, snapshot: &Snapshot) {
    if previous.is_some_and(|previous| Arc::ptr_eq(&previous.certificates, &snapshot.certificates)) {
        return;
    }
    let gauge = &metrics().certificate_expiry;
    gauge.reset();
    let in_files = snapshot
        .source
        .settings
        .certificates
        .iter()
        .map(|files| &files.certificate);
    for certificate in snapshot.source.certificates.iter().chain(in_files) {
        // The first of two to expire is the one to be renewed.
        let expiry = certificate.pairs.iter().map(|pair| pair.expires_at()).min();
        if let Some(expiry) = expiry {
            gauge
                .with_label_values(&[&certificate.label])
                .set(expiry.as_secs_f64());
        }
    }
}

/// Takes the series of what no longer exists out of the registry, so that a proxy that is
/// reconfigured for months does not grow. A request that still runs on the old snapshot counts
/// into a child that nobody reads.
fn forget_series(old: &Snapshot, new: &Snapshot) {
    fn gone<T: std::hash::Hash + Eq>(old: impl Iterator<Item = T>, new: impl Iterator<Item = T>) -> Vec<T> {
        let new: HashSet<T> = new.collect();
        old.filter(|label| !new.contains(label)).collect()
    }
    let service_of = |route: &super::Route| {
        route
            .service
            .as_ref()
            .map_or(String::new(), |s| s.label.to_string())
    };
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
    forget_destinations(old, new);
    forget_services(old, new);
}

/// Takes out the series of Service, Upstream and variant that no longer belong together.
fn forget_destinations(old: &Snapshot, new: &Snapshot) {
    fn destinations(snapshot: &Snapshot) -> impl Iterator<Item = &Destination> {
        snapshot.routes.iter().flat_map(|route| {
            let stable = route.service.iter().map(|service| &service.stable);
            stable.chain(route.release.iter().map(|release| &release.canary))
        })
    }
    let kept: HashSet<[&str; 3]> = destinations(new).map(Destination::labels).collect();
    let variants: HashSet<[&str; 2]> = kept
        .iter()
        .map(|[service, _, variant]| [*service, *variant])
        .collect();
    let mut gone = HashSet::new();
    for destination in destinations(old).filter(|old| !kept.contains(&old.labels())) {
        destination.find_handles();
        gone.insert(destination.labels());
    }
    for [service, upstream, variant] in gone {
        for class in STATUS_CLASSES {
            let labels = [service, upstream, variant, class];
            let _ = metrics().upstream_requests.remove_label_values(&labels);
        }
        if !variants.contains(&[service, variant]) {
            let labels = [service, variant];
            let _ = metrics().request_duration.remove_label_values(&labels);
            let _ = metrics().upstream_duration.remove_label_values(&labels);
        }
    }
}

/// Takes out what is counted by Service alone, and by Service and release.
fn forget_services(old: &Snapshot, new: &Snapshot) {
    let services = |snapshot: &Snapshot| -> HashSet<Arc<str>> {
        let services = snapshot.routes.iter().filter_map(|route| route.service.as_ref());
        services.map(|service| service.label.clone()).collect()
    };
    let released = |snapshot: &Snapshot| -> HashSet<Arc<str>> {
        let routes = snapshot.routes.iter().filter(|route| route.release.is_some());
        routes
            .filter_map(|route| Some(route.service.as_ref()?.label.clone()))
            .collect()
    };
    let gone = &services(old) - &services(new);
    let unreleased = &released(old) - &released(new);
    for route in &old.routes {
        let Some(service) = &route.service else { continue };
        if gone.contains(&service.label) {
            service.find_handles();
        }
        if let Some(release) = route
            .release
            .as_ref()
            .filter(|_| unreleased.contains(&service.label))
        {
            release.find_handles();
        }
    }
    for service in gone {
        let _ = metrics().retries_denied.remove_label_values(&[&*service]);
        for reason in RetryReason::ALL {
            let labels = [&*service, reason.label()];
            let _ = metrics().retries.remove_label_values(&labels);
        }
    }
    for service in unreleased {
        for variant in Variant::ALL {
            for reason in Reason::ALL {
                let labels = [&*service, variant.label(), reason.label()];
                let _ = metrics().release_requests.remove_label_values(&labels);
            }
        }
    }
}
