//! A worker as Serin has it: one thread, its own connections to Targets, a duplicate of the listening socket.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::{Service, listening};
use pingora_proxy::{HttpProxy, http_proxy};
use socket2::{Domain, Protocol, Type};

use crate::forward::Forward;

/// Serin's, see its `edge/worker.rs`, `edge/listeners.rs` and the default of `requests_per_connection`.
const READ_BUFFER: usize = 8 * 1024;
const BACKLOG: i32 = 65_535;
const REQUESTS_PER_CONNECTION: u32 = 10_000;

/// The listening socket, which all workers accept from.
pub(crate) fn bind(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A worker of the proxy.
pub(crate) struct Worker {
    service: listening::Service<Edge>,
    sockets: ListenFds,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        conf: &Arc<ServerConf>,
        forward: Forward,
        socket: &socket2::Socket,
        tls: Option<Arc<Acceptor>>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION - 1);
        let mut proxy = http_proxy(conf, forward);
        proxy.server_options = Some(options);
        let edge = Edge {
            proxy: Arc::new(proxy),
            tls,
        };
        let address = socket.local_addr()?.as_socket().ok_or("no address")?.to_string();
        let buffer = L4BufferSettings::default().read(READ_BUFFER);
        let mut service = listening::Service::new(format!("worker {number}"), edge);
        service.add_listener(ListenerConfig::tcp(address.clone()).l4_buffer(buffer));
        let mut sockets = Fds::new();
        sockets.add(address, OwnedFd::from(socket.try_clone()?).into_raw_fd());
        Ok(Self {
            service,
            sockets: Arc::new(Mutex::new(sockets)),
        })
    }
}

#[async_trait]
impl Service for Worker {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let sockets = Some(self.sockets.clone());
        self.service
            .start_service(sockets, shutdown, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Pingora's proxy, after a handshake where there is a certificate.
struct Edge {
    proxy: Arc<HttpProxy<Forward>>,
    tls: Option<Arc<Acceptor>>,
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(tls) = &self.tls else {
            return self.proxy.process_new(stream, shutdown).await;
        };
        let socket = stream.into_any().downcast::<Socket>().ok()?;
        let secure = tls.tls_handshake(*socket).await.ok()?;
        let mut stream: Option<Stream> = Some(Box::new(secure));
        while let Some(open) = stream {
            stream = self.proxy.process_new(open, shutdown).await;
        }
        None
    }
}
