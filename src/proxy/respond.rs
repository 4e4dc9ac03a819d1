//! The answer as the client gets it: an origin's with our fields added, or one of our own.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue, LOCATION, SERVER, SET_COOKIE,
    TRANSFER_ENCODING, UPGRADE, VARY, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::accept::{Format, preferred_format};
use super::context::Context;
use super::fields::{change_response, set};
use super::forward::{PRODUCT, X_KONG_REQUEST_ID, via};
use crate::clock;

const X_KONG_UPSTREAM_LATENCY: HeaderName = HeaderName::from_static("x-kong-upstream-latency");
const X_KONG_PROXY_LATENCY: HeaderName = HeaderName::from_static("x-kong-proxy-latency");
const X_KONG_RESPONSE_LATENCY: HeaderName = HeaderName::from_static("x-kong-response-latency");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const X_SERIN_VARIANT: HeaderName = HeaderName::from_static("x-serin-variant");
/// Fields that an answer gets here at most, but for those that tell who asks how a request went.
const OWN_FIELDS: usize = 8;
/// What `Allow` says of a method that is refused whatever the Route; an origin may take fewer or others.
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Frames an origin's answer for a client of HTTP/1.0, which knows no transfer coding: the body ends with
/// the connection unless its length is known (RFC 9112 §6.1).
pub fn frame_for_client(session: &mut Session, fields: &mut HeaderMap) {
    if session.req_header().version < Version::HTTP_11 && fields.remove(TRANSFER_ENCODING).is_some() {
        session.set_keepalive(None);
    }
}

/// Adds what this hop has to say to an origin's answer.
pub fn add_own_fields(fields: &mut HeaderMap, version: Version, ctx: &mut Context) -> Result<()> {
    fields.reserve(OWN_FIELDS);
    let via = via(fields, version)?;
    set(fields, VIA, via);
    if !fields.contains_key(SERVER) {
        set(fields, SERVER, HeaderValue::from_static(PRODUCT));
    }
    let received = ctx.header_received.unwrap_or(ctx.started);
    let asked = ctx.try_started.unwrap_or(ctx.started);
    set(fields, X_KONG_UPSTREAM_LATENCY, milliseconds(received - asked));
    set(fields, X_KONG_PROXY_LATENCY, milliseconds(asked - ctx.started));
    set(fields, X_KONG_REQUEST_ID, ctx.id.header_value());
    add_what_clients_are_told(fields, ctx)
}

/// Adds cookies, and which variant served where somebody asks.
fn add_what_clients_are_told(fields: &mut HeaderMap, ctx: &mut Context) -> Result<()> {
    for cookie in [ctx.issued_cookie.take(), ctx.visitor_cookie.take()]
        .into_iter()
        .flatten()
    {
        fields.append(SET_COOKIE, cookie);
    }
    if ctx.wants_debug || ctx.snapshot.settings.variant_header && ctx.reason().is_some() {
        set(
            fields,
            X_SERIN_VARIANT,
            HeaderValue::from_static(ctx.variant.label()),
        );
    }
    if ctx.wants_debug {
        add_debug_fields(fields, ctx)?;
    }
    Ok(())
}

/// Times that need no allocation.
static SHORT_TIMES: [HeaderValue; 8] = {
    let text = HeaderValue::from_static;
    [
        text("0"),
        text("1"),
        text("2"),
        text("3"),
        text("4"),
        text("5"),
        text("6"),
        text("7"),
    ]
};

fn milliseconds(duration: Duration) -> HeaderValue {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let short = usize::try_from(milliseconds)
        .ok()
        .and_then(|at| SHORT_TIMES.get(at));
    short.cloned().unwrap_or_else(|| HeaderValue::from(milliseconds))
}

fn add_debug_fields(fields: &mut HeaderMap, ctx: &Context) -> Result<()> {
    let mut add = |name: &'static str, text: &str| -> Result<()> {
        let value = HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "a debug field")?;
        set(fields, HeaderName::from_static(name), value);
        Ok(())
    };
    add("x-serin-generation", &ctx.snapshot.generation.to_string())?;
    if let Some(route) = ctx.route() {
        add("x-serin-route", &route.label)?;
    }
    if let Some(service) = ctx.service() {
        add("x-serin-service", &service.label)?;
    }
    if let Some(reason) = ctx.reason() {
        add("x-serin-reason", reason.label())?;
    }
    if let Some(destination) = ctx.destination() {
        add("x-serin-upstream", destination.upstream.label())?;
    }
    if let Some(chosen) = &ctx.chosen {
        add("x-serin-target", &chosen.endpoint().label)?;
    }
    Ok(())
}

/// Kong's text for a status, where there is nothing more to say.
pub const fn message_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "Bad request",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Request timeout",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        417 => "Expectation failed",
        426 => "Please use HTTPS protocol",
        // nginx's 494, which it sends as 400; 431 is what RFC 6585 has for it.
        431 => "Request header or cookie too large",
        500 => "An unexpected error occurred",
        501 => "Not implemented",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        508 => "Loop detected",
        _ => "An error occurred",
    }
}

/// An answer that the gateway gives itself: Kong's statuses and texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Text for the client; the log says why.
    pub text: Text,
    /// What becomes of the connection.
    pub connection: Connection,
    /// `WWW-Authenticate`: how the client may say who it is.
    pub challenge: Option<HeaderValue>,
    /// `Upgrade`, with 426: what the client should speak instead.
    pub upgrade: &'static str,
}

