//! How a request goes through, in this order: `client → received → limits → conformance → route → identify →
//! release → select → forward → respond → record`; `retry` when a try fails.
//!
//! This file is Pingora's [`ProxyHttp`]: one call per phase and the order of phases, no logic.
//! Every phase reads the one [`Snapshot`](crate::snapshot::Snapshot) that the request took when it
//! began. Where a stage ends ([`Pace::end_stage`]) the others catch up. An answer of our own that keeps the
//! connection can only be given in `request_filter` (after it, Pingora closes), so an Upstream without any
//! Target is answered there.

mod accept;
pub mod authority;
pub(crate) mod client;
pub(crate) mod conformance;
mod context;
mod cookie;
pub mod explain;
mod field_names;
mod fields;
mod forward;
mod framing;
mod hash_input;
mod hop_by_hop;
mod identify;
pub(crate) mod limits;
mod own_hops;
pub(crate) mod path;
mod peer;
mod query;
pub(crate) mod received;
mod record;
pub mod release;
mod request_id;
mod respond;
mod retry;
pub(crate) mod route;
mod select;
pub mod target;
mod upgrade;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::DATE;
use http::{StatusCode, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::clock;
use crate::connection::Exchange;
use crate::health::passive;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Counted, metrics, status_class};
use crate::model::{TargetHost, UpstreamKey};
use crate::origin::Pool;
use crate::pace::Pace;
use crate::snapshot::Published;
use context::Context;
use identify::Caller;
use request_id::RequestIds;
use respond::{Answer, Connection, Text};
use route::Unrouted;

pub use forward::PRODUCT;
pub use record::record_refusal;
pub use respond::message_of;

const NO_ROUTE: Answer = Answer::keeping(StatusCode::NOT_FOUND, "no Route matched with those values");
const NO_SERVICE: Answer = Answer::keeping(
    StatusCode::SERVICE_UNAVAILABLE,
    "no Service found with those values",
);
const NOT_GRPC: Answer = Answer::keeping(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "Non-gRPC request matched gRPC route",
);
const NOT_HTTP_2: Answer = Answer::asking_for("HTTP/2", "Please use HTTP2 protocol");
const NO_TARGET: Answer = Answer::keeping(
    StatusCode::SERVICE_UNAVAILABLE,
    "failure to get a peer from the ring-balancer",
);
const NAME_NOT_RESOLVED: Answer = Answer::keeping(StatusCode::SERVICE_UNAVAILABLE, "name resolution failed");

/// What Pingora's errors call an Upstream in which nothing is left to choose.
const NO_TARGET_LEFT: ErrorType = ErrorType::Custom("no target left");

/// The proxy of one worker.
pub struct Gateway {
    published: Arc<Published>,
    lifecycle: Arc<Lifecycle>,
    pace: Arc<Pace>,
    pool: Arc<Pool>,
    ids: RequestIds,
}

