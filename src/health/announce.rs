//! What is said of an address that has flipped: a line in the log and a count.

use log::{info, warn};

use super::probe::Outcome;
use crate::metrics::metrics;
use crate::snapshot::Upstream;

/// Logs and counts what has flipped since the last time.
pub(super) fn tell_changes(upstream: &Upstream) {
    for endpoint in &upstream.endpoints().list {
        let Some(is_healthy) = endpoint.state.untold_change() else {
            continue;
        };
        let (name, label, address) = (upstream.label(), &endpoint.label, endpoint.address);
        let why = endpoint.state.cause().words();
        let to = match is_healthy {
            true => {
                info!("upstream {name}: target {label} ({address}) is healthy: {why}");
                "healthy"
            }
            false => {
                warn!("upstream {name}: target {label} ({address}) is out: {why}");
                "unhealthy"
            }
        };
        metrics()
            .target_health_changes
            .with_label_values(&[name, label, to])
            .inc();
    }
}

/// Takes the series of an Upstream that is no longer checked out of the registry.
pub(super) fn forget_series(upstream: &Upstream) {
    let name = upstream.label();
    for outcome in Outcome::LABELS {
        let _ = metrics().health_probes.remove_label_values(&[name, outcome]);
    }
    let _ = metrics().health_probe_duration.remove_label_values(&[name]);
    for target in upstream.targets() {
        for to in ["healthy", "unhealthy"] {
            let labels = [name, &target.label(), to];
            let _ = metrics().target_health_changes.remove_label_values(&labels);
        }
    }
}
