//! Taking connections off a listening socket.

use std::io;
use std::time::Duration;

use log::{error, info};
use pingora_core::protocols::l4::stream::Stream as Transport;
use pingora_core::protocols::{GetSocketDigest, SocketDigest, Stream, UniqueID};
use pingora_core::server::ShutdownWatch;
use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
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
    pub async fn run(self, mut shutdown: ShutdownWatch, serve: impl Fn(Stream, Taken)) {
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
                        Ok(accepted) => accepted.and_then(|(socket, peer)| open(socket, &peer)),
                        Err(_) => continue,
                    }
                }
                Err(error) => Err(error),
            };
            match accepted {
                Ok(stream) => serve(stream, self.share.take()),
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

/// Says whether an error is one of the connection, which its client has given up.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn open(socket: Socket, peer: &SockAddr) -> io::Result<Stream> {
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket();
    let stream = match peer {
        Some(_) => {
            socket.set_tcp_nodelay(true)?;
            Transport::from(TcpStream::from_std(socket.into())?)
        }
        None => Transport::from(UnixStream::from_std(socket.into())?),
    };
    let mut stream = ClientSocket::new(stream);
    let digest = SocketDigest::from_raw_fd(stream.id());
    // It is new, so its peer has not been found out yet.
    let _ = digest.peer_addr.set(peer.map(Into::into));
    stream.set_socket_digest(digest);
    Ok(Box::new(stream))
}
