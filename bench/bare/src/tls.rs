//! TLS as Serin has it: rustls with ring, TLS 1.2 and 1.3, HTTP/2 or HTTP/1.1, sessions resumed by tickets.

use std::error::Error;
use std::sync::Arc;

use pingora_core::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Shows the certificate of these files to everybody.
pub(crate) fn acceptor(certificate: &str, key: &str) -> Result<Acceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(Acceptor::from_server_config(Arc::new(config)))
}
