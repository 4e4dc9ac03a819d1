//! The thread that sees to upgrades: first as the successor, if there is somebody to take over from, and
//! from then on as the one who may be asked.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use log::{error, info, warn};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};

use super::channel::{Channel, Door};
use super::launch::Launch;
use super::message::Message;
use super::place::{self, PlaceError};
use super::predecessor::{Estate, Handover};
use super::successor::{Outcome, Takeover};
use crate::config::reload::with_causes;
use crate::lifecycle::End;
use crate::metrics::metrics;
use crate::model::Upgrade;
use crate::snapshot::Published;

/// The background service.
pub struct UpgradeService {
    estate: Estate,
    published: Arc<Published>,
    launch: Launch,
    start: Mutex<Option<Start>>,
}

/// What the service begins with.
#[derive(Debug)]
pub enum Start {
    /// Nobody can ask for an upgrade.
    Closed,
    /// At a socket that listens already.
    Listening(OwnedFd),
    /// As a successor, which then listens at the path, if there is one.
    TakingOver(Box<Takeover>, Option<PathBuf>),
}

impl Start {
    /// Makes the socket of a process that takes nothing over.
    ///
    /// # Errors
    /// When it cannot be made where the settings want it. Where they leave the place open there is none
    /// then, and the log says so.
    pub fn listening(upgrade: Option<&Upgrade>, default: Option<PathBuf>) -> Result<Self, PlaceError> {
        let Some(upgrade) = upgrade else {
            return Ok(Self::Closed);
        };
        match (&upgrade.socket, default) {
            (Some(path), _) => Ok(Self::Listening(place::bind(path)?)),
            (None, None) => Ok(Self::Closed),
            (None, Some(path)) => match place::bind(&path) {
                Ok(socket) => Ok(Self::Listening(socket)),
                Err(error @ PlaceError::InUse { .. }) => Err(error),
                Err(error) => {
                    warn!(
                        "this process cannot be upgraded while it runs: {}",
                        with_causes(&error)
                    );
                    Ok(Self::Closed)
                }
            },
        }
    }
}

impl UpgradeService {
    /// Hands over the estate when asked to.
    pub fn new(estate: Estate, published: Arc<Published>, launch: Launch, start: Start) -> Self {
        Self {
            estate,
            published,
            launch,
            start: Mutex::new(Some(start)),
        }
    }

    /// Takes over, and returns the socket at which the next one is waited for.
    async fn take_over(&self, takeover: Takeover, path: Option<PathBuf>) -> Option<OwnedFd> {
        let lifecycle = &self.estate.lifecycle;
        match takeover.finish(lifecycle).await {
            Ok(Outcome::Ours) => {}
            Ok(Outcome::Cancelled(why)) => return self.give_up(&why).await,
            Err(error) => return self.give_up(&error.to_string()).await,
        }
        lifecycle.open_intake();
        metrics().upgrades.with_label_values(&["completed"]).inc();
        match place::replace(&path?) {
            Ok(socket) => Some(socket),
            Err(error) => {
                error!(
                    "this process cannot be upgraded while it runs: {}",
                    with_causes(&error)
                );
                None
            }
        }
    }

    /// Leaves everything to the predecessor: the store at once, and clients when they have been served.
    async fn give_up(&self, why: &str) -> Option<OwnedFd> {
        // Whatever is under way here has been promised to nobody: the Admin API is the predecessor's.
        let _hold = self.estate.gate.hold().await;
        let _paused = self.estate.door.pause().await;
        self.estate.store.lend().await;
        let why = format!("the running process goes on, and this one must not: {why}");
        self.estate.lifecycle.end(End::Failed(why));
        std::future::pending().await
    }

    /// Starts a successor whenever it is asked to by SIGUSR2, if there is where it can ask.
    async fn launch_successors(&self, can_ask: bool) {
        let Ok(mut asked) = signal(SignalKind::user_defined2())
            .inspect_err(|error| error!("cannot watch for SIGUSR2: {error}"))
        else {
            return std::future::pending().await;
        };
        while asked.recv().await.is_some() {
            match can_ask {
                true => self.launch.start(),
                false => error!("SIGUSR2: this process cannot be upgraded while it runs; see server.upgrade"),
            }
        }
    }

    async fn wait_for_successors(&self, door: &Door) {
        loop {
            let channel = match door.accept().await {
                Ok(channel) => channel,
                Err(error) => {
                    warn!("upgrade refused: {error}");
                    // Such as a lack of descriptors, which is not over at once.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let upgrade = self.published.current().source.settings.upgrade.clone();
            let deadline = upgrade.unwrap_or_default().deadline;
            let handover = self.estate.hand_over(channel, deadline);
            tokio::select! {
                handover = handover => if handover == Handover::Done { return },
                () = turn_away(door) => {}
            }
        }
    }
}

/// How long nobody is let in after one could not be.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Refuses everybody.
async fn turn_away(door: &Door) {
    loop {
        match door.accept().await {
            Ok(channel) => refuse(&channel).await,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn refuse(channel: &Channel) {
    let why = "another upgrade is under way".to_owned();
    let _ = channel.send(&Message::Refused { why }, &[]).await;
}

#[async_trait]
impl BackgroundService for UpgradeService {
    /// Runs until the process ends: a predecessor that drains has nothing left to hand over.
    async fn start(&self, _: ShutdownWatch) {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let socket = match start {
            None | Some(Start::Closed) => None,
            Some(Start::Listening(socket)) => Some(socket),
            Some(Start::TakingOver(takeover, path)) => self.take_over(*takeover, path).await,
        };
        let Some(socket) = socket else {
            return self.launch_successors(false).await;
        };
        match Door::open(socket) {
            Ok(door) => {
                info!("upgrade: waiting for a successor");
                tokio::select! {
                    () = self.wait_for_successors(&door) => {}
                    () = self.launch_successors(true) => {}
                }
            }
            Err(error) => error!("this process cannot be upgraded while it runs: {error}"),
        }
    }
}
