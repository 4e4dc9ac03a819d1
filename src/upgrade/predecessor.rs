//! The process that hands over, and goes on as if nothing had been when its successor does not come up.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{sleep, timeout};

use super::channel::{BATCH, Channel};
use super::message::{Label, Message, PROTOCOL, Role};
use super::sockets::{Held, batches};
use super::successor::told;
use crate::admin::{Forward, Gate, Hold, forward_pair};
use crate::config::reload::with_causes;
use crate::control::{Door, Paused};
use crate::lifecycle::{End, Lifecycle, Phase};
use crate::metrics::metrics;
use crate::store::{Store, StoreError};

/// How long a successor may take for its first word.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long a successor that is to exit may take, until it is killed: what it has accepted is served first.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// How often it is tried to take the store back.
const RECLAIM_EVERY: Duration = Duration::from_millis(20);
/// How long that is tried: until a successor that has been killed is certainly gone.
const RECLAIM_LIMIT: Duration = Duration::from_secs(10);

/// What is handed over, and what is held up meanwhile.
#[derive(Debug)]
pub struct Estate {
    /// The listening sockets.
    pub sockets: Arc<Held>,
    /// Where requests of the Admin API wait.
    pub gate: Arc<Gate>,
    /// Where changes of every origin go through.
    pub door: Door,
    /// What the successor opens.
    pub store: Arc<dyn Store>,
    /// What a hand-over ends.
    pub lifecycle: Arc<Lifecycle>,
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// The other process has taken over; this one drains.
    Done,
    /// This process goes on.
    GoesOn,
}

/// What stands still while the store is lent.
struct Frozen {
    requests: Hold,
    changes: Paused,
}

impl Estate {
    /// Talks to a process that has knocked. It has `deadline` to come up, from when it has the sockets.
    pub(super) async fn hand_over(&self, channel: Channel, deadline: Duration) -> Handover {
        let peer = told(channel.peer());
        if let Err(why) = self.hear(&channel).await {
            warn!("upgrade refused to {peer}: {why}");
            let _ = channel.send(&Message::Refused { why }, &[]).await;
            return Handover::GoesOn;
        }
        // While the process cannot have ended, so that its number means no other one.
        let process = Process::open(channel.peer());
        let Some(frozen) = self.freeze().await else {
            let why = "the running process is about to end".to_owned();
            let _ = channel.send(&Message::Refused { why }, &[]).await;
            return Handover::GoesOn;
        };
        info!("upgrade: handing over to {peer}, which has {deadline:?} to start");
        let given = match timeout(deadline, self.give(&channel)).await {
            Ok(given) => given,
            Err(_) => Err(format!("it has not started within {deadline:?}")),
        };
        let given = match given {
            // From here on the successor has everything.
            Ok(forward) => match channel.send(&Message::Yours, &[]).await {
                Ok(()) => Ok(forward),
                Err(error) => Err(format!("it is gone: {error}")),
            },
            Err(why) => Err(why),
        };
        match given {
            Ok(forward) => {
                self.gate.leave(frozen.requests, forward);
                // Standing still for good, the control thread changes nothing any more.
                drop(frozen.changes);
                info!("upgrade: {peer} has taken over");
                self.lifecycle.end(End::HandedOver);
                Handover::Done
            }
            Err(why) => {
                let cancelled = Message::Cancelled { why: why.clone() };
                let _ = channel.send(&cancelled, &[]).await;
                drop(channel);
                tokio::spawn(process.end());
                self.go_on(frozen).await;
                metrics().upgrades.with_label_values(&["failed"]).inc();
                error!("upgrade to {peer} failed, this process goes on: {why}");
                Handover::GoesOn
            }
        }
    }

    /// Hears who knocks, and says why not.
    async fn hear(&self, channel: &Channel) -> Result<(), String> {
        let hello = timeout(HELLO_LIMIT, channel.receive()).await;
        match hello.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((
                Message::Hello {
                    protocol: PROTOCOL, ..
                },
                _,
            )) => {}
            Ok((Message::Hello { protocol, version }, _)) => {
                return Err(format!(
                    "version {version} speaks protocol {protocol} for upgrades, and version {} speaks {PROTOCOL}; stop it and start the other one",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            Ok(_) => return Err("it does not keep to the protocol".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        match self.lifecycle.phase() {
            Phase::Ready => Ok(()),
            phase => Err(format!("the running process is {}", phase.label())),
        }
    }

    /// Holds everything up that the store is needed for, and lends that.
    async fn freeze(&self) -> Option<Frozen> {
        // First the requests: those under way need the control thread to end.
        let requests = self.gate.hold().await;
        let changes = self.door.pause().await?;
        self.store.lend().await;
        Some(Frozen { requests, changes })
    }

    /// Gives the sockets away and waits until the successor serves.
    async fn give(&self, channel: &Channel) -> Result<Forward, String> {
        let failed = |error: io::Error| format!("cannot hand the sockets over: {error}");
        let (forward, far) = forward_pair().map_err(failed)?;
        let mut sockets = self.sockets.duplicates().map_err(failed)?;
        let label = Label {
            role: Role::Forward,
            address: String::new(),
        };
        sockets.push((label, OwnedFd::from(far)));
        let mut left = sockets.len();
        for (labels, descriptors) in batches(&sockets, BATCH) {
            left -= labels.len();
            let message = Message::Sockets {
                labels,
                is_last: left == 0,
            };
            channel.send(&message, &descriptors).await.map_err(failed)?;
        }
        // The other end of the pair is the successor's alone, so that its end is noticed.
        drop(sockets);
        match channel.receive().await {
            Ok((Message::Ready, _)) => Ok(forward),
            Ok((Message::Failed { why }, _)) => Err(why),
            Ok(_) => Err("it does not keep to the protocol".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("it has ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes everything back.
    async fn go_on(&self, frozen: Frozen) {
        let reclaimed = timeout(RECLAIM_LIMIT, async {
            loop {
                match self.store.reclaim().await {
                    Err(StoreError::Locked { .. }) => sleep(RECLAIM_EVERY).await,
                    result => return result,
                }
            }
        });
        match reclaimed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("nothing can be changed: {}", with_causes(&error)),
            Err(_) => error!("nothing can be changed: the other process still has the store"),
        }
        frozen.changes.resume().await;
        drop(frozen.requests);
    }
}

/// A process, whatever becomes of its number.
struct Process(Option<OwnedFd>);

impl Process {
    fn open(process: Option<Pid>) -> Self {
        Self(process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    /// Sees to it that it ends.
    async fn end(self) {
        let Some(process) = self.0 else { return };
        let wait_or_kill = move || {
            let limit = Timespec::try_from(EXIT_LIMIT).ok();
            let mut ends = [PollFd::new(&process, PollFlags::IN)];
            if matches!(poll(&mut ends, limit.as_ref()), Ok(0)) {
                warn!("upgrade: the other process does not end, and is killed");
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        };
        // On a thread of its own, since it blocks.
        let _ = tokio::task::spawn_blocking(wait_or_kill).await;
    }
}
