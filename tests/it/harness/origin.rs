//! An origin: a server on a loopback address that remembers every request and does as it is told.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};

use super::message::{Head, Headers, read_request_body};
use super::wire::Wire;
use super::{Authority, Watched};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A server behind the gateway. Keeps connections alive, records what it receives, and answers 200
/// with its name until it is told otherwise; what it is told holds for requests that wait, too.
pub struct Origin {
    name: String,
    address: SocketAddr,
    shared: Arc<Watched<State>>,
    /// What it speaks TLS with, if it does.
    tls: Option<Arc<ServerConfig>>,
    /// Bound and not listening, so that the port stays ours while connections to it are refused.
    _reservation: Socket,
    listening: Option<Listening>,
    /// A listener that nobody accepts from, and the connection that fills its queue.
    queue: Option<(Socket, TcpStream)>,
}

struct Listening {
    socket: Arc<Socket>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    received: Vec<Received>,
    /// The names that clients asked for in TLS handshakes, failed ones included.
    server_names: Vec<Option<String>>,
    open: HashMap<u64, TcpStream>,
    accepted: u64,
    /// Parts of a streamed answer that nobody has sent yet; `None` is its end.
    parts: VecDeque<Option<Vec<u8>>>,
    is_over: bool,
}

/// What becomes of a request.
#[derive(Clone, Default)]
enum Behaviour {
    #[default]
    AnswerName,
    Answer(Reply),
    Hold,
    ResetBeforeHeader,
    ResetAfterHeader,
    CloseReused,
    Stream,
    Upgrade,
    Bytes(Vec<u8>),
}

/// An answer to give.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// Makes an answer without fields and body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn write(&self, stream: &mut Wire) -> io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {} Reason\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).bytes());
        bytes.extend(&self.body);
        stream.write_all(&bytes)
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Fields.
    pub headers: Headers,
    /// Body, without its framing.
    pub body: Vec<u8>,
    /// The certificate that the gateway has shown, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Received {
    /// Returns the value of a field, which must not occur twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.headers.all(name);
        assert!(all.len() <= 1, "{name} more than once: {all:?}");
        all.first().copied()
    }
}

impl Origin {
    /// Starts an origin on a free port of 127.0.0.1.
    pub fn start(name: &str) -> Self {
        Self::start_at(name, [127, 0, 0, 1])
    }

    /// Starts an origin on a free port of any address of this host.
    pub fn start_at(name: &str, address: impl Into<IpAddr>) -> Self {
        let mut origin = Self::refusing_at(name, address);
        origin.accept();
        origin
    }

