//! A request on the wire, through everything between the socket and routing.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

use super::chunks::{Reading, read_chunks};
use super::is_token_byte;
use crate::connection::{Connections, Exchange, Guarded, HeadLimits, Protocol};
use crate::model::{Limits, UnderscoresInHeaders};
use crate::proxy::conformance::check_conformance;
use crate::proxy::limits::check_limits;
use crate::proxy::received::take_request;

/// Bytes of a request that is judged: below every limit.
const JUDGED_BYTES: usize = 8 * 1024;
/// Longer than any input takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that was let through.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    target: Vec<u8>,
    version: Version,
    /// In the order of names, values of one name in theirs. Without `Content-Length`.
    fields: Vec<(String, Vec<u8>)>,
    /// None where it broke off or is malformed.
    body: Option<Vec<u8>>,
}

/// However the bytes are cut, a request is let through as the same one or refused; what is let through is a request
/// to a reader by the letter of RFC 9112, with the same method, target, fields and body.
///
/// The bytes go through [`Guarded`], Pingora's parser and the checks before routing, in their order.
pub fn head(data: &[u8]) {
    if data.len() > JUDGED_BYTES {
        return;
    }
    let shown = data.escape_ascii();
    let whole = let_through(data, usize::MAX);
    let seed = data.iter().fold(7_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    for size in [1, 1 + seed % 61, 1 + seed % data.len().max(1)] {
        assert_eq!(let_through(data, size), whole, "by {size}: {shown}");
    }
    let Some(request) = whole else { return };
    match read(data) {
        Ok(expected) => assert_eq!(request, expected, "{shown}"),
        Err(why) => panic!("{why}: {shown} is let through as {request:?}"),
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
}

fn let_through(wire: &[u8], size: usize) -> Option<Request> {
    RUNTIME.with_borrow(|runtime| runtime.block_on(serve(wire, size)))
}

async fn serve(wire: &[u8], size: usize) -> Option<Request> {
    static LIST: LazyLock<Arc<Connections>> = LazyLock::new(Arc::default);
    let limits = Limits::default();
    let listed = LIST.open(Waker::noop().clone(), None);
    let pieces = Pieces {
        left: wire.to_vec().into(),
        size,
    };
    let mut guarded = Guarded::new(Box::new(pieces), listed.connection().clone(), Protocol::Http1);
    guarded.await_header(HeadLimits::new(PATIENCE, &limits));
    let mut session = Session::new_h1(Box::new(guarded));
    if !session
        .as_downstream_mut()
        .read_request()
        .await
        .is_ok_and(|is_there| is_there)
    {
        return None;
    }
    let exchange = Exchange::begin(&mut session);
    let answer = take_request(&mut session, UnderscoresInHeaders::Keep)
        .or_else(|| check_limits(session.req_header(), &limits))
        .or_else(|| check_conformance(session.req_header()));
    if answer.is_some() {
        return None;
    }
    let header = session.req_header();
    let mut fields: Vec<(String, Vec<u8>)> = header
        .headers
        .iter()
        .filter(|(name, _)| *name != CONTENT_LENGTH)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_owned()))
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    let mut request = Request {
        method: header.method.to_string(),
        target: header.raw_path().to_owned(),
        version: header.version,
        fields,
        body: None,
    };
    if let Ok(exchange) = &exchange {
        request.body = take_body(&mut session)
            .await
            .filter(|_| !exchange.is_body_malformed());
    }
    Some(request)
}

async fn take_body(session: &mut Session) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = session.as_downstream_mut().read_request_body().await.ok()? {
        body.extend_from_slice(&piece);
    }
    Some(body)
}

