//! One atomic swap.
//!
//! Publishing is a pointer store: the next request on any thread reads the new snapshot, and requests
//! under way keep theirs. No request frees one: to take ten thousand entities apart takes milliseconds, for
//! which all requests of its worker would wait. A snapshot that is no longer in force is kept until no
//! request reads it, and then freed by the thread that publishes.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::sleep;

use super::difference::Difference;
use super::rotation::note_rotation;
use super::{Destination, RetryReason, Route, Snapshot};
use crate::clock;
use crate::metrics::{STATUS_CLASSES, metrics};
use crate::model::{Reason, Variant};

/// How often it is looked whether the requests that read a former snapshot have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The snapshot in force.
#[derive(Debug)]
pub struct Published {
    current: ArcSwap<Snapshot>,
    /// Former ones that requests may still read.
    retired: Mutex<Vec<Arc<Snapshot>>>,
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
            retired: Mutex::default(),
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
        let difference = Difference::between(&previous, &snapshot);
        note_rotation(&difference, clock::monotonic());
        self.generation.send_replace(generation);
        forget_series(&difference);
        self.free_unread();
        self.retired.lock().push(previous);
    }

    /// Frees former snapshots once no request reads them, until shutdown.
    pub async fn free_retired(&self, mut shutdown: ShutdownWatch) {
        let mut generation = self.watch();
        loop {
            let is_any_left = self.free_unread();
            let look_again = async {
                match is_any_left {
                    true => sleep(LOOK_EVERY).await,
                    false => pending().await,
                }
            };
            tokio::select! {
                () = look_again => {}
                _ = generation.changed() => {}
                _ = shutdown.changed() => return,
            }
        }
    }

    /// Frees former snapshots that no request reads; says whether any are left. Nobody can begin to read one.
    fn free_unread(&self) -> bool {
        let mut retired = self.retired.lock();
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        !retired.is_empty()
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
///
/// Handles that such a request has yet to find are found now, or it would register anew what is taken out
/// here, and nobody would ever take that out.
fn forget_series(difference: &Difference<'_>) {
    forget_routes(difference);
    forget_destinations(difference);
    forget_services(difference);
}

fn forget_routes(difference: &Difference<'_>) {
    fn labels(route: &Route) -> [&str; 2] {
        let service = route.service.as_ref().map_or("", |service| &*service.label);
        [service, &route.label]
    }
    let gone = difference.gone_labels(|route| vec![labels(route)]);
    for route in difference
        .gone
        .iter()
        .filter(|route| gone.contains(&labels(route)))
    {
        for class in 0..STATUS_CLASSES.len() {
            route.requests(class);
        }
    }
    for [service, route] in gone {
        for class in STATUS_CLASSES {
            let _ = metrics().requests.remove_label_values(&[service, route, class]);
        }
    }
}

/// Takes out the series of Service, Upstream and variant that no longer belong together.
fn forget_destinations(difference: &Difference<'_>) {
    let gone = difference.gone_labels(|route| route.destinations().map(Destination::labels).collect());
    fn without_upstream(destination: &Destination) -> [&str; 2] {
        let [service, _, variant] = destination.labels();
        [service, variant]
    }
    let gone_variants = difference.gone_labels(|route| route.destinations().map(without_upstream).collect());
    let destinations = difference.gone.iter().flat_map(|route| route.destinations());
    for destination in destinations.filter(|destination| gone.contains(&destination.labels())) {
        destination.find_handles();
    }
    for [service, upstream, variant] in gone {
        for class in STATUS_CLASSES {
            let labels = [service, upstream, variant, class];
            let _ = metrics().upstream_requests.remove_label_values(&labels);
        }
    }
    for labels in gone_variants {
        let _ = metrics().request_duration.remove_label_values(&labels);
        let _ = metrics().upstream_duration.remove_label_values(&labels);
    }
}

/// Takes out what is counted by Service alone, and by Service and release.
fn forget_services(difference: &Difference<'_>) {
    fn label(route: &Route) -> Option<&str> {
        route.service.as_ref().map(|service| &*service.label)
    }
    let gone = difference.gone_labels(|route| label(route).into_iter().collect());
    let unreleased = difference.gone_labels(|route| {
        let service = label(route).filter(|_| route.release.is_some());
        service.into_iter().collect()
    });
    for route in &difference.gone {
        let Some(service) = &route.service else { continue };
        if gone.contains(&*service.label) {
            service.find_handles();
        }
        if let Some(release) = &route.release
            && unreleased.contains(&*service.label)
        {
            release.find_handles();
        }
    }
    for service in gone {
        let _ = metrics().retries_denied.remove_label_values(&[service]);
        for reason in RetryReason::ALL {
            let _ = metrics().retries.remove_label_values(&[service, reason.label()]);
        }
    }
    for service in unreleased {
        for variant in Variant::ALL {
            for reason in Reason::ALL {
                let labels = [service, variant.label(), reason.label()];
                let _ = metrics().release_requests.remove_label_values(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_snapshot_is_freed_after_its_last_request_and_not_by_it() {
        let published = Published::new(Snapshot::empty(1));
        let request = published.current();
        let first = Arc::downgrade(&request);
        published.publish(Snapshot::empty(2));
        assert!(published.free_unread());
        drop(request);
        assert!(first.upgrade().is_some());
        assert!(!published.free_unread());
        assert!(first.upgrade().is_none());
    }

    #[test]
    fn publishing_frees_what_nobody_reads() {
        let published = Published::new(Snapshot::empty(1));
        for generation in 2..10 {
            published.publish(Snapshot::empty(generation));
            assert_eq!(published.retired.lock().len(), 1);
        }
    }
}
