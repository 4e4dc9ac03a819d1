//! The service of the Admin API: from a request to what answers it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use log::{error, warn};
use percent_encoding::percent_decode_str;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use serde_json::Value;

use super::endpoint::{Endpoint, operations};
use super::gate::{Entry, Gate};
use super::guard::{Guard, Role};
use super::intake::{self, Peer};
use super::wire::refusal::Refusal;
use super::{
    address, audit, configuration, entities, explain, forward, groups, information, listing, status,
    upstreams, write,
};
use crate::clock;
use crate::config::Problem;
use crate::config::reload::with_causes;
use crate::control::{Author, Door, RefusedError, WriteError};
use crate::entity::{Change, State as Entities};
use crate::health::Observed;
use crate::lifecycle::Lifecycle;
use crate::model::{Admin, Token};
use crate::priority::yield_to_requests;
use crate::snapshot::Published;
use crate::store::Store;

/// Bytes that a body may have.
const MAX_BODY: usize = 10 * 1024 * 1024;
/// The generation that serves what a write has made.
const GENERATION: HeaderName = HeaderName::from_static("x-serin-generation");
const LATENCY: HeaderName = HeaderName::from_static("x-kong-admin-latency");

/// Serves the Admin API.
pub struct AdminService {
    socket: Mutex<Option<TcpListener>>,
    /// What the predecessor passes on.
    forwarded: Mutex<Option<UnixStream>>,
    api: Arc<Api>,
}

/// The file of the token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read server.admin.token_file {path}; it has to hold a token of at least 16 bytes")]
pub struct TokenError {
    path: PathBuf,
    source: Option<std::io::Error>,
}

/// What answers are made of.
pub(super) struct Api {
    pub(super) door: Door,
    pub(super) store: Arc<dyn Store>,
    pub(super) published: Arc<Published>,
    pub(super) observed: Arc<Observed>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) gate: Arc<Gate>,
    guard: Guard,
    /// Hash of the last configuration that `POST /config` has put in force, and the generation it made.
    pub(super) posted: Mutex<Option<(String, u64)>>,
}

/// A request that was let in.
pub(super) struct Call {
    pub(super) method: Method,
    /// The path as it came.
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) role: Role,
    pub(super) peer: SocketAddr,
}

/// What a request comes to.
pub(super) type Answer = Result<Response, Refusal>;

impl AdminService {
    /// Serves on a socket that is bound already.
    ///
    /// # Errors
    /// When the token is to be in a file that cannot be read.
    pub fn new(
        (socket, forwarded): (TcpListener, Option<UnixStream>),
        mut settings: Admin,
        gate: Arc<Gate>,
        (door, store): (Door, Arc<dyn Store>),
        (published, observed): (Arc<Published>, Arc<Observed>),
        lifecycle: Arc<Lifecycle>,
    ) -> Result<Self, TokenError> {
        if let Some(path) = settings.token_file.clone() {
            let failed = |source| TokenError {
                path: path.clone(),
                source,
            };
            let token = std::fs::read_to_string(&path).map_err(|error| failed(Some(error)))?;
            let token = Some(token.trim()).filter(|token| token.len() >= 16);
            settings.token = Some(Token::new(token.ok_or_else(|| failed(None))?));
        }
        let api = Arc::new(Api {
            door,
            store,
            published,
            observed,
            lifecycle,
            gate,
            guard: Guard::new(settings),
            posted: Mutex::new(None),
        });
        Ok(Self {
            socket: Mutex::new(Some(socket)),
            forwarded: Mutex::new(forwarded),
            api,
        })
    }
}

#[async_trait]
impl BackgroundService for AdminService {
    async fn start(&self, _: ShutdownWatch) {
        yield_to_requests();
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(socket) = socket else { return };
        let routes = Router::new().fallback(answer).with_state(self.api.clone());
        let forwarded = self
            .forwarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        tokio::join!(
            intake::serve(socket, routes, self.api.lifecycle.clone(), "admin"),
            async {
                if let Some(stream) = forwarded {
                    forward::serve(stream, self.api.clone()).await;
                }
            }
        );
    }
}

