//! The status address: metrics, readiness, liveness. Reads only, for scrapers and orchestrators.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use prometheus::IntGaugeVec;
use serde_json::{Value, json};

use super::{intake, upstreams};
use crate::clock;
use crate::control::{Door, differences};
use crate::health::{Health, Names, Observed, UpstreamHealth, addresses_of, drain_of_all};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::metrics;
use crate::snapshot::{Published, Snapshot, Upstream};

/// Serves the status address.
pub struct StatusService {
    socket: Mutex<Option<TcpListener>>,
    state: Arc<Shown>,
}

/// What the answers are made of.
struct Shown {
    lifecycle: Arc<Lifecycle>,
    published: Arc<Published>,
    door: Door,
    observed: Arc<Observed>,
}

impl StatusService {
    /// Serves on a socket that is bound already.
    pub fn new(
        socket: TcpListener,
        lifecycle: Arc<Lifecycle>,
        published: Arc<Published>,
        door: Door,
        observed: Arc<Observed>,
    ) -> Self {
        let state = Arc::new(Shown {
            lifecycle,
            published,
            door,
            observed,
        });
        Self {
            socket: Mutex::new(Some(socket)),
            state,
        }
    }
}

#[async_trait]
impl BackgroundService for StatusService {
    async fn start(&self, _: ShutdownWatch) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(socket) = socket else { return };
        let routes = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/status", get(show_status))
            .route("/status/ready", get(show_ready))
            .route("/status/live", get(show_live))
            .route("/upstreams/{upstream}/health", get(show_health))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.state.clone());
        intake::serve(socket, routes, self.state.lifecycle.clone(), "status").await;
    }
}

async fn show_metrics(State(shown): State<Arc<Shown>>) -> Response {
    render_metrics(&shown.published, &shown.observed, &shown.door)
}

/// Answers with every metric, those included that are read off the state of things.
pub(super) fn render_metrics(published: &Published, observed: &Observed, door: &Door) -> Response {
    // Two scrapes, one on each address, must not meet between reset and reading.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    read_targets(&published.current(), observed);
    read_names(&observed.names);
    let view = door.view();
    let drifted = differences(&view.file, &view.state).len();
    metrics().drifted.set(i64::try_from(drifted).unwrap_or(i64::MAX));
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, metrics().render()).into_response()
}

/// Reads the state of every Target into its gauges. On scrape, so that requests touch no gauge and
/// Targets that are gone leave no series behind. The caller sees to it that no two
/// scrapes meet here.
fn read_targets(snapshot: &Snapshot, observed: &Observed) {
    let names = &observed.names;
    let latency = &metrics().target_latency;
    let health = &metrics().target_health;
    let now = clock::elapsed_at(clock::monotonic());
    latency.reset();
    health.reset();
    metrics().target_in_flight.reset();
    metrics().target_upgraded.reset();
    metrics().target_eligible.reset();
    metrics().drain_closed.reset();
    metrics().target_requests.reset();
    for upstream in &snapshot.upstreams {
        let name = upstream.label();
        if upstream.is_declared() {
            for target in UpstreamHealth::of(upstream).targets {
                for state in Health::ALL {
                    let labels = [name, &target.label, state.label()];
                    health
                        .with_label_values(&labels)
                        .set(i64::from(state == target.health));
                }
            }
        }
        for endpoint in &upstream.endpoints().list {
            // Of several addresses of one Target the slowest is shown.
            if let Some(average) = endpoint.state.latency().average(now) {
                let gauge = latency.with_label_values(&[name, &endpoint.label]);
                gauge.set(gauge.get().max(average));
            }
        }
        read_eligible(upstream, names);
    }
    read_loads(snapshot, observed);
}

