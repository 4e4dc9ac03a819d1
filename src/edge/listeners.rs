//! Listening sockets: bound once, before anything starts, and shared by the workers.
//!
//! Pingora would bind inside each service, retry for half a minute and then panic in a task while
//! the process lives on. So sockets are bound here, where a taken port is an error of `serin run`, and
//! each worker gets a duplicate.
//!
//! Duplicates of one socket share one accept queue, from which the workers take in turn
//! ([`Spread`](super::Spread)). `SO_REUSEPORT` would give each worker its own queue, into which the kernel hashes
//! connections whether or not that worker is busy, and would let a second process bind the same
//! port unnoticed.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::model::ListenAddress;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    address: ListenAddress,
    source: io::Error,
}

impl Listener {
    /// Binds an address; port 0 takes a free one. A Unix socket's file that nobody listens on any more is
    /// replaced.
    ///
    /// # Errors
    ///
    /// When the address is taken, not this host's, or not permitted.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Inet(address) => bind_inet(*address),
            ListenAddress::Unix(path) => bind_unix(path),
        };
        let (socket, address) = bound.map_err(|source| BindError {
            address: address.clone(),
            source,
        })?;
        Ok(Self { socket, address })
    }

    /// Takes a listening socket that another process has bound.
    ///
    /// # Errors
    ///
    /// When it is not one.
    pub fn inherited(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        let path = bound.as_pathname().map(Path::to_owned).map(ListenAddress::Unix);
        let address = bound.as_socket().map(ListenAddress::Inet).or(path);
        let address = address.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { socket, address })
    }

    /// Returns a duplicate, for a worker or for another process.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn duplicate(&self) -> Result<Socket, BindError> {
        self.socket.try_clone().map_err(|source| BindError {
            address: self.address.clone(),
            source,
        })
    }

    /// Returns the address in force, with the port that was taken for 0.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Gives the socket away, for servers other than Pingora's.
    pub fn into_std(self) -> TcpListener {
        self.socket.into()
    }
}

fn bind_inet(address: SocketAddr) -> io::Result<(Socket, ListenAddress)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart may bind while old connections are in TIME_WAIT; a listener is still in the way.
    socket.set_reuse_address(true)?;
    let socket = listen(socket, &address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, ListenAddress::Inet(address)))
}

fn bind_unix(path: &Path) -> io::Result<(Socket, ListenAddress)> {
    remove_if_left_over(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let socket = listen(socket, &SockAddr::unix(path)?)?;
    Ok((socket, ListenAddress::Unix(path.to_owned())))
}

fn listen(socket: Socket, address: &SockAddr) -> io::Result<Socket> {
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket's file outlives its process. Whatever else stands there is in the way.
fn remove_if_left_over(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refuses =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    match is_socket && refuses() {
        true => std::fs::remove_file(path),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_taken(address: &ListenAddress) {
        let error = Listener::bind(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_taken_address_is_an_error_at_once() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        check_taken(first.address());
        let folder = tempfile::tempdir().unwrap();
        let address = ListenAddress::Unix(folder.path().join("socket"));
        let _first = Listener::bind(&address).unwrap();
        check_taken(&address);
    }

    #[test]
    fn a_socket_that_was_left_over_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = ListenAddress::Unix(path.clone());
        drop(Listener::bind(&address).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&address).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        check_taken(&address);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
