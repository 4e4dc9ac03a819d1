//! One end of a connection, in the clear or by TLS.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use rustls::{ServerConnection, Stream};
use socket2::SockRef;

/// Read and written by one thread, which may hold several.
#[derive(Clone)]
pub struct Wire {
    tcp: Rc<TcpStream>,
    tls: Option<Rc<RefCell<ServerConnection>>>,
}

impl Wire {
    /// Speaks in the clear, or by TLS if there is a connection for it.
    pub fn new(tcp: TcpStream, tls: Option<ServerConnection>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self {
            tcp: Rc::new(tcp),
            tls: tls.map(|tls| Rc::new(RefCell::new(tls))),
        })
    }

    /// Shakes hands and returns the name that the client asked for, also where it then hangs up. Without
    /// TLS there is nothing to do.
    pub fn shake_hands(&self) -> Option<(Option<String>, io::Result<()>)> {
        let mut tls = self.tls.as_ref()?.borrow_mut();
        let mut result = Ok(());
        while tls.is_handshaking() && result.is_ok() {
            result = tls.complete_io(&mut &*self.tcp).map(drop);
        }
        Some((tls.server_name().map(str::to_owned), result))
    }

    /// Returns the certificate that the client has shown, DER.
    pub fn client_certificate(&self) -> Option<Vec<u8>> {
        let tls = self.tls.as_ref()?.borrow();
        Some(tls.peer_certificates()?.first()?.to_vec())
    }

    /// Closes both ways.
    pub fn close(&self) -> io::Result<()> {
        self.tcp.shutdown(Shutdown::Both)
    }

    /// Makes the end of this connection a reset: what a process that died and came back answers with.
    pub fn reset(&self) -> io::Result<()> {
        SockRef::from(&*self.tcp).set_linger(Some(Duration::ZERO))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&*self.tcp).read(buffer),
            Some(tls) => Stream::new(&mut *tls.borrow_mut(), &mut &*self.tcp).read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&*self.tcp).write(bytes),
            Some(tls) => Stream::new(&mut *tls.borrow_mut(), &mut &*self.tcp).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.tls {
            None => (&*self.tcp).flush(),
            Some(tls) => Stream::new(&mut *tls.borrow_mut(), &mut &*self.tcp).flush(),
        }
    }
}