async fn answer(
    State(api): State<Arc<Api>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    answer_to(&api, peer, request).await
}

/// Answers a request of a client at this address.
pub(super) async fn answer_to(api: &Arc<Api>, peer: SocketAddr, request: Request) -> Response {
    let begun = clock::monotonic();
    let origin = api.guard.allowed_origin(request.headers()).map(str::to_owned);
    let mut response = match admit(api, peer, request).await {
        Ok(call) => match dispatch(api, &call).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::SERVER,
        HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION"))),
    );
    if api.gate.is_elsewhere() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let elapsed = clock::monotonic().saturating_duration_since(begun).as_millis();
    headers.insert(
        LATENCY,
        HeaderValue::from(u64::try_from(elapsed).unwrap_or(u64::MAX)),
    );
    if let Some(origin) = origin.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Lets a request in and reads its body.
async fn admit(api: &Api, peer: SocketAddr, request: Request) -> Result<Call, Refusal> {
    let (parts, body) = request.into_parts();
    // A page asks with OPTIONS, without its token, whether it may ask with it.
    let is_preflight = parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && api.guard.allowed_origin(&parts.headers).is_some();
    let role = match is_preflight {
        true => Role::Reader,
        false => api.guard.admit(&parts.method, &parts.headers)?,
    };
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| Refusal::too_large())?;
    Ok(Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body,
        role,
        peer,
    })
}

async fn dispatch(api: &Arc<Api>, call: &Call) -> Answer {
    let decoded: Vec<String> = (call.path.split('/').filter(|part| !part.is_empty()))
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    // The workspace that every Kong has.
    let parts = parts.strip_prefix(&["default"]).unwrap_or(&parts);
    let endpoint = Endpoint::find(parts).ok_or_else(Refusal::not_found)?;
    let method = match &call.method {
        &Method::HEAD => "GET",
        method => method.as_str(),
    };
    if method == "OPTIONS" {
        return Ok(options(&endpoint));
    }
    if let Endpoint::Empty(name) = endpoint
        && method != "GET"
    {
        let why = format!("cannot change '{name}' entities: Serin does not have them");
        return Err(Refusal::unsupported(why));
    }
    if !endpoint.methods().contains(&method) {
        return Err(Refusal::method_not_allowed());
    }
    let needs_store = method != "GET" || matches!(endpoint, Endpoint::Audit);
    let _turn = match api.gate.enter(needs_store).await {
        Entry::Here(turn) => turn,
        Entry::Elsewhere(forward) => return forward.pass_on(call).await,
    };
    match endpoint {
        Endpoint::Information => Ok(json(information::information(api))),
        Endpoint::Status => Ok(json(information::status(api))),
        Endpoint::Endpoints => Ok(json(information::endpoints())),
        Endpoint::OpenApi => Ok(json(super::wire::openapi::document(&operations()))),
        Endpoint::Metrics => Ok(status::render_metrics(&api.published, &api.observed, &api.door)),
        Endpoint::Configuration => configuration::answer(api, call, method).await,
        Endpoint::Drift => Ok(json(configuration::drift(api))),
        Endpoint::Audit => audit::answer(api, call).await,
        Endpoint::Explain => explain::answer(api, call, method).await,
        Endpoint::Tags(tag) => listing::tags(api, call, tag),
        Endpoint::EnabledPlugins => Ok(json(information::enabled_plugins())),
        Endpoint::Schema(entity) => information::schema(entity),
        Endpoint::PluginSchema(name) => information::plugin_schema(name),
        Endpoint::Validate(entity) => entities::validate(call, information::kind_of(entity)?).await,
        Endpoint::ValidatePlugin => entities::validate(call, information::kind_of("plugins")?).await,
        Endpoint::Health(upstream) => upstreams::health(&api.published, upstream, call.query.as_deref()),
        Endpoint::Drain(upstream) => upstreams::drain(api, upstream),
        Endpoint::AllTargets(upstream) => listing::all_targets(api, call, upstream),
        Endpoint::SetHealth(upstream, target, address, is_healthy) => {
            upstreams::set_health(api, call, (upstream, target, address), is_healthy).await
        }
        Endpoint::Group(group) => groups::group(api, call, method, group).await,
        Endpoint::Members(group) => groups::members(api, call, method, group).await,
        Endpoint::Member(group, consumer) => groups::remove(api, call, consumer, group).await,
        Endpoint::GroupsOf(consumer) => groups::of_consumer(api, call, method, consumer).await,
        Endpoint::GroupOf(consumer, group) => groups::remove(api, call, consumer, group).await,
        Endpoint::Empty(_) if parts.len() > 1 => Err(Refusal::not_found()),
        Endpoint::Empty(_) => listing::empty(call),
        Endpoint::Entities(address) => entities::answer(api, call, method, address).await,
    }
}

