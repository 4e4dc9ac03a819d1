//! A client that speaks HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::message::Headers;
use super::{HANG_LIMIT, Request, Response};

/// Bytes that the gateway may send ahead on all streams together: those of many that nobody reads.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// A connection over which many requests go at once.
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request that was sent and perhaps not answered yet.
pub struct Exchange {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

/// An answer whose header is there.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub headers: Headers,
    body: RecvStream,
}

impl Http2 {
    /// Connects in plain text, by prior knowledge.
    pub fn connect(to: SocketAddr) -> Self {
        let runtime = runtime();
        let stream = runtime
            .block_on(TcpStream::connect(to))
            .unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
        Self::on(runtime, stream)
    }

    /// Speaks over a stream that was opened on this runtime.
    pub fn on(runtime: Runtime, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut settings = h2::client::Builder::new();
        // So that a stream that nobody reads leaves room for the others.
        settings.initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = runtime.block_on(settings.handshake(stream)).unwrap();
        let connection = runtime.spawn(connection);
        Self {
            runtime,
            sender,
            connection,
        }
    }

    /// Sends a request with its whole body and reads the whole answer.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.try_exchange(request).unwrap()
    }

    /// As [`Http2::exchange`], where it may fail.
    pub fn try_exchange(&mut self, request: &Request) -> Result<Response, h2::Error> {
        let exchange = self.try_send(request)?;
        let answer = self.try_answer(exchange)?;
        self.try_read(answer)
    }

    /// Sends a GET.
    pub fn get(&mut self, target: &str) -> Response {
        self.exchange(&Request::get(target))
    }

    /// Sends a request without waiting for an answer.
    pub fn send(&mut self, request: &Request) -> Exchange {
        self.try_send(request).unwrap()
    }

    fn try_send(&mut self, request: &Request) -> Result<Exchange, h2::Error> {
        let (head, body) = request.to_http2();
        let is_whole = body.is_none();
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            std::future::poll_fn(|ctx| sender.poll_ready(ctx)).await?;
            let (response, mut stream) = sender.send_request(head, is_whole)?;
            if let Some(bytes) = body {
                stream.send_data(bytes.into(), true)?;
            }
            frames_go_out().await;
            Ok(Exchange {
                response,
                body: stream,
            })
        })
    }

    /// Waits for the header of an answer.
    pub fn answer(&mut self, exchange: Exchange) -> Answer {
        self.try_answer(exchange).unwrap()
    }

    fn try_answer(&mut self, exchange: Exchange) -> Result<Answer, h2::Error> {
        let response = self.wait(exchange.response)?;
        drop(exchange.body);
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: Headers::new(fields(&head.headers)),
            body,
        })
    }

    /// Waits for what comes before an answer; `None` once the answer is there.
    pub fn informational_to(&mut self, exchange: &mut Exchange) -> Option<(u16, Headers)> {
        let next = std::future::poll_fn(|ctx| exchange.response.poll_informational(ctx));
        let response = self.wait(next)?.unwrap();
        let headers = Headers::new(fields(response.headers()));
        Some((response.status().as_u16(), headers))
    }

    /// Begins a request whose body comes later.
    pub fn open(&mut self, request: &Request) -> Exchange {
        let (head, _) = request.to_http2();
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            std::future::poll_fn(|ctx| sender.poll_ready(ctx)).await.unwrap();
            let (response, body) = sender.send_request(head, false).unwrap();
            frames_go_out().await;
            Exchange { response, body }
        })
    }

    /// Sends a part of a request's body.
    pub fn write(&mut self, exchange: &mut Exchange, part: &str, is_last: bool) {
        let part = Bytes::copy_from_slice(part.as_bytes());
        exchange.body.send_data(part, is_last).unwrap();
        self.runtime.block_on(frames_go_out());
    }

    /// Waits for the header of an answer to a request that goes on.
    pub fn answer_to(&mut self, exchange: &mut Exchange) -> Answer {
        let (head, body) = self.wait(&mut exchange.response).unwrap().into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: Headers::new(fields(&head.headers)),
            body,
        }
    }

    /// Returns the trailers of an answer that has been read to its end.
    pub fn trailers(&mut self, answer: &mut Answer) -> Option<Headers> {
        let trailers = self.wait(answer.body.trailers()).unwrap()?;
        Some(Headers::new(fields(&trailers)))
    }

    /// Waits for the next part of an answer's body; `None` at its end.
    pub fn part(&mut self, answer: &mut Answer) -> Option<Bytes> {
        let part = self.wait(answer.body.data())?.unwrap();
        answer.body.flow_control().release_capacity(part.len()).unwrap();
        Some(part)
    }

    /// Reads until an answer breaks off and returns the reason that the gateway has given.
    pub fn break_of(&mut self, mut answer: Answer) -> Option<h2::Reason> {
        loop {
            let part = self.wait(answer.body.data()).expect("an answer that breaks off");
            match part {
                Ok(part) => answer.body.flow_control().release_capacity(part.len()).unwrap(),
                Err(error) => return error.reason().filter(|_| error.is_remote()),
            }
        }
    }

    /// Reads the rest of an answer.
    pub fn read(&mut self, answer: Answer) -> Response {
        self.try_read(answer).unwrap()
    }

    fn try_read(&mut self, mut answer: Answer) -> Result<Response, h2::Error> {
        let mut body = Vec::new();
        while let Some(part) = self.wait(answer.body.data()) {
            let part = part?;
            answer.body.flow_control().release_capacity(part.len())?;
            body.extend_from_slice(&part);
        }
        Ok(Response {
            status: answer.status,
            headers: answer.headers,
            body,
        })
    }

    /// Waits until the gateway closes the connection; says why, if it had a reason.
    pub fn wait_for_close(mut self) -> Option<h2::Reason> {
        let ended = self
            .runtime
            .block_on(async { timeout(HANG_LIMIT, &mut self.connection).await })
            .expect("the connection is closed within the limit");
        ended.unwrap().err().and_then(|error| error.reason())
    }

    /// Opens a stream and resets it at once, as often as the connection takes it.
    pub fn open_and_reset(&mut self) -> Result<(), h2::Error> {
        let exchange = self.try_send(&Request::get("/"))?;
        let Exchange { mut body, response } = exchange;
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        self.runtime.block_on(frames_go_out());
        Ok(())
    }

    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { timeout(HANG_LIMIT, what).await })
            .expect("an answer within the limit")
    }
}

/// Lets the task of the connection write what there is to be written: it runs only while the test waits.
async fn frames_go_out() {
    tokio::task::yield_now().await;
}

/// Returns fields by name, in the order of the map.
pub fn fields(map: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    map.iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

/// A runtime of one thread, as each connection has.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
