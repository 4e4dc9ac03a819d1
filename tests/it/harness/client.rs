//! A client that writes bytes and reads what comes back.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Socket, Type};

use super::HANG_LIMIT;
use super::message::{Head, Headers, read_chunk, read_response_body};

/// A connection to the gateway, kept alive.
pub struct Client {
    reader: BufReader<TcpStream>,
}

/// A client that goes on: it keeps its connection as long as the gateway does, and then opens another.
pub struct PersistentClient {
    to: SocketAddr,
    client: Option<Client>,
}

/// A request to be written.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A response with its whole body.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub headers: Headers,
    /// Body, without its framing.
    pub body: Vec<u8>,
}

impl Request {
    /// Makes a request without a body for host `shop.example`.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "shop.example".to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Makes a GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Makes a POST with a body of known length.
    pub fn post(target: &str, body: &str) -> Self {
        Self::new("POST", target).body(body)
    }

    /// Gives it a body of known length.
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self
    }

    /// Sets the Host field.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Adds a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the header of the request as HTTP/2 has it, and its body.
    pub fn to_http2(&self) -> (http::Request<()>, Option<Vec<u8>>) {
        let uri = format!("http://{}{}", self.host, self.target);
        let mut head = http::Request::builder().method(&*self.method).uri(uri);
        for (name, value) in &self.headers {
            head = head.header(name, value);
        }
        (head.body(()).unwrap(), self.body.clone())
    }

    /// Returns the request as it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

impl Response {
    /// Returns a field, which must not occur twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.headers.all(name);
        assert!(all.len() <= 1, "{name} more than once: {all:?}");
        all.first().copied()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Insists on the answer to what never became a request: as an answer of the gateway's own, without
    /// what only a request has.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, message: &str) {
        self.assert_message(status, message);
        assert_eq!(self.header("Connection"), Some("close"));
        assert!(self.header("Date").is_some_and(|date| date.ends_with(" GMT")));
    }

    /// Insists on an answer of the gateway's own: status, and Kong's body with this message.
    #[track_caller]
    pub fn assert_own_answer(&self, status: u16, message: &str) {
        self.assert_message(status, message);
        let latency = self.header("X-Kong-Response-Latency").unwrap_or_default();
        assert!(latency.parse::<u64>().is_ok(), "{latency}");
        assert_eq!(self.header("Via"), None);
    }

    #[track_caller]
    fn assert_message(&self, status: u16, message: &str) {
        let id = self.header("X-Kong-Request-Id").unwrap_or_default();
        assert!(is_request_id(id), "{id}");
        let expected = format!("{{\"message\":\"{message}\",\"request_id\":\"{id}\"}}");
        assert_eq!((self.status, self.text()), (status, expected));
        assert_eq!(
            self.header("Content-Type"),
            Some("application/json; charset=utf-8")
        );
        assert!(
            self.header("Server")
                .is_some_and(|server| server.starts_with("serin/")),
            "{:?}",
            self.headers
        );
    }
}

/// Says whether a text is 32 hexadecimal digits in lower case.
pub fn is_request_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl PersistentClient {
    /// Makes a client that connects with its first request.
    pub fn new(to: SocketAddr) -> Self {
        Self { to, client: None }
    }

    /// Sends a request and reads the response.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.try_exchange(request)
            .unwrap_or_else(|error| panic!("no response to {request:?}: {error}"))
    }

    /// Sends a request and reads the response; an error when the connection is closed before its end.
    pub fn try_exchange(&mut self, request: &Request) -> io::Result<Response> {
        let mut client = self.client.take().unwrap_or_else(|| Client::connect(self.to));
        let response = client.try_exchange(request)?;
        if response.header("Connection") != Some("close") {
            self.client = Some(client);
        }
        Ok(response)
    }
}

impl Client {
    /// Connects from whatever address the system chooses.
    pub fn connect(to: SocketAddr) -> Self {
        Self::on(TcpStream::connect(to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}")))
    }

    /// Connects from an address: any of 127.0.0.0/8 will do.
    pub fn connect_from(from: impl Into<IpAddr>, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from.into(), 0).into()).unwrap();
        socket
            .connect(&to.into())
            .unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"));
        Self::on(TcpStream::from(socket))
    }

    /// Connects to a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        // Only what all sockets can do is done with it from here on.
        Self::with_limits(TcpStream::from(OwnedFd::from(stream)))
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::with_limits(stream)
    }

    fn with_limits(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        stream.set_write_timeout(Some(HANG_LIMIT)).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// Says whether something has come that was not read so far.
    pub fn has_input(&self) -> bool {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true).unwrap();
        let has_input = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        has_input || !self.reader.buffer().is_empty()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes as they are, unless the other end has closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_ref().write_all(bytes.as_ref())
    }

    /// Closes the sending half.
    pub fn end_sending(&mut self) {
        // The other end may have closed all of it.
        let _ = self.reader.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads a response to anything but HEAD.
    pub fn receive(&mut self) -> Response {
        self.try_receive(true)
            .unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// Reads a response; an error when the connection is closed before its end.
    pub fn try_receive(&mut self, may_have_body: bool) -> io::Result<Response> {
        let (status, headers) = self.try_receive_head()?;
        let has_body = may_have_body && !matches!(status, 100..=199 | 204 | 304);
        let body = match has_body {
            true => read_response_body(&mut self.reader, &headers)?,
            false => Vec::new(),
        };
        Ok(Response {
            status,
            headers,
            body,
        })
    }

    /// Reads status and fields.
    pub fn receive_head(&mut self) -> (u16, Headers) {
        self.try_receive_head().unwrap()
    }

    fn try_receive_head(&mut self) -> io::Result<(u16, Headers)> {
        let Head { start, headers } = Head::read(&mut self.reader)?.ok_or(ErrorKind::UnexpectedEof)?;
        let status = start
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        Ok((
            status.unwrap_or_else(|| panic!("no status line: {start}")),
            headers,
        ))
    }

    /// Reads a chunk of a body; `None` after the last one.
    pub fn receive_chunk(&mut self) -> Option<Vec<u8>> {
        read_chunk(&mut self.reader).unwrap()
    }

    /// Sends a request and reads the response.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.try_exchange(request)
            .unwrap_or_else(|error| panic!("no response to {request:?}: {error}"))
    }

    /// Sends a request and reads the response; an error when the connection is closed before its end.
    pub fn try_exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.try_send(request.to_bytes())?;
        self.try_receive(request.method != "HEAD")
    }

    /// Sends a GET and reads the response.
    pub fn get(&mut self, target: &str) -> Response {
        self.exchange(&Request::get(target))
    }

    /// Reads exactly so many bytes.
    pub fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads so many bytes, or fewer when the other end closes before.
    pub fn read_up_to(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (&mut self.reader).take(count).read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }

    /// Reads until the other end closes; whatever comes before that is returned.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }

    /// Insists that the other end closes without another byte.
    #[track_caller]
    pub fn assert_closes(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}
