//! The load of the macro benchmark where wrk and h2load do not do.
//!
//! `bench-load rate ADDRESS SECONDS CONNECTIONS REQUESTS RATE [tls]` asks RATE times a second over kept connections. Each
//! request is due at a time fixed beforehand, and its latency counts from then, also where no connection was free to
//! send it: a proxy that stalls cannot put off the requests that would show it (coordinated omission).
//!
//! `bench-load handshakes ADDRESS SECONDS CONNECTIONS REQUESTS` opens a TLS connection for each request, one after the
//! other on so many at a time, and offers no session for resumption. Latency counts from connect to the whole answer.
//!
//! REQUESTS is a file of requests, each after a line with its length; they are sent in turn. At the end one line
//! `figures {…}` is printed, as bench/macro's script for wrk prints it.

mod connection;
mod figures;
mod schedule;
mod tls;

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use connection::{Connection, Outcome};
use figures::Figures;
use schedule::Schedule;

const USAGE: &str = "usage: bench-load rate ADDRESS SECONDS CONNECTIONS REQUESTS RATE [tls] | bench-load handshakes ADDRESS SECONDS CONNECTIONS REQUESTS";

/// How long answers are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

const EVENTS: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, rate, is_tls) = match arguments.as_slice() {
        ["rate", _, _, _, _, rate] => ("rate", rate.parse()?, false),
        ["rate", _, _, _, _, rate, "tls"] => ("rate", rate.parse()?, true),
        ["handshakes", _, _, _, _] => ("handshakes", 0.0, true),
        _ => return Err(USAGE.into()),
    };
    let mut load = Load {
        poll: Poll::new()?,
        address: arguments[1].parse()?,
        tls: is_tls.then(tls::config).transpose()?,
        requests: requests(&std::fs::read(arguments[4])?)?,
        next: 0,
        connections: Vec::new(),
        figures: Figures::default(),
    };
    let length = Duration::from_secs(arguments[2].parse()?);
    for slot in 0..arguments[3].parse()? {
        let connection = load.connect(slot)?;
        load.connections.push(connection);
    }
    let began = Instant::now();
    match kind {
        "rate" => load.at_rate(Schedule::new(began, length, rate)?)?,
        _ => load.handshakes(began + length)?,
    }
    println!("figures {}", load.figures.json(length));
    Ok(())
}

/// Reads the file of requests.
fn requests(mut file: &[u8]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut requests = Vec::new();
    while let Some(end) = file.iter().position(|&byte| byte == b'\n') {
        let length: usize = std::str::from_utf8(&file[..end])?.parse()?;
        let rest = &file[end + 1..];
        requests.push(rest.get(..length).ok_or("a request is cut off")?.to_vec());
        file = &rest[length..];
    }
    match requests.is_empty() {
        true => Err("there are no requests".into()),
        false => Ok(requests),
    }
}

struct Load {
    poll: Poll,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    requests: Vec<Vec<u8>>,
    next: usize,
    connections: Vec<Connection>,
    figures: Figures,
}

impl Load {
    /// Opens the connection of this slot. On loopback that takes no time, so it is waited for.
    fn connect(&mut self, slot: usize) -> std::io::Result<Connection> {
        let mut connection = Connection::open(self.address, self.tls.as_ref())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(connection.source(), Token(slot), interest)?;
        Ok(connection)
    }

    /// Opens it anew; the old one is closed.
    fn reconnect(&mut self, slot: usize) -> std::io::Result<()> {
        self.connections[slot] = self.connect(slot)?;
        Ok(())
    }

    /// Sends the next request on a connection that is free. `due` is where its latency counts from.
    fn send(&mut self, slot: usize, due: Instant) -> Option<Outcome> {
        let request = &self.requests[self.next % self.requests.len()];
        self.next += 1;
        self.connections[slot].send(request, due)
    }

    fn at_rate(&mut self, mut schedule: Schedule) -> Result<(), Box<dyn Error>> {
        let timer = Token(self.connections.len());
        self.poll
            .registry()
            .register(&mut SourceFd(&schedule.descriptor()), timer, Interest::READABLE)?;
        let mut free: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut due: VecDeque<Instant> = VecDeque::new();
        let mut events = Events::with_capacity(EVENTS);
        let last = schedule.end() + LAST_ANSWERS;
        loop {
            let now = Instant::now();
            let is_over = schedule.is_over();
            if is_over && due.is_empty() && free.len() == self.connections.len() {
                break;
            }
            if now >= last {
                let unanswered = due.len() + self.connections.len() - free.len();
                self.figures.timeouts += unanswered as u64;
                break;
            }
            schedule.take(now, &mut due);
            while !due.is_empty()
                && let Some(slot) = free.pop_front()
            {
                let at = due.pop_front().unwrap_or(now);
                self.figures.sent_late(Instant::now() - at);
                if let Some(outcome) = self.send(slot, at) {
                    self.finish(slot, outcome, &mut free)?;
                }
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(20)))?;
            for event in &events {
                let slot = event.token().0;
                if event.token() == timer {
                    schedule.awoken();
                } else if let Some(outcome) = self.connections[slot].on_event() {
                    self.finish(slot, outcome, &mut free)?;
                }
            }
        }
        Ok(())
    }

    /// Takes down what came of a request and frees its connection.
    fn finish(&mut self, slot: usize, outcome: Outcome, free: &mut VecDeque<usize>) -> std::io::Result<()> {
        let reopened = match outcome {
            Outcome::Answered(answer) => {
                let closes = answer.closes;
                self.figures.answered(answer);
                closes
            }
            Outcome::Failed => {
                self.figures.failed += 1;
                true
            }
            // It was free and is so still.
            Outcome::ClosedIdle => return self.reconnect(slot),
        };
        if reopened {
            self.reconnect(slot)?;
        }
        free.push_back(slot);
        Ok(())
    }

    fn handshakes(&mut self, end: Instant) -> Result<(), Box<dyn Error>> {
        let mut events = Events::with_capacity(EVENTS);
        for slot in 0..self.connections.len() {
            self.send(slot, Instant::now());
        }
        while Instant::now() < end {
            self.poll.poll(&mut events, Some(Duration::from_millis(20)))?;
            for event in &events {
                let slot = event.token().0;
                let Some(outcome) = self.connections[slot].on_event() else {
                    continue;
                };
                match outcome {
                    Outcome::Answered(answer) => {
                        self.figures.count_handshake(self.connections[slot].is_resumed());
                        self.figures.answered(answer);
                    }
                    Outcome::Failed | Outcome::ClosedIdle => self.figures.failed += 1,
                }
                let began = Instant::now();
                self.reconnect(slot)?;
                self.send(slot, began);
            }
        }
        Ok(())
    }
}
