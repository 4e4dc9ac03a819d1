//! What the proxy says of itself, in Kong's shapes.

use serde_json::{Map, Value, json};

use super::api::{Answer, Api, json as answer};
use super::endpoint::operations;
use super::upstreams::node_id;
use super::wire::refusal::Refusal;
use super::wire::schemas::{chosen_names, chosen_schema, entity_schema};
use crate::config::schema::plugin::PLUGINS;
use crate::entity::Kind;
use crate::metrics::metrics;

/// The version of Kong whose clients this API serves: they go by it.
const KONG_VERSION: &str = "3.9.1";
/// In Kong, plugins of higher priority run first.
const PRIORITIES: [(&str, u32); 5] = [
    ("jwt", 1450),
    ("key-auth", 1250),
    ("basic-auth", 1100),
    ("acl", 950),
    ("canary", 20),
];

/// `GET /`.
pub(super) fn information(api: &Api) -> Value {
    let view = api.door.view();
    let mut enabled: Vec<&str> = Kind::named("plugins")
        .into_iter()
        .flat_map(|kind| view.state.entities(kind))
        .filter_map(|plugin| plugin.text("name"))
        .collect();
    enabled.sort_unstable();
    enabled.dedup();
    let available = PRIORITIES.map(|(name, priority)| {
        let about = json!({"version": env!("CARGO_PKG_VERSION"), "priority": priority});
        (name.to_owned(), about)
    });
    let pid = std::process::id();
    json!({
        "tagline": "Welcome to serin",
        "version": KONG_VERSION,
        "serin_version": env!("CARGO_PKG_VERSION"),
        "edition": "community",
        "hostname": hostname(),
        "node_id": node_id(),
        "lua_version": "none",
        "timers": {"running": 0, "pending": 0},
        "plugins": {
            "available_on_server": Map::from_iter(available),
            "enabled_in_cluster": enabled,
        },
        "configuration": {
            "database": "serin",
            "router_flavor": "traditional_compatible",
            "role": "traditional",
        },
        "pids": {"master": pid, "workers": [pid]},
    })
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// `GET /status`: Kong's fields, and what is in force.
pub(super) fn status(api: &Api) -> Value {
    let view = api.door.view();
    let generation = api.published.current().generation;
    let metrics = metrics();
    let (active, accepted) = (metrics.connections.get(), metrics.connections_accepted.get());
    let posted = api
        .posted
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // A hash that is still true: clients post again what something else has replaced.
    let hash = posted.as_ref().filter(|(_, made)| *made == generation);
    json!({
        "memory": {"lua_shared_dicts": {}, "workers_lua_vms": []},
        "server": {
            "connections_accepted": accepted,
            "connections_active": active,
            "connections_handled": accepted,
            "connections_reading": 0,
            "connections_writing": metrics.in_flight.get(),
            "connections_waiting": (active - metrics.in_flight.get()).max(0),
            "total_requests": metrics.total_requests(),
        },
        "database": {"reachable": true},
        "configuration_hash": hash.map_or_else(|| "0".repeat(32), |(hash, _)| hash.clone()),
        "generation": generation,
        "phase": api.lifecycle.phase().label(),
        "conflicts": view.conflicts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "drifted": crate::control::differences(&view.file, &view.state).len(),
    })
}

/// `GET /endpoints`.
pub(super) fn endpoints() -> Value {
    let paths: Vec<String> = operations().into_iter().map(|operation| operation.path).collect();
    json!({ "data": paths })
}

/// `GET /plugins/enabled`.
pub(super) fn enabled_plugins() -> Value {
    json!({ "enabled_plugins": chosen_names(&PLUGINS).collect::<Vec<_>>() })
}

/// Returns the kind that Kong's clients call so.
pub(super) fn kind_of(name: &str) -> Result<Kind, Refusal> {
    let no_such = || {
        Refusal::message(
            axum::http::StatusCode::NOT_FOUND,
            format!("No entity named '{name}'"),
        )
    };
    Kind::named(name).ok_or_else(no_such)
}

/// `GET /schemas/{entity}`.
pub(super) fn schema(name: &str) -> Answer {
    Ok(answer(entity_schema(kind_of(name)?.schema())))
}

/// `GET /schemas/plugins/{name}`.
pub(super) fn plugin_schema(name: &str) -> Answer {
    let no_such = || {
        Refusal::message(
            axum::http::StatusCode::NOT_FOUND,
            format!("No plugin named '{name}'"),
        )
    };
    chosen_schema(&PLUGINS, name).map(answer).ok_or_else(no_such)
}
