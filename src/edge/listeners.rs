//! Listening sockets: bound once, before anything starts, and shared by the workers.
//!
//! Pingora would bind inside each service, retry for half a minute and then panic in a task while
//! the process lives on; and it would hand two services on one address the same descriptor, which
//! both close. So sockets are bound here, where a taken port is an error of `serin run`, and each
//! worker gets a duplicate of its own in a descriptor table of its own.
//!
//! Duplicates of one socket share one accept queue, so whichever worker is idle takes the next
//! connection. `SO_REUSEPORT` would give each worker its own queue, into which the kernel hashes
//! connections whether or not that worker is busy, and would let a second process bind the same
//! port unnoticed.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};

use pingora_core::server::Fds;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address is taken, not this host's, or not permitted.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let socket = (|| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart may bind while old connections are in TIME_WAIT; a listener is still in the way.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(TcpListener::from(socket))
        })()
        .map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Takes a listening socket that another process has bound.
    ///
    /// # Errors
    ///
    /// When it is not one.
    pub fn inherited(socket: OwnedFd) -> std::io::Result<Self> {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Returns a duplicate, for another process.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn duplicate(&self) -> std::io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Returns the address in force, with the port that was taken for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the socket away, for servers other than Pingora's.
    pub fn into_std(self) -> TcpListener {
        self.socket
    }

    /// Puts a duplicate into a table from which a Pingora service takes its sockets by name.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn add_duplicate(&self, table: &mut Fds) -> Result<(), BindError> {
        let duplicate = self.socket.try_clone().map_err(|source| BindError {
            address: self.address,
            source,
        })?;
        table.add(self.address.to_string(), duplicate.into_raw_fd());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_at_once() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind(first.address()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {}", first.address()));
        assert!(std::error::Error::source(&error).is_some());
    }
}
