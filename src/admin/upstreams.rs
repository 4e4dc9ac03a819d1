//! Upstreams as they are: the health of their Targets, in Kong's shape, and what is still under way.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use axum::http::StatusCode;
use log::info;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Answer, Api, Call, json as answer};
use super::entities::no_content;
use super::wire::refusal::Refusal;
use crate::clock;
use crate::entity::Kind;
use crate::health::{self, AddressHealth, ManualError, TargetHealth, UpstreamHealth, report, set_manual};
use crate::model::TargetHost;
use crate::snapshot::{Availability, Published};

/// Kong's `node_id`: another after each start.
pub(super) fn node_id() -> String {
    static NODE_ID: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);
    NODE_ID.to_string()
}

/// `GET /upstreams/{upstream}/health`, and with `?balancer_health=1` that of the Upstream itself.
pub(super) fn health(published: &Published, upstream: &str, query: Option<&str>) -> Answer {
    let upstream = report(&published.current(), upstream).ok_or_else(Refusal::not_found)?;
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
    Ok(answer(
        json!({ "data": data, "next": null, "node_id": node_id() }),
    ))
}

/// Sets the health of a Target, or of one of its addresses: `PUT` and `POST`
/// `/upstreams/{upstream}/targets/{target}[/{address}]/healthy` and `unhealthy`.
pub(super) async fn set_health(
    api: &Arc<Api>,
    call: &Call,
    (upstream, target, address): (&str, &str, Option<&str>),
    is_healthy: bool,
) -> Answer {
    let snapshot = api.published.current();
    let parsed = match address {
        None => None,
        Some(text) => Some(parse_address(text).ok_or_else(Refusal::not_found)?),
    };
    // A Target is known with its port, whether or not that was written.
    let label = crate::config::schema::target::with_port(target);
    let outcome = set_manual(&snapshot, &api.observed, upstream, &label, parsed, is_healthy);
    let outcome = match outcome {
        Err(ManualError::NoTarget) => {
            set_manual(&snapshot, &api.observed, upstream, target, parsed, is_healthy)
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => {
            info!("{} {}: by an operator", call.method, call.path);
            Ok(no_content())
        }
        Err(ManualError::ChecksOff) => {
            let name =
                report(&snapshot, upstream).map_or_else(|| upstream.to_owned(), |upstream| upstream.name);
            let message = format!("no healthchecker found for {name}");
            Err(Refusal::message(StatusCode::BAD_REQUEST, message))
        }
        Err(_) => Err(Refusal::not_found()),
    }
}

fn parse_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let whole = text
        .parse::<SocketAddr>()
        .map(|address| (address.ip(), Some(address.port())));
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    whole.ok().or_else(|| Some((bare.parse().ok()?, None)))
}

/// `GET /upstreams/{upstream}/drain`: what is still under way there, also when the Upstream is gone.
pub(super) fn drain(api: &Api, upstream: &str) -> Answer {
    let snapshot = api.published.current();
    let view = api.door.view();
    let named = Kind::named("upstreams").and_then(|kind| view.state.find(kind, upstream));
    let name = named.map_or_else(|| upstream.to_owned(), |entity| entity.label());
    let now = clock::monotonic();
    let report = health::drain(&snapshot, &api.observed, &name, now).ok_or_else(Refusal::not_found)?;
    let targets = report.targets.iter().map(|target| {
        json!({
            "target": target.label,
            "weight": target.weight,
            "state": target.state.label(),
            "in_flight": target.in_flight,
            "upgraded": target.upgraded,
            "requests": target.requests,
            "out_for": target.out_for.map(|time| time.as_secs_f64()),
            "is_declared": target.is_declared,
        })
    });
    Ok(answer(json!({
        "upstream": report.name,
        "generation": snapshot.generation,
        "is_drained": report.is_drained(),
        "is_declared": report.is_declared,
        "is_routed": report.is_routed,
        "in_flight": report.in_flight,
        "upgraded": report.upgraded,
        "closed": report.closed,
        "targets": targets.collect::<Value>(),
    })))
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
