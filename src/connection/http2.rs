//! A stream of HTTP/2 that keeps to its limits and can be made to end, as [`Guarded`](super::Guarded) is for a
//! whole connection.
//!
//! Pingora reads a body from a stream of HTTP/2 without a limit, and has no hook that runs while nothing
//! comes. What it takes for a session of a protocol of its user's own can have both: so one stands here
//! before its session, and passes on all the rest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream as Messages;
use http::HeaderMap;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::v2::server::HttpSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_timeout::timeout;

use super::stream::ended;
use super::whereabouts::Whereabouts;

/// A session of HTTP/2 with what it lacks.
pub(super) struct GuardedStream {
    session: HttpSession,
    whereabouts: Arc<Whereabouts>,
    /// Longest wait for more of the request's body.
    read_timeout: Option<Duration>,
}

impl GuardedStream {
    pub fn new(session: HttpSession, whereabouts: Arc<Whereabouts>) -> Self {
        Self {
            session,
            whereabouts,
            read_timeout: None,
        }
    }
}

fn unless_ended<T>(outcome: Option<Result<T>>) -> Result<T> {
    let ended = || Error::because(ErrorType::ConnectionClosed, "on a stream of HTTP/2", ended());
    outcome.unwrap_or_else(|| Err(ended().into_down()))
}

#[async_trait]
impl CustomSession for GuardedStream {
    fn req_header(&self) -> &RequestHeader {
        self.session.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.session.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let read = self
            .whereabouts
            .unless_ending(true, self.session.read_body_bytes());
        let Some(limit) = self.read_timeout else {
            return unless_ended(read.await);
        };
        match timeout(limit, read).await {
            Ok(outcome) => unless_ended(outcome),
            Err(_) => Error::e_explain(
                ErrorType::ReadTimedout,
                format!("reading body, timeout: {limit:?}"),
            ),
        }
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.session.is_body_done() {
            let idle = self.session.read_body_or_idle(true);
            return unless_ended(self.whereabouts.unless_ending(true, idle).await);
        }
        self.read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let drain = self.session.drain_request_body();
        unless_ended(self.whereabouts.unless_ending(true, drain).await)
    }

    async fn write_response_header(&mut self, response: Box<ResponseHeader>, is_last: bool) -> Result<()> {
        self.session.write_response_header(response, is_last)
    }

    async fn write_response_header_ref(&mut self, response: &ResponseHeader, is_last: bool) -> Result<()> {
        self.session.write_response_header_ref(response, is_last)
    }

    async fn write_body(&mut self, data: Bytes, is_last: bool) -> Result<()> {
        let write = self.session.write_body(data, is_last);
        unless_ended(self.whereabouts.unless_ending(false, write).await)
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.session.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let write = self.session.response_duplex_vec(tasks);
        unless_ended(self.whereabouts.unless_ending(false, write).await)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.session.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.session.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.session.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.session.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.session.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.session.response_written()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.session.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.session.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.session.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.session.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.session.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.session.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.session.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.session.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.session.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.session.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.session.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.session.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.session.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.session.get_retry_buffer()
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
