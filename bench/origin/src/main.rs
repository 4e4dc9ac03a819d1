//! The origin of the macro benchmark.
//!
//! One thread, one epoll, any number of ports. It is fast enough that the proxy in front of it is what gets
//! measured, and it counts requests and connections per port, so that a proxy's split is known from what
//! arrived rather than from what the proxy says it chose.
//!
//! `bench-origin N` listens on N ports of 127.0.0.1 that the kernel chooses, prints one line
//! `{"ports":[…]}` and serves until it is killed. What it answers is written in [`answer`].

mod answer;
mod connection;
mod request;

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use answer::Ports;
use connection::{Connection, Next};

/// Events taken from the kernel at once: more than the benchmark has connections.
const EVENTS: usize = 1024;

/// Bytes read at once; a request of the benchmark fits, so a shorter read means that nothing is left.
const READ_BYTES: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = match std::env::args().nth(1).map(|arg| arg.parse()) {
        Some(Ok(count)) if count > 0 => count,
        _ => return Err("usage: bench-origin NUMBER_OF_PORTS".into()),
    };
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        listeners.push(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?);
    }
    let numbers = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<io::Result<Vec<u16>>>()?;

    let mut stdout = io::stdout();
    writeln!(stdout, "{{\"ports\":{numbers:?}}}")?;
    stdout.flush()?;
    serve(listeners, Ports::new(&numbers))?;
    Ok(())
}

/// Serves for ever. Tokens below the number of listeners are listeners, the others connections.
fn serve(mut listeners: Vec<TcpListener>, mut ports: Ports) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (index, listener) in listeners.iter_mut().enumerate() {
        poll.registry()
            .register(listener, Token(index), Interest::READABLE)?;
    }
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut scratch = vec![0; READ_BYTES];
    let mut events = Events::with_capacity(EVENTS);
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        for event in &events {
            let token = event.token().0;
            if let Some(listener) = listeners.get(token) {
                while let Some(mut stream) = accept(listener) {
                    ports.opened(token);
                    let slot = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    poll.registry().register(
                        &mut stream,
                        Token(listeners.len() + slot),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    connections[slot] = Some(Connection::new(stream, token));
                }
                continue;
            }
            // An event of a connection that closed earlier in this batch finds an empty slot, or its
            // successor, which then looks for input in vain: both are harmless.
            let slot = token - listeners.len();
            let Some(connection) = connections[slot].as_mut() else {
                continue;
            };
            if connection.on_event(event.is_read_closed(), &mut scratch, &mut ports) == Next::Close {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

/// Takes one waiting connection.
fn accept(listener: &TcpListener) -> Option<mio::net::TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => {
            // Only speed is lost where this fails, and the next write shows what is wrong.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            eprintln!("bench-origin: accept: {error}");
            None
        }
    }
}
