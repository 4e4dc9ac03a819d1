//! The life of the process: starting → ready → draining.
//!
//! On SIGTERM: not ready at once, `pre_stop_delay` still accepting, then no more connections, then
//! exit as soon as the last one is closed or the drain deadline is over. Pingora's own grace period
//! is a fixed sleep; it is set beyond the deadline and never waited for.
//!
//! Two other things end the process in the same good order: a successor that has taken over, and a part
//! that has panicked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use log::{error, info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::metrics::metrics;
use crate::model::Shutdown;
use crate::notify;
use crate::snapshot::Published;
use crate::upgrade::Held;

/// How often a drain looks whether the last connection is closed.
const DRAIN_CHECK: Duration = Duration::from_millis(10);
/// How long a connection without a request is kept once no more are accepted. Its client may have sent one
/// that has not been read yet, and would find it unanswered; one that comes in time is answered and told
/// that the connection closes.
pub const IDLE_GRACE: Duration = Duration::from_secs(1);
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

/// Whether the Admin API and the status address take new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Not yet: the predecessor takes them.
    Waiting,
    /// Yes, until the process ends, so that a drain can be watched.
    Open,
    /// No longer: the successor takes them.
    Closed,
}

/// Why the process ends, other than by a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Another process has taken over.
    HandedOver,
    /// Something without which it must not go on has failed.
    Failed(String),
}

/// The phase, shared by the workers, the status address and the signal watch.
#[derive(Debug)]
pub struct Lifecycle {
    /// Read by every request, so an atomic beside the channel.
    phase: AtomicU8,
    phases: watch::Sender<Phase>,
    parts_missing: AtomicUsize,
    intake: watch::Sender<Intake>,
    end: watch::Sender<Option<End>>,
    held: AtomicUsize,
}

/// Keeps the drain after a hand-over from ending before its deadline, while it lives.
#[derive(Debug)]
pub struct Hold(Arc<Lifecycle>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lifecycle {
    /// Starts; ready once so many `parts` have reported.
    pub fn new(parts: usize, intake: Intake) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            phases: watch::Sender::new(Phase::Starting),
            parts_missing: AtomicUsize::new(parts),
            intake: watch::Sender::new(intake),
            end: watch::Sender::new(None),
            held: AtomicUsize::new(0),
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
                self.phases.send_replace(Phase::Ready);
            }
        }
    }

    /// Waits until every part has started, or the process is on its way out.
    pub async fn started(&self) {
        let mut phases = self.phases.subscribe();
        let _ = phases.wait_for(|phase| *phase != Phase::Starting).await;
    }

    /// Returns whether the Admin API and the status address take connections, and how that changes.
    pub fn intake(&self) -> watch::Receiver<Intake> {
        self.intake.subscribe()
    }

    /// Lets the Admin API and the status address take connections.
    pub fn open_intake(&self) {
        self.intake.send_replace(Intake::Open);
    }

    /// Ends the process in good order. The first reason counts.
    pub fn end(&self, why: End) {
        if why == End::HandedOver {
            self.intake.send_replace(Intake::Closed);
        }
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(why);
            is_first
        });
    }

    /// Says whether another process has taken over.
    pub fn is_handed_over(&self) -> bool {
        *self.end.borrow() == Some(End::HandedOver)
    }

    /// Returns what keeps the drain after a hand-over going, up to its deadline: clients whose connection
    /// the successor does not have. On SIGTERM nothing is waited for but clients of the proxy.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.held.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    /// Returns why the process ends, if it does and not by a signal.
    pub fn why_ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
            Ok(Some(end)) => end,
            // The sender is here, so it is not gone.
            _ => std::future::pending().await,
        }
    }

    pub(crate) fn drain(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Relaxed);
        self.phases.send_replace(Phase::Draining);
    }
}

/// Watches for SIGTERM and SIGINT and ends the process in good order.
pub struct SignalWatch {
    /// The phase to set.
    pub lifecycle: Arc<Lifecycle>,
    /// Where the access log in force is found, for its last lines.
    pub published: Arc<Published>,
    /// Duplicates of the listening sockets, which a drain lets go of.
    pub held: Arc<Held>,
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
        let end = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => {
                info!("SIGINT: exit");
                flush_and_exit(&self.published, 0);
            }
            end = self.lifecycle.ended() => Some(end),
        };
        let shutdown = self.published.current().source.settings.shutdown.clone();
        self.lifecycle.drain();
        // After a hand-over the service goes on, in another process.
        if end != Some(End::HandedOver) {
            notify::stopping();
        }
        let delay = match &end {
            None => shutdown.pre_stop_delay,
            // The successor takes what still comes.
            Some(_) => Duration::ZERO,
        };
        match (&end, delay) {
            (None, Duration::ZERO) => info!("SIGTERM: not ready"),
            (None, delay) => info!("SIGTERM: not ready, accepting for {delay:?} more"),
            (Some(End::HandedOver), _) => info!("handed over: draining"),
            (Some(End::Failed(why)), _) => error!("{why}: draining, to exit with an error"),
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = terminate.recv() => info!("second SIGTERM: no more accepting"),
        }
        self.held.close();
        let code = i32::from(matches!(end, Some(End::Failed(_))));
        let (published, lifecycle) = (self.published.clone(), self.lifecycle.clone());
        let drained = std::thread::Builder::new().name("drain".into()).spawn(move || {
            wait_until_idle(&shutdown, &lifecycle);
            flush_and_exit(&published, code);
        });
        if let Err(error) = drained {
            warn!("cannot start the drain: {error}");
            flush_and_exit(&self.published, code);
        }
        tokio::spawn(async move {
            terminate.recv().await;
            info!("second SIGTERM: exit");
            std::process::exit(code);
        });
        ShutdownSignal::GracefulTerminate
    }
}

fn wait_until_idle(shutdown: &Shutdown, lifecycle: &Lifecycle) {
    let deadline = clock::monotonic() + shutdown.drain;
    // One look later than the first, so that Pingora has told its listeners to stop.
    loop {
        std::thread::sleep(DRAIN_CHECK);
        let open = metrics().connections.get();
        let is_held = lifecycle.is_handed_over() && lifecycle.held.load(Ordering::Relaxed) > 0;
        if open == 0 && !is_held {
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

fn flush_and_exit(published: &Published, code: i32) -> ! {
    if let Some(log) = &published.current().settings.access_log {
        log.flush(FLUSH_LIMIT);
    }
    std::process::exit(code)
}
