//! The life of the process: starting → ready → draining.
//!
//! On SIGTERM: not ready at once, `pre_stop_delay` still accepting, then no more connections, then
//! exit as soon as the last one is closed or the drain deadline is over. Pingora's own grace period
//! is a fixed sleep; it is set beyond the deadline and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock;
use crate::metrics::metrics;
use crate::model::Shutdown;
use crate::snapshot::Published;

/// How often a drain looks whether the last connection is closed.
const DRAIN_CHECK: Duration = Duration::from_millis(10);
/// How long the last lines of the access log may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every part has started.
    Starting,
    /// Every worker accepts, and signals are watched for.
    Ready,
    /// On the way out.
    Draining,
}

impl Phase {
    /// Returns the word that `/status` shows.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The phase, shared by the workers, the status address and the signal watch.
#[derive(Debug)]
pub struct Lifecycle {
    phase: AtomicU8,
    parts_missing: AtomicUsize,
}

impl Lifecycle {
    /// Starts; ready once so many `parts` have reported.
    pub fn new(parts: usize) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            parts_missing: AtomicUsize::new(parts),
        }
    }

    /// Returns the phase. Relaxed, as all here: nothing else is published through it.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Reports one part as started.
    pub fn part_started(&self) {
        if self.parts_missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            let (starting, ready) = (Phase::Starting as u8, Phase::Ready as u8);
            // A SIGTERM during start stays in force.
            if self
                .phase
                .compare_exchange(starting, ready, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                info!("ready");
            }
        }
    }

    fn drain(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Relaxed);
    }
}

/// Watches for SIGTERM and SIGINT and ends the process in good order.
pub struct SignalWatch {
    /// The phase to set.
    pub lifecycle: Arc<Lifecycle>,
    /// Where the access log in force is found, for its last lines.
    pub published: Arc<Published>,
}

#[async_trait]
impl ShutdownSignalWatch for SignalWatch {
    async fn recv(&self) -> ShutdownSignal {
        let (mut terminate, mut interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    // Without handlers the signals keep their default action: the process ends at once.
                    error!("cannot watch for signals: {error}");
                    return std::future::pending().await;
                }
            };
        self.lifecycle.part_started();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {
                info!("SIGINT: exit");
                self.exit();
            }
        }
        let shutdown = self.published.current().source.settings.shutdown.clone();
        self.lifecycle.drain();
        match shutdown.pre_stop_delay {
            Duration::ZERO => info!("SIGTERM: not ready"),
            delay => info!("SIGTERM: not ready, accepting for {delay:?} more"),
        }
        tokio::select! {
            () = tokio::time::sleep(shutdown.pre_stop_delay) => {}
            _ = terminate.recv() => info!("second SIGTERM: no more accepting"),
        }
        let published = self.published.clone();
        let drained = std::thread::Builder::new().name("drain".into()).spawn(move || {
            wait_until_idle(&shutdown);
            Self::flush_and_exit(&published);
        });
        if let Err(error) = drained {
            warn!("cannot start the drain: {error}");
            self.exit();
        }
        tokio::spawn(async move {
            terminate.recv().await;
            info!("second SIGTERM: exit");
            std::process::exit(0);
        });
        ShutdownSignal::GracefulTerminate
    }
}

fn wait_until_idle(shutdown: &Shutdown) {
    let deadline = clock::monotonic() + shutdown.drain;
    // One look later than the first, so that Pingora has told its listeners to stop.
    loop {
        std::thread::sleep(DRAIN_CHECK);
        let open = metrics().connections.get();
        if open == 0 {
            info!("drained");
            return;
        }
        if clock::monotonic() >= deadline {
            warn!(
                "drain deadline of {:?} is over with {open} connections open",
                shutdown.drain
            );
            return;
        }
    }
}

impl SignalWatch {
    fn exit(&self) -> ! {
        Self::flush_and_exit(&self.published)
    }

    fn flush_and_exit(published: &Published) -> ! {
        if let Some(log) = &published.current().settings.access_log {
            log.flush(FLUSH_LIMIT);
        }
        std::process::exit(0)
    }
}
