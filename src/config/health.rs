//! Kong's `healthchecks` to the model.
//!
//! Apart from the other entities, because it is the one record whose shape differs much: numbers of
//! seconds become times, 0 becomes "none", and what only some types use goes with those types.

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::build::Findings;
use super::document as written;
use crate::entity::Entity;
use crate::model::{
    ActiveChecks, HealthChecks, PassiveChecks, Probe, ProbeTls, Statuses, Threshold, Thresholds,
};

/// What a timeout of 0 means: nginx's default for a socket, which is what Kong ends up with.
const NO_TIMEOUT: Duration = Duration::from_secs(60);

/// Builds the checks of one Upstream.
pub(super) fn health_checks(
    checks: &written::HealthChecks,
    entity: &Entity,
    findings: &mut Findings,
) -> HealthChecks {
    let written::HealthChecks {
        threshold,
        active,
        passive,
    } = checks;
    let checks = HealthChecks {
        threshold: Threshold::from_percent(*threshold).unwrap_or_default(),
        active: ActiveChecks {
            probe: probe(active, entity, findings),
            timeout: seconds(active.timeout).unwrap_or(NO_TIMEOUT),
            concurrency: active.concurrency,
            healthy_interval: seconds(active.healthy.interval),
            unhealthy_interval: seconds(active.unhealthy.interval),
            statuses: statuses(&active.healthy, &active.unhealthy),
            thresholds: thresholds(&active.healthy, &active.unhealthy),
        },
        passive: PassiveChecks {
            statuses: match passive.kind.as_str() {
                "tcp" => Statuses::default(),
                _ => statuses(&passive.healthy, &passive.unhealthy),
            },
            thresholds: thresholds(&passive.healthy, &passive.unhealthy),
        },
    };
    warn_of_idle_checks(&checks, entity, findings);
    checks
}

/// Kong's thresholds are 0 by default, so that an interval alone probes for nothing.
fn warn_of_idle_checks(checks: &HealthChecks, entity: &Entity, findings: &mut Findings) {
    let active = &checks.active;
    let mut warn = |field: &str, message: &str, hint: &str| {
        let path = format!("healthchecks.active.{field}");
        findings.warn(entity, "healthchecks", path, message, hint);
    };
    if active.healthy_interval.is_some() && !active.thresholds.has_failures() {
        warn(
            "unhealthy",
            "every threshold is 0, so probes take no target out",
            "set tcp_failures, timeouts or http_failures",
        );
    }
    if active.unhealthy_interval.is_some() && active.thresholds.successes == 0 {
        warn(
            "healthy.successes",
            "the threshold is 0, so probes bring no target back",
            "set it to 1 or more",
        );
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
}

fn statuses(healthy: &written::Healthy, unhealthy: &written::Unhealthy) -> Statuses {
    Statuses {
        healthy: healthy.http_statuses.iter().copied().collect(),
        unhealthy: unhealthy.http_statuses.iter().copied().collect(),
    }
}

fn thresholds(healthy: &written::Healthy, unhealthy: &written::Unhealthy) -> Thresholds {
    Thresholds {
        successes: healthy.successes,
        http_failures: unhealthy.http_failures,
        tcp_failures: unhealthy.tcp_failures,
        timeouts: unhealthy.timeouts,
    }
}

fn probe(active: &written::ActiveChecks, entity: &Entity, findings: &mut Findings) -> Probe {
    let tls = match active.kind.as_str() {
        "http" => None,
        "https" => Some(ProbeTls {
            sni: active.https_sni.clone(),
            verify: active.https_verify_certificate,
        }),
        _ => return Probe::Tcp,
    };
    let path = PathAndQuery::try_from(active.http_path.as_str()).unwrap_or_else(|error| {
        findings.error(
            entity,
            ("healthchecks", None),
            "healthchecks.active.http_path".to_owned(),
            format!("invalid path: {error}"),
            Some("spaces and characters beyond ASCII must be percent-encoded"),
        );
        PathAndQuery::from_static("/")
    });
    Probe::Http {
        path,
        headers: headers(&active.headers, entity, findings),
        tls,
    }
}

fn headers(
    headers: &Map<String, Value>,
    entity: &Entity,
    findings: &mut Findings,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::new();
    for (name, values) in headers {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        for value in values {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => fields.push((name, value)),
                _ => findings.error(
                    entity,
                    ("healthchecks", None),
                    format!("healthchecks.active.headers.{name}"),
                    "a header field cannot hold this value",
                    Some("values are one line of visible characters"),
                ),
            }
        }
    }
    fields
}
