//! What clients that come by TLS are shown.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::tls::{Authority, KeyPair};

/// A certificate with its private key, perhaps twice: with an RSA key and with one on an elliptic curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Identity of the entity; `None` for one in files.
    pub id: Option<Uuid>,
    /// What metrics and logs call it: the id of the entity, or the path of the file.
    pub label: String,
    /// One pair, or two of different kinds.
    pub pairs: Vec<KeyPair>,
    /// Names by which clients ask for it, in lower case: exact, with a wildcard for the first or last label, or
    /// `*` for all others.
    pub names: Vec<String>,
}

/// A certificate in two files.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFiles {
    /// The chain.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
    /// What they held when they were read.
    pub certificate: Arc<Certificate>,
}

impl Certificate {
    /// Says whether both have a key of one kind, so that no client needs the second.
    pub fn has_kind_of(&self, other: &Self) -> bool {
        let has = |kind| self.pairs.iter().any(|pair| pair.kind() == kind);
        other.pairs.iter().any(|pair| has(pair.kind()))
    }

    /// Makes the certificate of an entity.
    pub fn of_entity(id: Uuid, pairs: Vec<KeyPair>, names: Vec<String>) -> Self {
        Self {
            id: Some(id),
            label: id.to_string(),
            pairs,
            names,
        }
    }
}

/// The certificate of an authority.
#[derive(Debug, Clone, PartialEq)]
pub struct CaCertificate {
    /// Identity.
    pub id: Uuid,
    /// The certificate.
    pub authority: Authority,
}

/// The earliest version of TLS that clients may speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}
