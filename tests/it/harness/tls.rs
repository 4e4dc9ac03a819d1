//! Certificates, made anew for each test, and a client that speaks TLS.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
};
use x509_parser::parse_x509_certificate;

use super::message::{Head, read_response_body};
use super::{HANG_LIMIT, Request, Response};

/// A certificate authority of the test's own, which nobody trusts who is not told to.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes an authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Returns its certificate as PEM, to be trusted.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// Makes a certificate for these names and its key, both PEM.
    pub fn pair(&self, names: &[&str]) -> (String, String) {
        as_pem(&self.make(names, |_| {}))
    }

    /// The same under this serial number, which a real authority would give to one certificate only.
    pub fn numbered_pair(&self, names: &[&str], serial: u64) -> (String, String) {
        let number = |params: &mut CertificateParams| params.serial_number = Some(SerialNumber::from(serial));
        as_pem(&self.make(names, number))
    }

    /// The same with an RSA key, which is always the same one: such a key takes long to make.
    pub fn rsa_pair(&self, names: &[&str]) -> (String, String) {
        let key = include_str!("../../data/keys/rsa.pem");
        let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let certificate = self.sign(names, &KeyPair::try_from(&der).unwrap(), |_| {});
        (pem("CERTIFICATE", certificate.der()), key.to_owned())
    }

    fn make(
        &self,
        names: &[&str],
        more: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (self.sign(names, &key, more), key)
    }

    fn sign(
        &self,
        names: &[&str],
        key: &KeyPair,
        more: impl FnOnce(&mut CertificateParams),
    ) -> rcgen::Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        more(&mut params);
        params.signed_by(key, &self.0).unwrap()
    }

    /// Makes what a client needs that trusts this authority, and offers these protocols inside.
    pub fn client(
        &self,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    /// Makes what a server needs that goes by these names and addresses.
    pub(super) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        configure(self.make(names, |_| {}), WebPkiClientVerifier::no_client_auth())
    }

    /// The same with a certificate that was good for the first day of 2020.
    pub(super) fn expired_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let expire = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        };
        configure(self.make(names, expire), WebPkiClientVerifier::no_client_auth())
    }

    /// Makes what a server needs that insists on a certificate of this authority.
    pub(super) fn mutual_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        configure(self.make(names, |_| {}), verifier.build().unwrap())
    }
}

fn configure(
    (certificate, key): (rcgen::Certificate, KeyPair),
    verifier: Arc<dyn ClientCertVerifier>,
) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    // Named, because a process may have more than one provider and none is the default by itself.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key.into());
    Arc::new(config.unwrap())
}

fn as_pem((certificate, key): &(rcgen::Certificate, KeyPair)) -> (String, String) {
    (
        pem("CERTIFICATE", certificate.der()),
        pem("PRIVATE KEY", &key.serialize_der()),
    )
}

/// Reads a certificate in PEM.
pub fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A connection by TLS, with HTTP/1.1 inside.
pub struct TlsClient(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl TlsClient {
    /// Connects and shakes hands.
    pub fn connect(to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::connect_after(b"", to, name, config)
    }

    /// Connects, sends bytes ahead of everything else, and shakes hands.
    pub fn connect_after(
        ahead: &[u8],
        to: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(to)?;
        tcp.set_nodelay(true)?;
        tcp.write_all(ahead)?;
        tcp.set_read_timeout(Some(HANG_LIMIT))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(config.clone(), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self(BufReader::new(StreamOwned::new(tls, tcp))))
    }

    /// Returns the serial number of the certificate that was shown.
    pub fn serial(&self) -> String {
        let chain = self.0.get_ref().conn.peer_certificates().unwrap();
        let (_, certificate) = parse_x509_certificate(&chain[0]).unwrap();
        certificate.tbs_certificate.raw_serial_as_string()
    }

    /// Sends a request and reads the answer.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.0.get_mut().write_all(&request.to_bytes())?;
        let Head { start, headers } = Head::read(&mut self.0)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = read_response_body(&mut self.0, &headers)?;
        Ok(Response {
            status: start["HTTP/1.1 ".len()..][..3].parse().unwrap(),
            headers,
            body,
        })
    }
}

/// Returns the serial number of a certificate in PEM.
pub fn serial(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.parse_x509().unwrap().tbs_certificate.raw_serial_as_string()
}
