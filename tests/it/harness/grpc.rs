//! An origin that speaks HTTP/2 as gRPC does: it sends back what it gets, and a status in trailers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};

use super::http2::runtime;
use super::message::Headers;
use super::{Watched, fields};

/// An origin for gRPC, without TLS.
pub struct GrpcOrigin {
    address: SocketAddr,
    seen: Arc<Watched<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<Headers>,
}

impl GrpcOrigin {
    /// Starts one on a free port; it ends with the process.
    pub fn start() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Watched::new(Seen::default()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Ok((stream, _)) = listener.accept().await {
                    shared.change(|seen| seen.connections += 1);
                    tokio::spawn(serve(stream, shared.clone()));
                }
            });
        });
        Self { address, seen }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the fields of every request so far, `:path` and `:authority` among them.
    pub fn received(&self) -> Vec<Headers> {
        self.seen.lock().requests.clone()
    }

    /// Returns how many connections were made to it.
    pub fn connections(&self) -> usize {
        self.seen.lock().connections
    }
}

async fn serve(stream: TcpStream, seen: Arc<Watched<Seen>>) -> Result<(), h2::Error> {
    let mut connection = server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let (head, body) = request.into_parts();
        seen.change(|seen| seen.requests.push(read_head(&head)));
        tokio::spawn(echo(body, respond));
    }
    Ok(())
}

fn read_head(head: &http::request::Parts) -> Headers {
    let mut all = fields(&head.headers);
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    all.push((":authority".to_owned(), authority.to_owned()));
    all.push((":path".to_owned(), head.uri.path().to_owned()));
    Headers::new(all)
}

async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc");
    let mut answer = respond.send_response(head.body(()).unwrap(), false)?;
    while let Some(message) = body.data().await {
        let message = message?;
        body.flow_control().release_capacity(message.len())?;
        if !message.is_empty() {
            answer.send_data(message, false)?;
        }
    }
    let status = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    answer.send_trailers(status)
}