/// Kong's words for a client that should come by TLS.
const BY_TLS: &str = "TLS/1.2, HTTP/1.1";

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// One sentence, with the request's id beside it.
    Message(Cow<'static, str>),
    /// Claims of a token, each with what is wrong with it.
    Claims(Vec<(&'static str, &'static str)>),
    /// The status 1 of gRPC and its message, in fields and without a body, as its clients read them.
    GrpcCancelled(&'static str),
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::GrpcCancelled(message) => f.write_str(message),
            Self::Claims(claims) => {
                for (place, (name, problem)) in claims.iter().enumerate() {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{name}: {problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<&'static str> for Text {
    fn from(message: &'static str) -> Self {
        Self::Message(Cow::Borrowed(message))
    }
}

impl From<String> for Text {
    fn from(message: String) -> Self {
        Self::Message(Cow::Owned(message))
    }
}

/// What becomes of the client's connection after an answer of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It serves the next request.
    Keep,
    /// It is closed, since the rest of the request would have to be read.
    Close,
}

impl Answer {
    /// An answer after which the connection serves on.
    pub const fn keeping(status: StatusCode, message: &'static str) -> Self {
        Self {
            status,
            text: Text::Message(Cow::Borrowed(message)),
            connection: Connection::Keep,
            challenge: None,
            upgrade: BY_TLS,
        }
    }

    /// An answer that asks for another protocol, after which the connection serves on.
    pub const fn asking_for(protocol: &'static str, message: &'static str) -> Self {
        let mut answer = Self::keeping(StatusCode::UPGRADE_REQUIRED, message);
        answer.upgrade = protocol;
        answer
    }

    /// An answer whose text is not known beforehand, after which the connection serves on.
    pub fn saying(status: StatusCode, text: impl Into<Text>) -> Self {
        Self {
            text: text.into(),
            ..Self::keeping(status, "")
        }
    }

    /// The same with a `WWW-Authenticate`.
    pub fn challenging(self, challenge: HeaderValue) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    /// An answer after which the connection is closed.
    pub const fn closing(status: StatusCode, message: &'static str) -> Self {
        Self {
            status,
            text: Text::Message(Cow::Borrowed(message)),
            connection: Connection::Close,
            challenge: None,
            upgrade: BY_TLS,
        }
    }

    /// Sends the answer.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    pub async fn send(self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        if self.connection == Connection::Keep {
            drain_short_body(session).await?;
        }
        let mut fields = HeaderMap::with_capacity(OWN_FIELDS);
        if self.status.is_redirection() {
            set(&mut fields, LOCATION, https_location(session)?);
        } else if self.status == StatusCode::UPGRADE_REQUIRED {
            // Kong also sends `Connection: Upgrade`; that field is Pingora's, which writes its own.
            set(&mut fields, UPGRADE, HeaderValue::from_static(self.upgrade));
        } else if self.status == StatusCode::METHOD_NOT_ALLOWED {
            set(&mut fields, ALLOW, ALLOWED_METHODS);
        }
        let format = preferred_format(&session.req_header().headers);
        let mut content_type = format.content_type();
        let body = match &self.text {
            Text::Message(message) => format.write(message, &ctx.id),
            Text::GrpcCancelled(message) => {
                content_type = "application/grpc";
                set(&mut fields, GRPC_STATUS, HeaderValue::from_static("1"));
                set(&mut fields, GRPC_MESSAGE, HeaderValue::from_static(message));
                String::new()
            }
            // Kong's object, claims and nothing else: the request's id is in a header field.
            Text::Claims(claims) if format == Format::Json => {
                let claims = claims
                    .iter()
                    .map(|(name, problem)| ((*name).to_owned(), (*problem).into()));
                serde_json::Value::Object(claims.collect()).to_string()
            }
            text @ Text::Claims(_) => format.write(&text.to_string(), &ctx.id),
        };
        if let Some(challenge) = self.challenge {
            set(&mut fields, WWW_AUTHENTICATE, challenge);
        }
        set(&mut fields, CONTENT_TYPE, HeaderValue::from_static(content_type));
        set(&mut fields, VARY, HeaderValue::from_static("Accept"));
        if !body.is_empty() {
            set(&mut fields, CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        set(&mut fields, SERVER, HeaderValue::from_static(PRODUCT));
        let took = clock::monotonic() - ctx.started;
        set(&mut fields, X_KONG_RESPONSE_LATENCY, milliseconds(took));
        set(&mut fields, X_KONG_REQUEST_ID, ctx.id.header_value());
        add_what_clients_are_told(&mut fields, ctx)?;
        let mut header = ResponseHeader::build_no_case(self.status, None)?;
        change_response(&mut header, |own| *own = fields);
        // An informational answer of an origin may have gone before, after which this is not so.
        session.set_close_on_response_before_downstream_finish(true);
        if self.connection == Connection::Close {
            session.set_keepalive(None);
        }
        let has_body = session.req_header().method != Method::HEAD && !body.is_empty();
        session.write_response_header(Box::new(header), !has_body).await?;
        if has_body {
            session.write_response_body(Some(Bytes::from(body)), true).await?;
        }
        Ok(())
    }
}

/// Longest body that is read and thrown away to keep a connection; a longer one costs more than a
/// new connection does.
const DRAINED_BYTES: u64 = 64 * 1024;

/// Reads what is still to come of a short body: Pingora closes a connection that is answered before.
/// A client that waits for `100 Continue` has not sent it and will not.
async fn drain_short_body(session: &mut Session) -> Result<()> {
    let headers = &session.req_header().headers;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes <= DRAINED_BYTES) && !headers.contains_key(EXPECT) {
        session
            .drain_request_body()
            .await
            .map_err(|error| error.into_down())?;
    }
    Ok(())
}

/// Where a client finds the same page over HTTPS.
fn https_location(session: &Session) -> Result<HeaderValue> {
    let request = session.req_header();
    let host = request
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{name}{path}");
    HeaderValue::from_str(&location).or_err(ErrorType::InvalidHTTPHeader, "Location cannot be written")
}
