//! Messages, with descriptors, between two processes of this host.
//!
//! The socket is of the type SEQPACKET: it keeps messages apart, so that descriptors stay with the message
//! that names them. Whatever did not arrive whole is an error: a socket that is lost unnoticed would be an
//! address that nobody serves any more.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, geteuid};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use super::message::Message;

/// Descriptors that go with one message. The kernel takes 253.
pub(super) const BATCH: usize = 64;
/// Bytes of the longest message: a batch of labels takes a tenth of it.
const MAX_BYTES: usize = 64 * 1024;
/// Processes that may wait to be talked to.
const BACKLOG: i32 = 8;

/// One end of a conversation. It is a stream by name only: the type of the socket is its own.
#[derive(Debug)]
pub(super) struct Channel {
    socket: UnixStream,
    peer: Option<Pid>,
}

/// Where successors knock.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Listens at a path where there is nothing.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Says whether a process listens at a path.
pub(super) fn is_answered(path: &Path) -> bool {
    let connect = || -> io::Result<()> { Ok(rustix::net::connect(socket()?, &SocketAddrUnix::new(path)?)?) };
    // One that has no room for another conversation listens, too.
    connect().map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
}

impl Door {
    /// Opens what listens.
    pub(super) fn open(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixListener::from_std(socket.into())?))
    }

    /// Waits for the next one that knocks.
    pub(super) async fn accept(&self) -> io::Result<Channel> {
        let (socket, _) = self.0.accept().await?;
        Channel::new(socket)
    }
}

impl Channel {
    /// Knocks at the door of a path.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::new(UnixStream::from_std(socket.into())?)
    }

    fn new(socket: UnixStream) -> io::Result<Self> {
        let peer = socket_peercred(&socket)?;
        if peer.uid != geteuid() && !peer.uid.is_root() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the other process belongs to user {}", peer.uid.as_raw()),
            ));
        }
        let peer = (peer.pid.as_raw_nonzero().get() > 0).then_some(peer.pid);
        Ok(Self { socket, peer })
    }

    /// Returns the other process; `None` when it is not one that can be seen from here.
    pub(super) fn peer(&self) -> Option<Pid> {
        self.peer
    }

    /// Takes the conversation out of one runtime.
    pub(super) fn detach(self) -> io::Result<(OwnedFd, Option<Pid>)> {
        Ok((self.socket.into_std()?.into(), self.peer))
    }

    /// Goes on with it in another one.
    pub(super) fn attach((socket, peer): (OwnedFd, Option<Pid>)) -> io::Result<Self> {
        Ok(Self {
            socket: UnixStream::from_std(socket.into())?,
            peer,
        })
    }

    /// Sends a message with up to [`BATCH`] descriptors.
    pub(super) async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("too many descriptors for one message"));
            }
            let parts = [IoSlice::new(&text)];
            let sent = rustix::net::sendmsg(&self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
            match sent == text.len() {
                true => Ok(()),
                false => Err(io::Error::other("a message was cut")),
            }
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Waits for a message; `UnexpectedEof` when the other side is gone.
    pub(super) async fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let receive = || receive(self.socket.as_fd());
        self.socket.async_io(Interest::READABLE, receive).await
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<(Message, Vec<OwnedFd>)> {
    let mut text = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let why =
            "not every socket arrived: this process may open too few files; raise its limit (ulimit -n)";
        return Err(io::Error::other(why));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a message was cut"));
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = serde_json::from_slice(&text[..received.bytes]).map_err(io::Error::other)?;
    Ok((message, descriptors))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::message::{Label, Role};
    use super::*;

    async fn pair(path: &Path) -> (Channel, Channel) {
        let door = Door::open(listen(path).unwrap()).unwrap();
        let near = Channel::connect(path).unwrap();
        (near, door.accept().await.unwrap())
    }

    #[tokio::test]
    async fn descriptors_arrive_with_the_message_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let (near, far) = pair(&folder.path().join("door")).await;
        let sockets: Vec<TcpListener> = (0..BATCH)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let label = |socket: &TcpListener| Label {
            role: Role::Proxy,
            address: socket.local_addr().unwrap().to_string(),
        };
        let message = Message::Sockets {
            labels: sockets.iter().map(label).collect(),
            is_last: true,
        };
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        near.send(&message, &descriptors).await.unwrap();
        near.send(&Message::Ready, &[]).await.unwrap();
        drop(near);
        let (received, descriptors) = far.receive().await.unwrap();
        assert_eq!(received, message);
        let arrived: Vec<Label> = descriptors
            .into_iter()
            .map(|descriptor| label(&TcpListener::from(descriptor)))
            .collect();
        assert_eq!(
            Message::Sockets {
                labels: arrived,
                is_last: true
            },
            message
        );
        let (received, descriptors) = far.receive().await.unwrap();
        assert_eq!((received, descriptors.len()), (Message::Ready, 0));
        let end = far.receive().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn the_other_side_is_known_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let (near, far) = pair(&folder.path().join("door")).await;
        let own = Some(rustix::process::getpid());
        assert_eq!((near.peer(), far.peer()), (own, own));
    }
}
