//! Requests that one process has read and its successor answers.
//!
//! They go over a pair of connected sockets, one end of which is handed over with the listening sockets, in
//! HTTP, one after the other. Nobody else can write to it, so the address of the client that comes with a
//! request is believed; over the Admin address it could not be.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use axum::{Router, serve as serve_routes};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use log::warn;
use tokio::sync::Mutex;

use super::api::{Answer, Api, Call, answer_to};
use super::wire::refusal::Refusal;

/// The client's address, in requests that are passed on.
const PEER: HeaderName = HeaderName::from_static("x-serin-peer");

/// Passes requests on to the successor.
#[derive(Debug)]
pub struct Forward(Mutex<Sender>);

#[derive(Debug)]
enum Sender {
    /// Nothing has been sent yet.
    Idle(Option<UnixStream>),
    Connected(SendRequest<Body>),
}

/// Makes what passes requests on, and the end of it for the successor.
///
/// # Errors
/// When no descriptor is left.
pub fn forward_pair() -> std::io::Result<(Forward, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((Forward(Mutex::new(Sender::Idle(Some(near)))), far))
}

impl Forward {
    /// Returns the successor's answer.
    pub(super) async fn pass_on(&self, call: &Call) -> Answer {
        self.exchange(call).await.map_err(|error| {
            warn!("cannot pass {} {} on: {error}", call.method, call.own_path());
            let why = "another process has taken over and does not answer; try again";
            Refusal::message(StatusCode::SERVICE_UNAVAILABLE, why)
        })
    }

    async fn exchange(&self, call: &Call) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::new(Body::from(call.body.clone()));
        *request.method_mut() = call.method.clone();
        let path = match &call.query {
            Some(query) => format!("{}?{query}", call.path),
            None => call.path.clone(),
        };
        *request.uri_mut() = Uri::from(PathAndQuery::try_from(path)?);
        *request.headers_mut() = of_message(call.headers.clone());
        let peer = HeaderValue::try_from(call.peer.to_string())?;
        request.headers_mut().insert(PEER, peer);
        // One at a time, up to the end of the answer.
        let mut sender = self.0.lock().await;
        if let Sender::Idle(stream) = &mut *sender {
            let stream = stream.take().ok_or("it is gone")?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            let (connected, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            *sender = Sender::Connected(connected);
        }
        let Sender::Connected(connected) = &mut *sender else {
            return Err("it is gone".into());
        };
        connected.ready().await?;
        let (mut parts, body) = connected.send_request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await?;
        parts.headers = of_message(parts.headers);
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

/// Leaves out what is about a connection and not about a message.
fn of_message(mut headers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::EXPECT,
    ] {
        headers.remove(name);
    }
    headers
}

/// Answers what the predecessor passes on, until that ends.
pub(super) async fn serve(stream: UnixStream, api: Arc<Api>) {
    let routes = Router::new().fallback(answer).with_state(api);
    let served = match tokio::net::UnixStream::from_std(stream) {
        Ok(stream) => serve_routes(Once(Some(stream)), routes).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        warn!("cannot answer what the former process passes on: {error}");
    }
}

async fn answer(State(api): State<Arc<Api>>, mut request: Request) -> Response {
    let peer = request.headers_mut().remove(PEER);
    let peer = peer.and_then(|peer| peer.to_str().ok()?.parse().ok());
    // The predecessor always says whom it is for.
    let peer = peer.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    answer_to(&api, peer, request).await
}

/// A listener of the one connection that there is.
struct Once(Option<tokio::net::UnixStream>);

impl axum::serve::Listener for Once {
    type Io = tokio::net::UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (tokio::net::UnixStream, ()) {
        match self.0.take() {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}
