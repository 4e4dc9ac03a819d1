//! The gateway of the demo: this very binary, in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::DemoError;

/// Lines of the gateway's log that are kept, for the case that it fails.
const LOG_LINES: usize = 100;
/// How long the status address may take.
const LIMIT: Duration = Duration::from_secs(1);

/// A running gateway; stopped when dropped.
pub struct Gateway {
    child: Child,
    /// Where clients are served.
    pub address: SocketAddr,
    /// Where metrics and state are shown.
    pub status: SocketAddr,
    /// Where it is changed.
    pub admin: SocketAddr,
    /// Warnings and errors since it started, e.g. of a file that was refused.
    log: Arc<Mutex<Vec<String>>>,
}

/// What the status address tells; nothing when it is silent.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Number of the configuration in force.
    pub generation: Option<u64>,
    /// Share of the canary in force, 0 to 1; `None` where nothing goes by share.
    pub canary_share: Option<f64>,
}

impl Gateway {
    /// Starts the gateway on free ports and waits until it is ready.
    pub fn start(file: &Path, environment: &[(&str, String)]) -> Result<Self, DemoError> {
        let failed = |error| DemoError::System("start the gateway", error);
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["run", "--until-parent-ends"])
            .arg(file)
            .args(["--set", "server.listeners=[{address: '127.0.0.1:0'}]"])
            .args(["--set", "server.status.address=127.0.0.1:0"])
            .args(["--set", "server.admin.address=127.0.0.1:0"])
            // A file of an earlier run would say what was in force then.
            .args(["--set", "server.store.kind=memory"])
            .args(["--set", "server.access_log=false"])
            .env(
                "RUST_LOG",
                "info,pingora=error,pingora_core=error,pingora_proxy=error,hickory=error",
            )
            .env("RUST_LOG_STYLE", "never")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped"))
            .lines()
            .map_while(Result::ok);
        let (mut address, mut status, mut admin, mut said) = (None, None, None, Vec::new());
        for line in lines.by_ref() {
            let read = |marker: &str| {
                line.split_once(marker)
                    .and_then(|(_, address)| address.parse().ok())
            };
            address = address.or_else(|| read("] listening on "));
            status = status.or_else(|| read("] status on "));
            admin = admin.or_else(|| read("] admin on "));
            let is_ready = line.ends_with("] ready");
            said.push(line);
            if is_ready {
                break;
            }
        }
        let (Some(address), Some(status), Some(admin)) = (address, status, admin) else {
            let _ = child.wait();
            return Err(DemoError::Gateway(said.join("\n")));
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        // Read to the end, or the gateway would stall on a full pipe.
        std::thread::spawn(move || {
            for line in lines {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < LOG_LINES {
                    kept.push(line);
                }
            }
        });
        Ok(Self {
            child,
            address,
            status,
            admin,
            log,
        })
    }

    /// Asks what is in force.
    pub fn ask(&self) -> Told {
        Told {
            generation: self.generation(),
            canary_share: self.canary_share(),
        }
    }

    fn generation(&self) -> Option<u64> {
        let body: serde_json::Value = serde_json::from_str(&self.get("/status")?).ok()?;
        body["generation"].as_u64()
    }

    fn canary_share(&self) -> Option<f64> {
        let metrics = self.get("/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("serin_release_share_ratio{"))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Asks the status address.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.status, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Says whether the process is alive.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns what the log said since it was last asked.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the process in good order.
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.is_running() {
            self.stop();
        }
    }
}