/// Reads which Targets of an Upstream may be chosen.
fn read_eligible(upstream: &Upstream, names: &Names) {
    let eligible: HashSet<SocketAddr> = upstream
        .endpoints()
        .eligible
        .iter()
        .map(|candidate| candidate.address)
        .collect();
    for target in upstream.targets() {
        let may_be_chosen = target.weight.active().is_some()
            && addresses_of(target, names)
                .iter()
                .any(|address| eligible.contains(address));
        metrics()
            .target_eligible
            .with_label_values(&[upstream.label(), &target.label()])
            .set(i64::from(may_be_chosen));
    }
}

/// Reads what every Target serves and has served. One taken out of the configuration, alone or with its
/// Upstream, is shown until the last of its requests has ended, so that a drain can be watched; where
/// several Targets share an address, the first has its requests.
fn read_loads(snapshot: &Snapshot, observed: &Observed) {
    let metrics = metrics();
    for upstream in drain_of_all(snapshot, observed, clock::monotonic()) {
        let name = &*upstream.name;
        for target in &upstream.targets {
            let labels = [name, &*target.label];
            let add = |gauge: &IntGaugeVec, count: u64| {
                gauge
                    .with_label_values(&labels)
                    .add(i64::try_from(count).unwrap_or(i64::MAX));
            };
            add(&metrics.target_in_flight, target.in_flight);
            add(&metrics.target_upgraded, target.upgraded);
            metrics
                .target_requests
                .with_label_values(&labels)
                .inc_by(target.requests);
        }
    }
    // Kept with the state of the Upstream, so for a while after its end.
    for (key, state) in observed.registry.upstreams() {
        if state.drain_closed() > 0 {
            metrics
                .drain_closed
                .with_label_values(&[&*key.label()])
                .inc_by(state.drain_closed());
        }
    }
}

/// Reads the age of every name's answer into its gauge, likewise.
fn read_names(names: &Names) {
    let now = clock::monotonic();
    let age = &metrics().dns_age;
    age.reset();
    for (name, answered) in names.answered() {
        age.with_label_values(&[&name])
            .set(now.saturating_duration_since(answered).as_secs_f64());
    }
}

async fn show_live() -> Response {
    message(StatusCode::OK, "alive")
}

async fn show_ready(State(shown): State<Arc<Shown>>) -> Response {
    // A probe that the former process answers is about the address, which the successor serves.
    if shown.lifecycle.is_handed_over() {
        return message(StatusCode::OK, Phase::Ready.label());
    }
    match shown.lifecycle.phase() {
        Phase::Ready => message(StatusCode::OK, Phase::Ready.label()),
        phase => message(StatusCode::SERVICE_UNAVAILABLE, phase.label()),
    }
}

async fn show_status(State(shown): State<Arc<Shown>>) -> Json<Value> {
    let view = shown.door.view();
    let outcome = &view.outcome;
    let conflicts: Vec<String> = view.conflicts.iter().map(ToString::to_string).collect();
    let snapshot = shown.published.current();
    let problems: Vec<&str> = outcome.problems.lines().collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": shown.lifecycle.phase().label(),
        "generation": snapshot.generation,
        "configuration": {
            "hash": format!("{:016x}", outcome.hash),
            "services": snapshot.source.services.len(),
            "routes": snapshot.source.routes.len(),
            "upstreams": snapshot.source.upstreams.len(),
            "last_reload": {
                "successful": outcome.problems.is_empty(),
                "timestamp": outcome.at.as_secs(),
                "problems": problems,
            },
            "warnings": outcome.warnings,
            "conflicts": conflicts,
            "drifted": differences(&view.file, &view.state).len(),
            "restart_required": metrics().restart_required.get() == 1,
        },
        "server": {
            "connections_active": metrics().connections.get(),
            "connections_accepted": metrics().connections_accepted.get(),
            "requests_in_flight": metrics().in_flight.get(),
        },
    }))
}

async fn show_health(
    State(shown): State<Arc<Shown>>,
    Path(upstream): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    match upstreams::health(&shown.published, &upstream, query.as_deref()) {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not found")
}

async fn wrong_method() -> Response {
    message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "message": text }))).into_response()
}
