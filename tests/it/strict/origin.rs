//! An origin that judges every byte it gets with [`reader`](super::reader), and answers with bytes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::reader::{Message, Progress, read};

/// Answers each target with the bytes that are written down for it, `200` and the target itself where
/// none are, and keeps its connections.
pub struct StrictOrigin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, (Vec<u8>, Then)>,
    received: Vec<Message>,
    complaints: Vec<String>,
    /// Those that are open, in the order in which they last had a request.
    connections: Vec<TcpStream>,
    is_over: bool,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is kept.
    Keep,
    /// It is closed.
    Close,
}

impl StrictOrigin {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        std::thread::spawn({
            let state = state.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if lock(&state).is_over {
                        break;
                    }
                    let state = state.clone();
                    std::thread::spawn(move || serve(stream, &state));
                }
            }
        });
        Self { address, state }
    }

    /// A configuration that sends everything here.
    pub fn config(&self) -> String {
        format!(
            "services:\n- {{name: shop, url: 'http://{}', routes: [{{name: all, paths: [/]}}]}}\n",
            self.address
        )
    }

    /// Answers this target with these bytes.
    pub fn answer(&self, target: &str, bytes: impl Into<Vec<u8>>, then: Then) {
        lock(&self.state)
            .answers
            .insert(target.to_owned(), (bytes.into(), then));
    }

    /// Sends bytes, unasked, on the connection that last had a request.
    pub fn send_unasked(&self, bytes: &[u8]) {
        let state = lock(&self.state);
        let mut stream = state.connections.last().expect("a connection is open");
        stream.write_all(bytes).unwrap();
    }

    /// Returns the requests since the last time, and insists that no byte was wrong.
    #[track_caller]
    pub fn take(&self) -> Vec<Message> {
        let mut state = lock(&self.state);
        assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
        std::mem::take(&mut state.received)
    }

    /// Returns the only request since the last time.
    #[track_caller]
    pub fn take_only(&self) -> Message {
        let mut received = self.take();
        assert_eq!(received.len(), 1, "{received:#?}");
        received.remove(0)
    }
}

impl Drop for StrictOrigin {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        for stream in state.connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        // Wakes who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// A test that has failed must still be able to say why.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// However a connection ends, the gateway sees it and the test what the gateway makes of it.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    // What is sent unasked must be there before what the test does next.
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let mut is_told_to_go_on = false;
    let mut buffer = [0; 4096];
    loop {
        match read(&bytes) {
            Err(complaint) => {
                let complaint = format!("{complaint} in {}", bytes.escape_ascii());
                lock(state).complaints.push(complaint);
                return;
            }
            Ok(Progress::Complete(message, length)) => {
                bytes.drain(..length);
                is_told_to_go_on = false;
                if answer(&mut stream, state, message) == Then::Close {
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
                continue;
            }
            Ok(Progress::Header) if !is_told_to_go_on && is_waiting(&bytes) => {
                is_told_to_go_on = true;
                let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            Ok(Progress::Header | Progress::Incomplete) => {}
        }
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend(&buffer[..count]),
            _ => return,
        }
    }
}

fn is_waiting(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.contains("\r\nexpect: 100-continue\r\n")
}

fn answer(stream: &mut TcpStream, state: &Mutex<State>, message: Message) -> Then {
    let (bytes, then) = {
        let mut state = lock(state);
        let peer = stream.peer_addr().ok();
        state.connections.retain(|other| other.peer_addr().ok() != peer);
        state.connections.extend(stream.try_clone());
        let plain = || {
            let body = &message.target;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            (answer.into_bytes(), Then::Keep)
        };
        let answer = state.answers.get(&message.target).cloned().unwrap_or_else(plain);
        state.received.push(message);
        answer
    };
    let _ = stream.write_all(&bytes);
    then
}
