//! An origin of the demo: answers with its name and counts.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::DemoError;

/// Path of requests that take [`LONG`].
pub const LONG_PATH: &str = "/report";
/// How long such a request takes: long enough to be seen under way after a switch.
const LONG: Duration = Duration::from_secs(2);

/// One release of the service.
pub struct Origin {
    /// Name of the release.
    pub name: &'static str,
    /// Variable by which the example finds the port.
    pub variable: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Origin {
    /// Listens on `port`, or on a free one where that is taken.
    pub fn start(name: &'static str, variable: &'static str, port: u16) -> Result<Self, DemoError> {
        let failed = |error| DemoError::System("start an origin", error);
        let listener = TcpListener::bind(("127.0.0.1", port))
            .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                std::thread::spawn(move || serve(stream, name, &counter));
            }
        });
        Ok(Self {
            name,
            variable,
            address,
            received,
        })
    }

    /// Returns the number of requests received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Answers requests without bodies until the connection ends.
fn serve(stream: TcpStream, name: &str, counter: &AtomicU64) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Release: {name}\r\n\r\n{name}\n",
        name.len() + 1
    );
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let mut is_long = false;
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(bytes) if bytes > 0 => {}
            _ => return,
        }
        is_long |= line.starts_with("GET ") && line.contains(LONG_PATH);
        if line == "\r\n" {
            counter.fetch_add(1, Ordering::Relaxed);
            if std::mem::take(&mut is_long) {
                std::thread::sleep(LONG);
            }
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
