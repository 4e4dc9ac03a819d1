//! One stream of HTTP/2, to Pingora a session of a protocol of its user's own.
//!
//! Its own session of HTTP/2 will not do: it writes a `Date` of its own over the origin's, leaves out what
//! comes before an answer, and waits for a body without a limit, in which no hook runs.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream as Messages;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, Request, Response};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::http::v2::write_body;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_timeout::timeout;

use crate::connection::Stream;
use crate::connection::stream::ended;

/// What is kept of a request's body to be sent again, as Pingora does for its own sessions.
const RETRY_BYTES: usize = 64 * 1024;

/// Answers before the answer that are passed on, 103 for example. They queue without a limit for a client that
/// does not read, so an origin that sends no end of them is not followed.
const MAX_INFORMATIONAL: u32 = 16;

/// Fields of a connection, which HTTP/2 has not (RFC 9113 §8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request and its answer.
pub(super) struct Session {
    header: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// Takes the answer's body, once its header is sent.
    answer_body: Option<SendStream<Bytes>>,
    /// Those before the answer so far.
    informational: u32,
    /// The answer without its fields, which nobody asks for.
    answered: Option<ResponseHeader>,
    /// The answer's end is sent.
    has_ended: bool,
    body_read: usize,
    body_sent: usize,
    to_send_again: Option<FixedBuffer>,
    digest: Arc<Digest>,
    stream: Arc<Stream>,
    /// Longest wait for more of the request's body.
    read_timeout: Option<Duration>,
    /// Longest wait for a client to take more of the answer's.
    write_timeout: Option<Duration>,
    /// Longest time that what is left of the request's body may take after the answer.
    drain_timeout: Option<Duration>,
}

impl Session {
    /// Makes the session of a stream that a client has opened.
    pub fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
        stream: Arc<Stream>,
    ) -> Self {
        let (header, body) = request.into_parts();
        Self {
            header: header.into(),
            body,
            respond,
            answer_body: None,
            informational: 0,
            answered: None,
            has_ended: false,
            body_read: 0,
            body_sent: 0,
            to_send_again: None,
            digest,
            stream,
            read_timeout: None,
            write_timeout: None,
            drain_timeout: None,
        }
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let data = self.body.data().await.transpose();
        let Some(data) = data.or_err(ErrorType::ReadError, "while reading a body over HTTP/2")? else {
            return Ok(None);
        };
        self.body_read += data.len();
        if let Some(kept) = &mut self.to_send_again {
            kept.write_to_buffer(&data);
        }
        // It fails when the stream has ended, and then nobody needs the room.
        let _ = self.body.flow_control().release_capacity(data.len());
        Ok(Some(data))
    }

    /// Waits until the client gives the stream up.
    async fn idle(&mut self) -> Result<Option<Bytes>> {
        let reset = poll_fn(|ctx| match &mut self.answer_body {
            Some(body) => body.poll_reset(ctx),
            None => self.respond.poll_reset(ctx),
        });
        let reason = reset.await.or_err(ErrorType::H2Error, "while idle")?;
        Error::e_explain(
            ErrorType::H2Error,
            format!("the client gave the stream up: {reason}"),
        )
    }

    fn is_body_empty(&self) -> bool {
        let says_nothing = |length: &http::HeaderValue| length.as_bytes() == b"0";
        self.body_read == 0
            && (self.body.is_end_stream()
                || self.header.headers.get(CONTENT_LENGTH).is_some_and(says_nothing))
    }

    fn is_body_done(&self) -> bool {
        self.is_body_empty() || self.body.is_end_stream()
    }

    /// Sends a header: what comes before the answer, or the answer's. A second answer is left out.
    fn send_header(&mut self, mut header: ResponseHeader, is_last: bool) -> Result<()> {
        if self.answered.is_some() {
            return Ok(());
        }
        for name in &CONNECTION_FIELDS {
            header.remove_header(name);
        }
        let status = header.status;
        if status.is_informational() {
            if self.informational == MAX_INFORMATIONAL {
                return Ok(());
            }
            self.informational += 1;
            let sent = self.respond.send_informational(response_of(header));
            return sent.or_err(ErrorType::WriteError, "while sending what comes before an answer");
        }
        if !header.headers.contains_key(DATE) {
            header.insert_header(DATE, get_cached_date())?;
        }
        let answered = ResponseHeader::build(status, Some(0))?;
        let sent = self.respond.send_response(response_of(header), is_last);
        let body = sent.or_err(ErrorType::WriteError, "while sending an answer's header")?;
        self.answered = Some(answered);
        self.answer_body = Some(body);
        self.has_ended = is_last;
        Ok(())
    }

    async fn send_body(&mut self, data: Bytes, is_last: bool) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let Some(body) = &mut self.answer_body else {
            return Error::e_explain(ErrorType::H2Error, "a body before its header");
        };
        let count = data.len();
        let sent = write_body(body, data, is_last, self.write_timeout);
        let sent = self.stream.whereabouts.unless_ending(false, sent);
        unless_ended(sent.await).map_err(Error::into_down)?;
        self.body_sent += count;
        self.has_ended = is_last;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let Some(body) = &mut self.answer_body else {
            return Error::e_explain(ErrorType::H2Error, "trailers before their header");
        };
        body.send_trailers(trailers)
            .or_err(ErrorType::WriteError, "while sending trailers")?;
        self.has_ended = true;
        Ok(())
    }

    /// Ends the answer, if there is one and it has not ended.
    fn end(&mut self) -> Result<()> {
        if !self.has_ended
            && let Some(body) = &mut self.answer_body
        {
            body.send_data(Bytes::new(), true)
                .or_err(ErrorType::WriteError, "while ending an answer")?;
            self.has_ended = true;
        }
        Ok(())
    }

    /// Passes on what the origin sent; says whether it was the last of it.
    /// That it failed is the origin's error; any other is the client's.
    async fn pass_on(&mut self, task: HttpTask) -> Result<bool> {
        match task {
            HttpTask::Header(header, is_last) => {
                self.send_header(*header, is_last).map_err(Error::into_down)?;
                Ok(is_last)
            }
            HttpTask::Body(data, is_last) => {
                if let Some(data) = data.filter(|data| !data.is_empty()) {
                    self.send_body(data, is_last).await?;
                }
                Ok(is_last)
            }
            HttpTask::Trailer(trailers) => {
                if let Some(trailers) = trailers {
                    self.send_trailers(*trailers).map_err(Error::into_down)?;
                }
                Ok(true)
            }
            HttpTask::Done => Ok(true),
            HttpTask::Failed(error) => Err(error),
            HttpTask::UpgradedBody(..) => {
                Error::e_explain(ErrorType::InternalError, "another protocol within HTTP/2")
            }
        }
    }
}

