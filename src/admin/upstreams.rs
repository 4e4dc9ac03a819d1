//! The health of an Upstream's Targets, in Kong's shape.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::status::{Shown, not_found};
use crate::health::{AddressHealth, TargetHealth, UpstreamHealth, report};
use crate::model::TargetHost;
use crate::snapshot::Availability;

/// Kong's `node_id`: another after each start.
static NODE_ID: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);

/// `GET /upstreams/{name or id}/health`, and with `?balancer_health=1` that of the Upstream itself.
pub(super) async fn show_health(
    State(shown): State<Arc<Shown>>,
    Path(upstream): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(upstream) = report(&shown.published.current(), &upstream) else {
        return not_found().await;
    };
    let wants_balancer = query
        .iter()
        .flat_map(|query| query.split('&'))
        .any(|argument| matches!(argument, "balancer_health=1" | "balancer_health=true"));
    let data = match wants_balancer {
        true => balancer_health(&upstream),
        false => upstream
            .targets
            .iter()
            .map(|target| target_health(&upstream, target))
            .collect(),
    };
    Json(json!({ "data": data, "next": null, "node_id": NODE_ID.to_string() })).into_response()
}

fn target_health(upstream: &UpstreamHealth, target: &TargetHealth) -> Value {
    let host = match &target.host {
        TargetHost::Address(address) => address.to_string(),
        TargetHost::Name(name) => name.clone(),
    };
    json!({
        "id": target.id.to_string(),
        "target": target.label,
        "weight": target.node_weight,
        "upstream": { "id": upstream.id.to_string() },
        "health": target.health.label(),
        "data": {
            "host": host,
            "port": target.port,
            "dns": "A",
            "nodeWeight": target.node_weight,
            "weight": weight(target.weight),
            "addresses": target.addresses.iter().map(address_health).collect::<Value>(),
        },
    })
}

fn balancer_health(upstream: &UpstreamHealth) -> Value {
    let hosts = upstream.targets.iter().map(|target| {
        json!({
            "host": target.label,
            "port": target.port,
            "nodeWeight": target.node_weight,
            "weight": weight(target.weight),
            "addresses": target.addresses.iter().map(address_health).collect::<Value>(),
        })
    });
    let health = upstream.health.label();
    json!({
        "id": upstream.id.to_string(),
        "health": health,
        "balancer_health": health,
        "details": {
            "healthy": health != "UNHEALTHY",
            "weight": weight(upstream.weight),
            "hosts": hosts.collect::<Value>(),
        },
    })
}

fn address_health(address: &AddressHealth) -> Value {
    json!({
        "ip": address.address.ip(),
        "port": address.address.port(),
        "weight": address.weight,
        "health": address.health.label(),
    })
}

fn weight(weight: Availability) -> Value {
    json!({
        "total": weight.total,
        "available": weight.available,
        "unavailable": weight.total - weight.available,
    })
}