    /// Starts two origins on one port of both loopback addresses, so that `localhost` leads to one of
    /// them whichever family it is looked up in.
    pub fn start_on_localhost(name: &str) -> [Self; 2] {
        loop {
            let four = Self::start(name);
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.address.port()));
            // The port was free in the one family; in the other somebody else may have it.
            if let Ok(reservation) = bind(six) {
                let mut six = Self::refusing_with(name, reservation);
                six.accept();
                return [four, six];
            }
        }
    }

    /// Starts an origin on this address and port.
    pub fn start_on(name: &str, address: SocketAddr) -> Self {
        let mut origin = Self::refusing_on(name, address);
        origin.accept();
        origin
    }

    /// Starts an origin that speaks TLS, with a certificate for these names and addresses.
    pub fn start_tls(name: &str, authority: &Authority, names: &[&str]) -> Self {
        Self::start_with(name, authority.server(names))
    }

    /// Starts an origin that speaks TLS with a certificate whose time is over.
    pub fn start_expired_tls(name: &str, authority: &Authority, names: &[&str]) -> Self {
        Self::start_with(name, authority.expired_server(names))
    }

    /// Starts an origin that speaks TLS and insists on a certificate of the same authority.
    pub fn start_mutual_tls(name: &str, authority: &Authority, names: &[&str]) -> Self {
        Self::start_with(name, authority.mutual_server(names))
    }

    fn start_with(name: &str, tls: Arc<ServerConfig>) -> Self {
        let mut origin = Self::refusing(name);
        origin.tls = Some(tls);
        origin.accept();
        origin
    }

    /// Makes an origin that refuses connections.
    pub fn refusing(name: &str) -> Self {
        Self::refusing_at(name, [127, 0, 0, 1])
    }

    fn refusing_at(name: &str, address: impl Into<IpAddr>) -> Self {
        Self::refusing_on(name, SocketAddr::new(address.into(), 0))
    }

    fn refusing_on(name: &str, address: SocketAddr) -> Self {
        Self::refusing_with(name, bind(address).unwrap())
    }

    fn refusing_with(name: &str, reservation: Socket) -> Self {
        let address = reservation.local_addr().unwrap().as_socket().unwrap();
        Self {
            name: name.to_owned(),
            address,
            shared: Arc::new(Watched::new(State::default())),
            tls: None,
            _reservation: reservation,
            listening: None,
            queue: None,
        }
    }

    /// Returns its name: the body of its answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with its name from now on.
    pub fn answer_name(&self) {
        self.behave(Behaviour::AnswerName);
    }

    /// Gives this answer from now on.
    pub fn answer(&self, reply: Reply) {
        self.behave(Behaviour::Answer(reply));
    }

    /// Reads requests and leaves them unanswered, until it is told otherwise or for ever.
    pub fn hold(&self) {
        self.behave(Behaviour::Hold);
    }

    /// Resets the connection when a request has come.
    pub fn reset_before_header(&self) {
        self.behave(Behaviour::ResetBeforeHeader);
    }

    /// Answers with a header and a part of the body, then resets the connection.
    pub fn reset_after_header(&self) {
        self.behave(Behaviour::ResetAfterHeader);
    }

    /// Closes a kept connection when another request comes on it; answers the first of each.
    pub fn close_reused(&self) {
        self.behave(Behaviour::CloseReused);
    }

    /// Answers with a chunked body made of the parts that are sent.
    pub fn stream(&self) {
        self.behave(Behaviour::Stream);
    }

    /// Sends a part of the streamed answer.
    pub fn send_part(&self, part: impl Into<Vec<u8>>) {
        let part = Some(part.into());
        self.shared.change(|state| state.parts.push_back(part));
    }

    /// Ends the streamed answer.
    pub fn end_stream(&self) {
        self.shared.change(|state| state.parts.push_back(None));
    }

    /// Switches to the protocol that a request asks for and from then on sends back what it gets;
    /// at the word `reset` it resets the connection.
    pub fn upgrade(&self) {
        self.behave(Behaviour::Upgrade);
    }

    /// Answers with these bytes and closes the connection.
    pub fn answer_bytes(&self, bytes: impl Into<Vec<u8>>) {
        self.behave(Behaviour::Bytes(bytes.into()));
    }

    fn behave(&self, behaviour: Behaviour) {
        self.shared.change(|state| state.behaviour = behaviour);
    }

    /// Makes an origin whose connections are never completed: its queue of one is full.
    pub fn unreachable(name: &str) -> Self {
        let mut origin = Self::refusing(name);
        let socket = bind(origin.address).unwrap();
        socket.listen(0).unwrap();
        origin.queue = Some((socket, TcpStream::connect(origin.address).unwrap()));
        origin
    }

    /// Refuses connections from now on and closes those that are open.
    pub fn refuse(&mut self) {
        if let Some(Listening { socket, thread }) = self.listening.take() {
            socket.shutdown(Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
        self.close_connections();
    }

    /// Accepts connections again.
    pub fn accept(&mut self) {
        assert!(self.listening.is_none(), "{} accepts already", self.name);
        let socket = Arc::new(bind(self.address).unwrap());
        socket.listen(BACKLOG).unwrap();
        let thread = std::thread::spawn({
            let (socket, shared, name) = (socket.clone(), self.shared.clone(), self.name.clone());
            let tls = self.tls.clone();
            move || accept_connections(&socket, &shared, tls.as_ref(), &name)
        });
        self.listening = Some(Listening { socket, thread });
    }

    /// Closes every open connection, in use or not.
    pub fn close_connections(&self) {
        for (_, stream) in self.shared.lock().open.drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        self.shared.lock().received.len()
    }

    /// Returns the name that each client asked for in its TLS handshake, failed ones included.
    pub fn server_names(&self) -> Vec<Option<String>> {
        self.shared.lock().server_names.clone()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Waits until `count` requests have come and returns all.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let arrived = |state: &mut State| (state.received.len() >= count).then(|| state.received.clone());
        self.shared.wait_for(arrived).unwrap_or_else(|| {
            panic!(
                "{} waited in vain for request {count}; got {}",
                self.name,
                self.count()
            )
        })
    }

    /// Returns the only request so far.
    pub fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "requests at {}", self.name);
        received.remove(0)
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.change(|state| state.received.clear());
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_over = true);
        self.refuse();
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Reservation and listener share the port, which Linux allows while only one of them listens.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn accept_connections(
    socket: &Socket,
    shared: &Arc<Watched<State>>,
    tls: Option<&Arc<ServerConfig>>,
    name: &str,
) {
    // Ends when the socket is shut down.
    while let Ok((socket, _)) = socket.accept() {
        let stream = TcpStream::from(socket);
        let number = shared.change(|state| {
            state.accepted += 1;
            state.open.insert(state.accepted, stream.try_clone().unwrap());
            state.accepted
        });
        let (shared, name) = (shared.clone(), name.to_owned());
        let tls = tls.map(|config| ServerConnection::new(config.clone()).unwrap());
        std::thread::spawn(move || {
            // However it ends, the gateway sees it and the test what the gateway makes of it.
            let _ = Wire::new(stream, tls).and_then(|wire| serve_connection(wire, &shared, &name));
            shared.change(|state| state.open.remove(&number));
        });
    }
}