/// Reads a request, one rule after the other. Empty lines may come before it (RFC 9112 §2.2).
fn read(wire: &[u8]) -> Result<Request, String> {
    let mut rest = wire;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let (line, mut rest) = split_line(rest)?;
    let first = line.iter().position(|byte| *byte == b' ').ok_or("no blank")?;
    let last = line.iter().rposition(|byte| *byte == b' ').ok_or("no blank")?;
    let (method, version) = (&line[..first], &line[last + 1..]);
    let target = line.get(first + 1..last).ok_or("one blank only")?;
    if method.is_empty() || !method.iter().all(is_token_byte) {
        return Err("no method".to_owned());
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return Err("no version".to_owned()),
    };
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err("no target".to_owned());
    }
    let target = target.to_owned();
    let mut fields = Vec::new();
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        if line.is_empty() {
            break;
        }
        fields.push(read_field(line)?);
    }
    let body = read_body(version, &fields, rest)?;
    let count = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).count();
    if count("host") > 1 || count("host") == 0 && version == Version::HTTP_11 {
        return Err("not one Host".to_owned());
    }
    if version == Version::HTTP_10 {
        read_as_old(&target, &mut fields);
    }
    fields.retain(|(name, _)| name != CONTENT_LENGTH.as_str());
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(Request {
        method: String::from_utf8_lossy(method).into_owned(),
        target,
        version,
        fields,
        body,
    })
}

/// In HTTP/1.0 an absolute target may stand for the host, and nothing is to be continued (RFC 9110 §10.1.1).
fn read_as_old(target: &[u8], fields: &mut Vec<(String, Vec<u8>)>) {
    let first = fields.iter().find(|(name, _)| name == "expect");
    if first.is_some_and(|(_, value)| value.eq_ignore_ascii_case(b"100-continue")) {
        fields.retain(|(name, _)| name != "expect");
    }
    let mut parts = target.splitn(4, |byte| matches!(byte, b'/' | b'?'));
    let scheme = parts.next().unwrap_or_default();
    let authority = parts.nth(1).unwrap_or_default();
    if scheme.ends_with(b":") && fields.iter().all(|(name, _)| name != "host") {
        fields.push(("host".to_owned(), authority.to_owned()));
    }
}

/// Takes a line that ends in CRLF and has no other control character than a tab.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or("no end of a line")?;
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    match line.iter().find(|byte| b"\r\n\0".contains(byte)) {
        Some(byte) => Err(format!("byte {byte:#04x} in a line")),
        None => Ok((line, rest)),
    }
}

fn read_field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(is_token_byte) {
        return Err("no name of a field".to_owned());
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("a control character in a field".to_owned());
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |at| at + 1);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value[start..end].to_owned()))
}

/// Takes the body that the fields announce, without its framing; none where it is not all there.
fn read_body(version: Version, fields: &[(String, Vec<u8>)], rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let all = |wanted: &str| -> Vec<&[u8]> {
        let values = fields.iter().filter(|(name, _)| name == wanted);
        values.map(|(_, value)| value.as_slice()).collect()
    };
    let codings = all(TRANSFER_ENCODING.as_str());
    if !codings.is_empty() {
        let is_chunked = codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked");
        if !is_chunked || version < Version::HTTP_11 {
            return Err("a coding other than chunked".to_owned());
        }
        return Ok(match read_chunks(rest) {
            Reading::Whole(body) => Some(body),
            Reading::Incomplete | Reading::Broken => None,
        });
    }
    let mut lengths = Vec::new();
    for value in all(CONTENT_LENGTH.as_str()) {
        for item in value.split(|byte| *byte == b',') {
            let text = String::from_utf8_lossy(item.trim_ascii()).into_owned();
            let is_number = !text.is_empty() && text.chars().all(|char| char.is_ascii_digit());
            let number = text.parse::<i64>().ok().filter(|_| is_number);
            lengths.push(number.ok_or_else(|| format!("no length: {text:?}"))?);
        }
    }
    if lengths.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("two lengths".to_owned());
    }
    let length = lengths.first().map_or(Ok(0), |length| usize::try_from(*length));
    let length = length.map_err(|error| error.to_string())?;
    Ok(rest.get(..length).map(<[u8]>::to_owned))
}

/// A client's bytes, so many at a time.
#[derive(Debug)]
struct Pieces {
    left: std::collections::VecDeque<u8>,
    size: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.size.min(self.left.len()).min(buffer.remaining());
        let piece: Vec<u8> = self.left.drain(..count).collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Pieces {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Pieces {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl Ssl for Pieces {}

impl Peek for Pieces {}

impl GetTimingDigest for Pieces {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Pieces {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Pieces {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
