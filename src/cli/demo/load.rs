//! Steady load: connections, each sending at its share of the rate, for people who ask in turn. They are kept; for a
//! switch every other one is closed after each answer, and a few more have a long request under way all the time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::origin::LONG_PATH;
use super::scenario::Person;
use crate::clock;

/// Connections that share the rate.
const CONNECTIONS: u32 = 8;
/// Further connections that have a long request under way, where that is wanted.
const LONG_CONNECTIONS: u32 = 4;
/// Latencies kept for the percentiles: the last ones of all connections.
const WINDOW: usize = 4096;
/// How long an answer may take before the request counts as failed.
const LIMIT: Duration = Duration::from_secs(5);

/// What was measured so far.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Requests answered or failed.
    pub requests: u64,
    /// Requests that got no answer, or one that was not 200.
    pub failed: u64,
    /// Requests that were the first on their connection.
    pub on_new: u64,
    /// What the first of those died of.
    pub first_failure: Option<String>,
    /// What each person was given.
    pub people: Vec<Given>,
    /// The last latencies, as a ring.
    latencies: Vec<Duration>,
}

/// What a person was given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Release that answered last.
    pub release: String,
    /// Answers in a row from that release.
    pub answers: u64,
    /// How often he was given another release than before.
    pub changes: u64,
    /// How often that was one that he had had earlier.
    pub returns: u64,
    earlier: Vec<String>,
}

/// An answer.
struct Answered {
    latency: Duration,
    is_long: bool,
    release: String,
    cookie: Option<String>,
}

impl Measured {
    /// Returns the latency that `share` of the last requests did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn add(&mut self, person: usize, is_new: bool, result: Result<Answered, String>) {
        self.requests += 1;
        self.on_new += u64::from(is_new);
        match result {
            Ok(Answered {
                latency,
                is_long,
                release,
                ..
            }) => {
                match self.latencies.len() < WINDOW {
                    // Those take what their origin makes of them.
                    _ if is_long => {}
                    true => self.latencies.push(latency),
                    false => self.latencies[self.requests as usize % WINDOW] = latency,
                }
                if let Some(given) = self.people.get_mut(person) {
                    given.add(release);
                }
            }
            Err(failure) => {
                self.failed += 1;
                self.first_failure.get_or_insert(failure);
            }
        }
    }
}

impl Given {
    fn add(&mut self, release: String) {
        if self.release != release {
            self.returns += u64::from(self.earlier.contains(&release));
            let previous = std::mem::replace(&mut self.release, release);
            if !previous.is_empty() {
                self.changes += 1;
                self.earlier.push(previous);
            }
            self.answers = 0;
        }
        self.answers += 1;
    }
}