fn serve_connection(mut stream: Wire, shared: &Watched<State>, name: &str) -> io::Result<()> {
    if let Some((server_name, result)) = stream.shake_hands() {
        shared.change(|state| state.server_names.push(server_name));
        result?;
    }
    let mut reader = BufReader::new(stream.clone());
    let mut is_reused = false;
    while let Some(head) = Head::read(&mut reader)? {
        let mut words = head.start.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let body = read_request_body(&mut reader, &head.headers)?;
        let received = Received {
            method,
            target,
            headers: head.headers,
            body,
            client_certificate: stream.client_certificate(),
        };
        shared.change(|state| state.received.push(received));
        let behaviour = shared.wait_for_ever(|state| match state.behaviour {
            Behaviour::Hold if !state.is_over => None,
            ref behaviour => Some(behaviour.clone()),
        });
        match behaviour {
            Behaviour::CloseReused if is_reused => return stream.close(),
            Behaviour::AnswerName | Behaviour::CloseReused => {
                Reply::status(200).body(name).write(&mut stream)?
            }
            Behaviour::Answer(reply) => reply.write(&mut stream)?,
            Behaviour::Hold => return Ok(()),
            Behaviour::ResetBeforeHeader => return stream.reset(),
            Behaviour::ResetAfterHeader => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")?;
                return stream.reset();
            }
            Behaviour::Stream => stream_parts(&mut stream, shared)?,
            Behaviour::Upgrade => return echo(stream, reader),
            Behaviour::Bytes(bytes) => {
                stream.write_all(&bytes)?;
                return stream.close();
            }
        }
        is_reused = true;
    }
    Ok(())
}

fn stream_parts(stream: &mut Wire, shared: &Watched<State>) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    loop {
        let part = shared.wait_for_ever(|state| match state.is_over {
            true => Some(None),
            false => state.parts.pop_front(),
        });
        let part = part.unwrap_or_default();
        stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
        stream.write_all(&part)?;
        stream.write_all(b"\r\n")?;
        if part.is_empty() {
            return Ok(());
        }
    }
}

fn echo(mut stream: Wire, mut reader: BufReader<Wire>) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )?;
    let mut bytes = [0; 1024];
    loop {
        match reader.read(&mut bytes)? {
            0 => return Ok(()),
            _ if bytes.starts_with(b"reset") => return stream.reset(),
            count => stream.write_all(&bytes[..count])?,
        }
    }
}
