//! The server's side of a handshake: TLS 1.2 and 1.3 by rustls, with the certificates in force.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::tls::TlsStream;
use pingora_timeout::timeout;
use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::connection::ClientSocket;
use crate::model::TlsVersion;
use crate::snapshot::Published;

/// What clients may speak inside, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Shakes hands with clients. One for all workers, so that a session begun at one goes on at another.
pub struct Server(Acceptor);

/// A handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took longer than `server.timeouts.tls_handshake`.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// The two could not agree, or one of them was not served.
    #[error("the TLS handshake failed: {0}")]
    Failed(Box<pingora_error::Error>),
}

impl Server {
    /// Shows the certificates of the configuration in force, from this version of TLS on.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers for the keys of session tickets.
    pub fn new(published: Arc<Published>, min_version: TlsVersion) -> Result<Self, rustls::Error> {
        let versions: &[_] = match min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(published)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Tickets need no memory here. Early data stays off: it can be played again (RFC 8446 §8).
        config.ticketer = Ticketer::new()?;
        Ok(Self(Acceptor::from_server_config(Arc::new(config))))
    }

    /// Shakes hands over a client's socket.
    ///
    /// # Errors
    ///
    /// When that takes too long or fails.
    pub async fn accept(
        &self,
        socket: ClientSocket,
        limit: Duration,
    ) -> Result<TlsStream<ClientSocket>, HandshakeError> {
        match timeout(limit, self.0.tls_handshake(socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(HandshakeError::Failed(error)),
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

struct Resolver(Arc<Published>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default();
        self.0.peek(|snapshot| {
            let pair = snapshot.certificates.find(name, hello.signature_schemes())?;
            Some(pair.certified().clone())
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