fn response_of(header: ResponseHeader) -> Response<()> {
    Response::from_parts(Parts::from(header), ())
}

fn unless_ended<T>(outcome: Option<Result<T>>) -> Result<T> {
    let ended = || Error::because(ErrorType::ConnectionClosed, "on a stream of HTTP/2", ended());
    outcome.unwrap_or_else(|| Err(ended().into_down()))
}

/// Waits for what the client has to send, as long as `limit` and the stream allow.
async fn wait_for_client<T>(
    stream: &Stream,
    limit: Option<Duration>,
    doing: &str,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    let wait = stream.whereabouts.unless_ending(true, wait);
    let Some(limit) = limit else {
        return unless_ended(wait.await);
    };
    match timeout(limit, wait).await {
        Ok(outcome) => unless_ended(outcome),
        Err(_) => Error::e_explain(ErrorType::ReadTimedout, format!("{doing}, timeout: {limit:?}")),
    }
}

#[async_trait]
impl CustomSession for Session {
    fn req_header(&self) -> &RequestHeader {
        &self.header
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.header
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let (stream, limit) = (self.stream.clone(), self.read_timeout);
        wait_for_client(&stream, limit, "reading body", self.read_body()).await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            let stream = self.stream.clone();
            return unless_ended(stream.whereabouts.unless_ending(true, self.idle()).await);
        }
        self.read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_body_done() {
            return Ok(());
        }
        let (stream, limit) = (self.stream.clone(), self.drain_timeout);
        let drain = async {
            while self.read_body().await?.is_some() {}
            Ok(())
        };
        wait_for_client(&stream, limit, "draining body", drain).await
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, is_last: bool) -> Result<()> {
        self.send_header(*response, is_last)
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, is_last: bool) -> Result<()> {
        self.send_header(response.clone(), is_last)
    }

    async fn write_body(&mut self, data: Bytes, is_last: bool) -> Result<()> {
        self.send_body(data, is_last).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_last = false;
        for task in tasks {
            is_last |= self.pass_on(task).await?;
        }
        if is_last {
            self.end().map_err(Error::into_down)?;
        }
        Ok(is_last)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.header.method, self.header.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.answered.as_ref()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        if !self.has_ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn is_body_done(&mut self) -> bool {
        Self::is_body_done(self)
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_body_empty(&mut self) -> bool {
        Self::is_body_empty(self)
    }

    fn body_bytes_sent(&self) -> usize {
        self.body_sent
    }

    fn body_bytes_read(&self) -> usize {
        self.body_read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        http_req_header_to_wire(&self.header).unwrap_or_default().freeze()
    }

    fn enable_retry_buffering(&mut self) {
        self.to_send_again
            .get_or_insert_with(|| FixedBuffer::new(RETRY_BYTES));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.to_send_again.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        let kept = self.to_send_again.as_ref().filter(|kept| !kept.is_truncated())?;
        kept.get_buffer()
    }

    // Messages beside the exchange are for protocols that have them.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Messages<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Messages<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