impl Gateway {
    /// Serves what `published` holds, and keeps no connection of a client's once `lifecycle` is draining;
    /// those to Targets are kept in the worker's `pool`.
    pub fn new(
        published: Arc<Published>,
        lifecycle: Arc<Lifecycle>,
        pace: Arc<Pace>,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            published,
            lifecycle,
            pace,
            pool,
            ids: RequestIds::new(),
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it, with the future it is in, several times for each request.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Self::CTX {
        let in_flight = Counted::new(&metrics().in_flight);
        Box::new(Context::new(self.published.current(), self.ids.next(), in_flight))
    }

    /// Nothing: Pingora's default is a compressor, allocated for each request and switched off.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        #[cfg(debug_assertions)]
        crate::supervise::fault(session.req_header().uri.path());
        let exchange = Exchange::begin(session);
        if session.req_header().has_case() {
            fields::change_request(session.req_header_mut(), |_| ());
        }
        forward::set_host_by_authority(session.req_header_mut())?;
        let settings = &ctx.snapshot.settings;
        if self.lifecycle.phase() == Phase::Draining {
            // Clients move elsewhere while they are still served, rather than meet a closed connection.
            session.set_keepalive(None);
        }
        let pause = limits::body_pause(session.req_header(), settings);
        session.set_read_timeout(pause);
        session.set_write_timeout(Some(settings.timeouts.body_idle));
        // What is left of a body after an answer that needed none of it.
        session.set_total_drain_timeout(Some(settings.timeouts.body_idle));
        // RFC 9110 §15.2: a client of HTTP/1.0 is sent no status of this class.
        let is_old = session.req_header().version < Version::HTTP_11;
        session.set_ignore_info_resp(is_old);
        ctx.client = client::identify_client(session, &settings.trusted_ips);
        ctx.wants_debug = ctx.client.is_trusted && session.get_header_bytes(forward::X_SERIN_DEBUG) == b"1";
        ctx.exchange = exchange.map_err(|bad| {
            let status = ErrorType::HTTPStatus(StatusCode::BAD_REQUEST.as_u16());
            Error::because(status, "while reading the body", bad).into_down()
        })?;
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        let underscores = ctx.snapshot.settings.underscores_in_headers;
        let answer = received::take_request(session, underscores)
            .or_else(|| answer_to_request(session.req_header(), ctx));
        match answer {
            Some(answer) => answer.send(session, ctx).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        self.pace.end_stage().await;
        release::choose_variant(session.req_header(), ctx);
        let Some((service, upstream)) = select::choose_target_of_variant(session.req_header(), ctx) else {
            return Error::e_explain(NO_TARGET_LEFT, "nothing is left to try");
        };
        peer::reach_target(session, &service, &upstream, &self.pool, ctx).map(Box::new)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        retry::after_failed_connect(&mut error, ctx);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        // A body that is sent again is counted again.
        ctx.body_bytes = 0;
        upgrade::forward_upgrade(session.req_header(), request);
        cookie::join_crumbs(request);
        forward::rewrite_request(session.req_header(), request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if is_last {
            ctx.exchange.end_body();
        }
        let Some(bytes) = body else { return Ok(()) };
        ctx.body_bytes += bytes.len() as u64;
        ctx.body_moved = Some(clock::monotonic());
        match limits::check_body(session.req_header(), is_last, ctx) {
            Some(status) => {
                let status = ErrorType::HTTPStatus(status.as_u16());
                Err(Error::explain(status, "body over a limit").into_down())
            }
            None => Ok(()),
        }
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        upgrade::check_switch(session.req_header(), response)?;
        framing::check_response_framing(response)?;
        if !is_final(response.status) {
            return Ok(());
        }
        let now = clock::monotonic();
        ctx.header_received = Some(now);
        ctx.upstream_status = Some(response.status.as_u16());
        if let Some(link) = &ctx.link {
            link.note_answer();
        }
        ctx.retry_permit = None;
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(chosen) = &mut ctx.chosen
        {
            chosen.upgrade();
            ctx.exchange.begin_tunnel();
            // The two may be silent as long as the Service's `read_timeout` lets them, which Kong has for it.
            session.set_read_timeout(None);
        }
        select::note_answer(response.status.as_u16(), now, ctx);
        if let (Some(destination), Some(asked)) = (ctx.destination(), ctx.try_started) {
            let status = response.status.as_u16();
            destination.requests(status_class(status)).inc();
            destination
                .upstream_duration()
                .observe((now - asked).as_secs_f64());
            if let Some(chosen) = &ctx.chosen {
                passive::observe_status(&destination.upstream, chosen.endpoint(), status, now);
            }
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        // Pingora gives a connection up when it answers before the body has come, and takes `100 Continue`,
        // which asks for the body, for such an answer.
        let is_informational = response.status.is_informational();
        session.set_close_on_response_before_downstream_finish(!is_informational);
        let (status, version) = (response.status, response.version);
        fields::change_response(response, |fields| {
            hop_by_hop::strip_hop_by_hop(fields, status);
            if is_informational {
                return Ok(());
            }
            respond::frame_for_client(session, fields);
            if let Some(date) = fields.get(DATE) {
                ctx.exchange.keep_date(date.clone());
            }
            if self.lifecycle.phase() == Phase::Draining {
                session.set_keepalive(None);
            }
            respond::add_own_fields(fields, version, ctx)
        })?;
        self.pace.end_stage().await;
        Ok(())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Self::CTX,
        is_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("target {}", peer._address));
        let is_reused = match &ctx.link {
            Some(link) => {
                link.name_timeout(&mut error);
                link.is_reused()
            }
            None => is_reused,
        };
        if limits::is_clients_pause(&error, session, ctx) {
            error = error
                .more_context("the client has stopped within its body")
                .into_down();
        }
        retry::after_failed_exchange(&mut error, session, is_reused, ctx);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        let Some(answer) = answer_to(error, ctx) else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        // The header of an answer may be out already; then all that is left is to close.
        let is_answered = session
            .response_written()
            .is_some_and(|response| is_final(response.status));
        let can_reuse_downstream = answer.connection == Connection::Keep;
        let error_code = answer.status.as_u16();
        if !is_answered {
            let _ = answer.send(session, ctx).await;
        }
        FailToProxy {
            error_code,
            can_reuse_downstream,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        self.pace.end_stage().await;
        ctx.exchange
            .end(error.is_some_and(|error| *error.esource() == ErrorSource::Downstream));
        record::record(session, error, ctx);
    }

    /// Always: the access log holds the error, and a broken Target must not flood the error log.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Self::CTX, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

/// The answers that need no origin. Here the request learns its Route.
fn answer_to_request(request: &RequestHeader, ctx: &mut Context) -> Option<Answer> {
    if let Some(answer) = limits::check_limits(request, &ctx.snapshot.settings.limits) {
        return Some(answer);
    }
    if let Some(answer) = conformance::check_conformance(request) {
        return Some(answer);
    }
    match route::find_route(request, ctx) {
        Ok(()) => identify_consumer(request, ctx).or_else(|| answer_without_target(request, ctx)),
        Err(Unrouted::NoRoute) => Some(NO_ROUTE),
        Err(Unrouted::NoService) => Some(NO_SERVICE),
        Err(Unrouted::HttpsOnly(status)) => Some(Answer::keeping(
            StatusCode::from_u16(status).unwrap_or(StatusCode::UPGRADE_REQUIRED),
            "Please use HTTPS protocol",
        )),
        Err(Unrouted::NotGrpc) => Some(NOT_GRPC),
        Err(Unrouted::NotHttp2) => Some(NOT_HTTP_2),
        Err(Unrouted::GrpcsOnly) => Some(Answer::saying(
            StatusCode::OK,
            Text::GrpcCancelled("gRPC request matched gRPCs route"),
        )),
    }
}

/// The answer where nothing may be chosen, given as long as it can keep the connection. The release is
/// decided about here only where that may matter: if some Upstream of the Service is empty.
fn answer_without_target(request: &RequestHeader, ctx: &mut Context) -> Option<Answer> {
    let is_stable_empty = ctx.service()?.stable.upstream.is_empty();
    let is_some_empty = is_stable_empty
        || ctx
            .release()
            .is_some_and(|release| release.canary.upstream.is_empty());
    if !is_some_empty {
        return None;
    }
    release::choose_variant(request, ctx);
    ctx.destination()?.upstream.is_empty().then(|| no_target(ctx))
}

/// Finds out who the client is, where the Route's plugins ask; the answer if it may not pass.
fn identify_consumer(request: &RequestHeader, ctx: &mut Context) -> Option<Answer> {
    let guard = ctx.route()?.guard.as_deref()?;
    let caller = Caller {
        request,
        consumers: &ctx.snapshot.consumers,
        now: clock::unix(),
        assumed: ctx.identity.assumed,
    };
    let (identity, answer) = identify::identify(guard, caller);
    ctx.identity = identity;
    answer
}

/// Says whether no other status follows. After 101 there is no more HTTP on the connection.
fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// What the client is told of an error; `None` when it is gone.
fn answer_to(error: &Error, ctx: &Context) -> Option<Answer> {
    let status = match (error.esource(), error.etype()) {
        // The client is there, only its time at this Target is over.
        _ if ctx.exchange.is_ending() => StatusCode::GATEWAY_TIMEOUT,
        (_, ErrorType::HTTPStatus(status)) => StatusCode::from_u16(*status).ok()?,
        (ErrorSource::Downstream, _) if ctx.exchange.is_body_malformed() => StatusCode::BAD_REQUEST,
        (_, etype) if *etype == NO_TARGET_LEFT => return Some(no_target(ctx)),
        (ErrorSource::Upstream, _) if retry::is_timeout(error) => StatusCode::GATEWAY_TIMEOUT,
        (ErrorSource::Upstream, _) => StatusCode::BAD_GATEWAY,
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => return None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => StatusCode::REQUEST_TIMEOUT,
        (ErrorSource::Downstream, _) => StatusCode::BAD_REQUEST,
        (ErrorSource::Internal | ErrorSource::Unset, _) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(Answer::closing(status, respond::message_of(status)))
}

/// Why there is no Target: nobody of an Upstream may be chosen, or a Service's host has no address.
fn no_target(ctx: &Context) -> Answer {
    match ctx.destination().map(|destination| &destination.upstream.key) {
        Some(UpstreamKey::Direct(TargetHost::Name(_), _)) => NAME_NOT_RESOLVED,
        _ => NO_TARGET,
    }
}