fn options(endpoint: &Endpoint<'_>) -> Response {
    let allow = HeaderValue::try_from(endpoint.allow()).unwrap_or(HeaderValue::from_static("OPTIONS"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, allow.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    let accepted = HeaderValue::from_static("Content-Type, Authorization, Kong-Admin-Token, If-Match");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, accepted);
    response
}

impl Call {
    /// Returns the values of an argument of the query.
    pub(super) fn argument(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref().unwrap_or_default();
        let mut arguments = form_urlencoded::parse(query.as_bytes());
        arguments.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    }

    /// Says whether an argument of the query is set to something that means yes.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.argument(name)
            .is_some_and(|value| matches!(&*value, "1" | "true"))
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.headers.get(header::CONTENT_TYPE)?.to_str().ok()
    }

    pub(super) fn if_match(&self) -> Option<String> {
        Some(self.headers.get(header::IF_MATCH)?.to_str().ok()?.to_owned())
    }

    /// Returns the path without the prefix that every Kong has, for the link to the next page.
    pub(super) fn own_path(&self) -> &str {
        let path = self.path.trim_end_matches('/');
        path.strip_prefix("/default").unwrap_or(path)
    }

    /// Logs what the author of a change should know of it, as of a file.
    pub(super) fn warn(&self, warnings: &[Problem]) {
        let Author { who, what } = self.author();
        for warning in warnings {
            warn!("{what} by {who}: {warning}");
        }
    }

    fn author(&self) -> Author {
        Author {
            who: self.peer.ip().to_string(),
            what: format!("{} {}", self.method, address::told(&self.path)),
        }
    }
}

impl Api {
    /// Makes a change; returns what the plan made and the generation that serves it.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        call: &Call,
        plan: impl Fn(&Entities) -> Result<(Vec<Change>, T), Refusal> + Send + 'static,
    ) -> Result<(T, u64), Refusal> {
        let written = self.door.write(call.author(), plan).await;
        written.map_err(|error| match error {
            WriteError::Plan(refusal) => refusal,
            WriteError::Refused(refused) => match &*refused {
                RefusedError::Entity(fault) => write::refuse_unbuildable(fault),
                RefusedError::ShuttingDown => {
                    Refusal::message(StatusCode::SERVICE_UNAVAILABLE, refused.to_string())
                }
                other => {
                    let why = with_causes(other);
                    error!("a change by the Admin API was not kept: {why}");
                    write::refuse_store(&why)
                }
            },
        })
    }
}

/// Answers with a value.
pub(super) fn json(value: Value) -> Response {
    respond(StatusCode::OK, &value)
}

/// Answers with a status and a value.
pub(super) fn respond(status: StatusCode, value: &Value) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, content_type, value.to_string()).into_response()
}

/// Tells a client which generation serves what it has changed.
pub(super) fn with_generation(mut response: Response, generation: u64) -> Response {
    response
        .headers_mut()
        .insert(GENERATION, HeaderValue::from(generation));
    response
}
