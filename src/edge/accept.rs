//! Taking connections off a listening socket.

use std::io;
use std::time::Duration;

use log::{debug, error, info};
use pingora_core::server::ShutdownWatch;
use rustix::io::Errno;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::spread::{Share, Taken};
use crate::connection::ClientSocket;

/// How long nothing is taken after the system had no descriptor or memory left for one.
const REST: Duration = Duration::from_secs(1);

/// A worker's part of a listening socket.
pub(super) struct Acceptor {
    socket: Socket,
    name: String,
    share: Share,
}

impl Acceptor {
    pub fn new(socket: Socket, name: String, share: Share) -> Self {
        Self { socket, name, share }
    }

    /// Hands each connection to `serve`, until the process is to end.
    pub async fn run(self, mut shutdown: ShutdownWatch, serve: impl Fn(ClientSocket, Taken)) {
        #[expect(
            deprecated,
            reason = "what is named instead needs unsafe code; a socket keeps its descriptor"
        )]
        let socket = match AsyncFd::with_interest(self.socket, Interest::READABLE) {
            Ok(socket) => socket,
            Err(error) => {
                error!("{}: no connection can be waited for: {error}", self.name);
                return;
            }
        };
        while !*shutdown.borrow_and_update() {
            let ready = tokio::select! {
                changed = shutdown.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                ready = socket.readable() => ready,
            };
            let accepted = match ready {
                Ok(mut ready) => {
                    self.share.turn().await;
                    // Another worker may have been faster.
                    match ready.try_io(|socket| socket.get_ref().accept()) {
                        Ok(accepted) => accepted,
                        Err(_) => continue,
                    }
                }
                Err(error) => Err(error),
            };
            match accepted {
                Ok((socket, peer)) => match ClientSocket::new(socket, peer.as_socket()) {
                    Ok(socket) => serve(socket, self.share.take()),
                    Err(error) => debug!("{}: a connection is lost: {error}", self.name),
                },
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    error!("{}: no connection can be taken: {error}", self.name);
                    sleep(REST).await;
                }
            }
        }
        info!("{}: no more connections are taken", self.name);
    }
}

/// Says whether an error is that of one connection: its client has given it up, or the network is in its way.
/// After those the next one is to be taken at once (accept(2), "Error handling").
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_makes_nobody_wait_and_a_lack_of_descriptors_does() {
        for (errno, is_lost) in [
            (Errno::CONNABORTED, true),
            (Errno::PROTO, true),
            (Errno::HOSTUNREACH, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOMEM, false),
        ] {
            assert_eq!(is_of_connection(&errno.into()), is_lost, "{errno}");
        }
    }
}