/// Load that goes on until it is stopped.
pub struct Load {
    measured: Arc<Mutex<Measured>>,
    is_stopped: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `rate` requests per second, of these people in turn; `is_mixed` is for a switch.
    pub fn start(address: SocketAddr, rate: u32, people: &[Person], is_mixed: bool) -> Self {
        let measured = Arc::new(Mutex::new(Measured {
            people: vec![Given::default(); people.len()],
            ..Measured::default()
        }));
        let mut crowds = vec![Vec::new(); CONNECTIONS as usize];
        // Where they are fewer than connections, each asks over several.
        for number in 0..people.len().max(crowds.len()).min(people.len() * crowds.len()) {
            let person = number % people.len();
            crowds[number % CONNECTIONS as usize].push((person, people[person].headers.clone()));
        }
        let is_stopped = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) * CONNECTIONS / rate;
        let steady = (0..CONNECTIONS).zip(crowds).map(|(number, crowd)| Sender {
            address,
            path: "/",
            interval,
            offset: interval * number / CONNECTIONS,
            is_kept: !is_mixed || number % 2 == 0,
            crowd,
        });
        let long = (0..LONG_CONNECTIONS).filter(|_| is_mixed).map(|number| Sender {
            address,
            path: LONG_PATH,
            interval: Duration::ZERO,
            offset: Duration::from_millis(500) * number,
            is_kept: number % 2 == 0,
            crowd: Vec::new(),
        });
        let senders = steady
            .chain(long)
            .map(|sender| {
                let (measured, is_stopped) = (measured.clone(), is_stopped.clone());
                std::thread::spawn(move || sender.send(&measured, &is_stopped))
            })
            .collect();
        Self {
            measured,
            is_stopped,
            senders,
        }
    }

    /// Returns what was measured so far.
    pub fn measured(&self) -> Measured {
        self.measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets requests under way end and returns what was measured.
    pub fn stop(self) -> Measured {
        self.is_stopped.store(true, Ordering::Relaxed);
        for sender in self.senders {
            let _ = sender.join();
        }
        self.measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One of the connections.
struct Sender {
    address: SocketAddr,
    path: &'static str,
    /// Time between two requests, at least.
    interval: Duration,
    offset: Duration,
    is_kept: bool,
    /// Who asks over it, with his header lines.
    crowd: Vec<(usize, String)>,
}

impl Sender {
    fn send(mut self, measured: &Mutex<Measured>, is_stopped: &AtomicBool) {
        let mut connection = None;
        let mut due = clock::monotonic() + self.offset;
        let mut turn = 0;
        while !is_stopped.load(Ordering::Relaxed) {
            std::thread::sleep(due.saturating_duration_since(clock::monotonic()));
            turn = (turn + 1) % self.crowd.len().max(1);
            let (person, headers) = self
                .crowd
                .get(turn)
                .map_or((0, ""), |(person, headers)| (*person, headers));
            if !self.is_kept {
                connection = None;
            }
            let is_new = connection.is_none();
            let result = request(&mut connection, self.address, self.path, headers);
            match &result {
                // Sent back with each of this person's requests from now on, as a browser does.
                Ok(Answered {
                    cookie: Some(cookie), ..
                }) => {
                    if let Some((_, headers)) = self.crowd.get_mut(turn) {
                        *headers = format!("Cookie: {cookie}\r\n");
                    }
                }
                Ok(_) => {}
                Err(_) => connection = None,
            }
            measured
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(person, is_new, result);
            // A late request does not make the next ones hurry: the load stays what the gateway can take.
            due = (due + self.interval).max(clock::monotonic());
        }
    }
}

/// Sends one request, on the kept connection if there is one, and takes its answer in.
fn request(
    connection: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    path: &'static str,
    headers: &str,
) -> Result<Answered, String> {
    let started = clock::monotonic();
    let words = |error: std::io::Error| error.to_string();
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(words)?;
            stream.set_nodelay(true).map_err(words)?;
            stream.set_read_timeout(Some(LIMIT)).map_err(words)?;
            connection.insert(BufReader::new(stream))
        }
    };
    reader
        .get_mut()
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{headers}\r\n").as_bytes())
        .map_err(words)?;
    let mut line = String::new();
    reader.read_line(&mut line).map_err(words)?;
    let status = line.trim_end().to_owned();
    let (mut length, mut closes) = (0, false);
    let (mut release, mut cookie) = (String::new(), None);
    loop {
        line.clear();
        if reader.read_line(&mut line).map_err(words)? == 0 {
            return Err("the connection ended inside an answer".to_owned());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| format!("bad length{value}"))?,
            "x-release" => value.trim().clone_into(&mut release),
            "set-cookie" => cookie = value.split(';').next().map(|pair| pair.trim().to_owned()),
            "connection" => closes = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(words)?;
    if closes {
        *connection = None;
    }
    match status.starts_with("HTTP/1.1 200 ") {
        true => Ok(Answered {
            latency: clock::monotonic() - started,
            is_long: path == LONG_PATH,
            release,
            cookie,
        }),
        false => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
    }
}
