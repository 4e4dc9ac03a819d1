//! A certificate with its private key, checked to belong together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// A chain of certificates and the private key of the first.
#[derive(Clone)]
pub struct KeyPair {
    certified: Arc<CertifiedKey>,
    key: Arc<PrivateKeyDer<'static>>,
    names: Vec<String>,
    expires_at: Duration,
}

/// What a key signs with. A client may know one kind and not the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA or Ed25519.
    Elliptic,
}

/// A certificate and a key that are of no use together. The texts are Kong's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// There is no certificate, or one that cannot be read.
    #[error(
        "invalid certificate: expected PEM, -----BEGIN CERTIFICATE----- and so on, the server's own first"
    )]
    Certificate,
    /// There is no key, or one that cannot be read.
    #[error(
        "invalid key: expected PEM of an RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519 key, without a passphrase"
    )]
    Key,
    /// The key is another certificate's.
    #[error("certificate does not match key")]
    Mismatch,
}

impl KeyPair {
    /// Reads a chain and a key, both PEM.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read, or they do not belong together.
    pub fn parse(certificates: &str, key: &str) -> Result<Self, PairError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| PairError::Certificate)?;
        let own = chain.first().ok_or(PairError::Certificate)?;
        let (names, expires_at) = read_certificate(own).ok_or(PairError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PairError::Key)?;
        let signing = any_supported_type(&key).map_err(|_| PairError::Key)?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(PairError::Mismatch),
            Err(_) => return Err(PairError::Certificate),
        }
        Ok(Self {
            certified: Arc::new(certified),
            key: Arc::new(key),
            names,
            expires_at,
        })
    }

    /// Returns what a handshake shows and signs with.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Returns the private key, DER, for the side of a handshake that Pingora makes.
    pub fn secret_der(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// Returns the DNS names that the certificate is for, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns until when the certificate is valid, since 1970.
    pub fn expires_at(&self) -> Duration {
        self.expires_at
    }

    /// Returns what the key signs with.
    pub fn kind(&self) -> KeyKind {
        match self.certified.key.algorithm() {
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            _ => KeyKind::Elliptic,
        }
    }

    /// Says whether the key can sign in one of these ways.
    pub fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.certified.key.choose_scheme(schemes).is_some()
    }
}

/// Reads the DNS names and the end of validity.
fn read_certificate(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, Duration)> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let names = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.as_slice(),
        _ => &[],
    };
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let expires_at = certificate.validity().not_after.timestamp();
    let expires_at = Duration::from_secs(u64::try_from(expires_at).unwrap_or(0));
    Some((dns.collect(), expires_at))
}

/// Without the key.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// By the certificates: two keys of one certificate are one key.
impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    /// Makes a certificate for names and its key, both PEM.
    pub(crate) fn made(names: &[&str]) -> (String, String) {
        made_with(names, &PKCS_ECDSA_P256_SHA256, 4000)
    }

    /// The same, with a certificate that is good until a year begins.
    pub(crate) fn made_until(year: i32, names: &[&str]) -> (String, String) {
        made_with(names, &PKCS_ECDSA_P256_SHA256, year)
    }

    /// Makes the certificate of an authority, PEM.
    pub(crate) fn authority() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        pem("CERTIFICATE", certificate.der())
    }

    fn made_with(
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        year: i32,
    ) -> (String, String) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        (
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        )
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    #[test]
    fn a_pair_knows_its_names_its_end_and_its_kind() {
        let (certificate, key) = made(&["Shop.example", "*.shop.example"]);
        let pair = KeyPair::parse(&certificate, &key).unwrap();
        assert_eq!(pair.names(), ["shop.example", "*.shop.example"]);
        assert_eq!(pair.kind(), KeyKind::Elliptic);
        assert!(pair.expires_at() > Duration::from_secs(1 << 31));
        assert!(pair.can_sign(&[SignatureScheme::ECDSA_NISTP256_SHA256]));
        assert!(!pair.can_sign(&[SignatureScheme::RSA_PSS_SHA256]));
        let (certificate, key) = made_with(&["a.example"], &PKCS_ED25519, 4000);
        assert_eq!(
            KeyPair::parse(&certificate, &key).unwrap().kind(),
            KeyKind::Elliptic
        );
    }

    #[test]
    fn what_is_of_no_use_says_why() {
        let (certificate, key) = made(&["a.example"]);
        let (other, _) = made(&["a.example"]);
        let check = |certificate: &str, key: &str| KeyPair::parse(certificate, key).unwrap_err();
        assert_eq!(check("", &key), PairError::Certificate);
        assert_eq!(check("no PEM", &key), PairError::Certificate);
        assert_eq!(
            check(&certificate.replace("MI", "XX"), &key),
            PairError::Certificate
        );
        assert_eq!(check(&key, &key), PairError::Certificate);
        assert_eq!(check(&certificate, ""), PairError::Key);
        assert_eq!(check(&certificate, &certificate), PairError::Key);
        assert_eq!(check(&other, &key), PairError::Mismatch);
    }

    #[test]
    fn a_key_is_not_shown() {
        let (certificate, key) = made(&["a.example"]);
        let shown = format!("{:?}", KeyPair::parse(&certificate, &key).unwrap());
        assert_eq!(shown, r#"KeyPair { names: ["a.example"], .. }"#);
    }
}
