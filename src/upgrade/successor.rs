//! The process that takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::info;
use rustix::process::Pid;
use tokio::time::timeout;

use super::channel::Channel;
use super::message::{Message, PROTOCOL};
use super::sockets::Inherited;
use crate::lifecycle::{Lifecycle, Phase};

/// How long a running process may take to answer: it finishes writes of the Admin API first.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Nothing is taken over, and the running process goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// No process listens.
    #[error(
        "no process to take over from at {}; start without --upgrade, or set server.upgrade.socket as the running process has it",
        path.display()
    )]
    Nobody {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings rule it out.
    #[error(
        "there is no socket to ask for an upgrade: server.upgrade is false, or the store is in memory and server.upgrade.socket is not set"
    )]
    Off,
    /// It says no.
    #[error("the running process refuses: {0}")]
    Refused(String),
    /// It cannot be talked to.
    #[error("the running process cannot be taken over from")]
    Lost(#[from] io::Error),
}

/// What a predecessor has handed over. Until `Takeover::finish` it waits for word, and goes on with
/// everything as it was when there is none.
#[derive(Debug)]
pub struct Takeover {
    channel: (OwnedFd, Option<Pid>),
    /// The sockets that are still to be claimed.
    pub sockets: Inherited,
}

/// How a takeover ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is this process's.
    Ours,
    /// The predecessor goes on, and this process must not.
    Cancelled(String),
}

impl Takeover {
    /// Asks the process that listens at a path for its sockets.
    ///
    /// # Errors
    /// When there is none, or it does not hand them over.
    pub async fn begin(path: &Path) -> Result<Self, TakeOverError> {
        let channel = Channel::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => TakeOverError::Nobody {
                path: path.to_owned(),
                source,
            },
            _ => source.into(),
        })?;
        let hello = Message::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        channel.send(&hello, &[]).await?;
        let mut sockets = Vec::new();
        loop {
            let received = timeout(ANSWER_LIMIT, channel.receive()).await;
            match received.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                (Message::Sockets { labels, is_last }, descriptors) => {
                    if labels.len() != descriptors.len() {
                        return Err(io::Error::other("not every socket arrived").into());
                    }
                    sockets.extend(labels.into_iter().zip(descriptors));
                    if is_last {
                        break;
                    }
                }
                (Message::Refused { why } | Message::Cancelled { why }, _) => {
                    return Err(TakeOverError::Refused(why));
                }
                _ => return Err(io::Error::other("it does not keep to the protocol").into()),
            }
        }
        info!(
            "upgrade: {} sockets handed over by {}",
            sockets.len(),
            told(channel.peer())
        );
        Ok(Self {
            channel: channel.detach()?,
            sockets: Inherited::new(sockets),
        })
    }

    /// Tells the predecessor that this process is about to exit.
    pub async fn fail(self, why: String) {
        if let Ok(channel) = Channel::attach(self.channel) {
            let _ = channel.send(&Message::Failed { why }, &[]).await;
        }
    }

    /// Takes over as soon as every part has started.
    pub(super) async fn finish(self, lifecycle: &Lifecycle) -> io::Result<Outcome> {
        let channel = Channel::attach(self.channel)?;
        let peer = told(channel.peer());
        // A predecessor that has died leaves everything to this process.
        let word = |received: io::Result<(Message, Vec<OwnedFd>)>| match received {
            Ok((Message::Cancelled { why } | Message::Refused { why }, _)) => Outcome::Cancelled(why),
            Ok(_) => Outcome::Ours,
            Err(error) => {
                info!("upgrade: {peer} is gone: {error}");
                Outcome::Ours
            }
        };
        tokio::select! {
            () = lifecycle.started() => {}
            received = channel.receive() => match word(received) {
                Outcome::Ours => lifecycle.started().await,
                cancelled => return Ok(cancelled),
            }
        }
        if lifecycle.phase() == Phase::Draining {
            // Everything would be this process's, and nobody's when it has ended.
            let why = "it has been told to end".to_owned();
            let _ = channel.send(&Message::Failed { why: why.clone() }, &[]).await;
            return Ok(Outcome::Cancelled(why));
        }
        if channel.send(&Message::Ready, &[]).await.is_err() {
            return Ok(word(channel.receive().await));
        }
        let outcome = word(channel.receive().await);
        if outcome == Outcome::Ours {
            info!("upgrade: taken over from {peer}");
        }
        Ok(outcome)
    }
}

/// Names a process in the log.
pub(super) fn told(process: Option<Pid>) -> String {
    match process {
        Some(pid) => format!("process {}", pid.as_raw_nonzero()),
        None => "a process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Intake;
    use crate::upgrade::channel::{Door, listen};

    /// Finishes a takeover in this phase; returns how it ended and what the predecessor has heard.
    async fn finish(lifecycle: &Lifecycle, answer: Message) -> (Outcome, Message) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = Door::open(listen(&path).unwrap()).unwrap();
        let near = Channel::connect(&path).unwrap();
        let far = door.accept().await.unwrap();
        let takeover = Takeover {
            channel: near.detach().unwrap(),
            sockets: Inherited::new(Vec::new()),
        };
        let predecessor = async {
            let heard = far.receive().await.unwrap().0;
            let _ = far.send(&answer, &[]).await;
            heard
        };
        let (outcome, heard) = tokio::join!(takeover.finish(lifecycle), predecessor);
        (outcome.unwrap(), heard)
    }

    #[tokio::test]
    async fn a_successor_that_is_told_to_end_takes_nothing_over() {
        let lifecycle = Lifecycle::new(1, Intake::Waiting);
        lifecycle.part_started();
        let taken = finish(&lifecycle, Message::Yours).await;
        assert_eq!(taken, (Outcome::Ours, Message::Ready));
        lifecycle.drain();
        let why = "it has been told to end".to_owned();
        let (outcome, heard) = finish(&lifecycle, Message::Yours).await;
        assert_eq!(outcome, Outcome::Cancelled(why.clone()));
        assert_eq!(heard, Message::Failed { why });
    }
}
