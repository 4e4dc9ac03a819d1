//! The certificate of an authority that origins are verified by.

use std::fmt::Write;

use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use crate::clock;

/// An authority's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority(CertificateDer<'static>);

/// A text is not the certificate of an authority. The texts are Kong's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read.
    #[error("invalid certificate: expected PEM, -----BEGIN CERTIFICATE----- and so on")]
    Unreadable,
    /// There are several.
    #[error("please submit only one certificate at a time")]
    Several,
    /// Its time is over.
    #[error("certificate expired, \"Not After\" time is in the past")]
    Expired,
    /// It may sign no others.
    #[error("certificate does not appear to be a CA because it is missing the \"CA\" basic constraint")]
    NoAuthority,
}

impl Authority {
    /// Reads exactly one certificate, PEM.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is one of several, or is no authority's.
    pub fn parse(pem: &str) -> Result<Self, AuthorityError> {
        let all: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| AuthorityError::Unreadable)?;
        let [one] = &all[..] else {
            return Err(match all.is_empty() {
                true => AuthorityError::Unreadable,
                false => AuthorityError::Several,
            });
        };
        let (_, parsed) = parse_x509_certificate(one).map_err(|_| AuthorityError::Unreadable)?;
        let constraints = parsed.basic_constraints().ok().flatten();
        if !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(AuthorityError::NoAuthority);
        }
        let expires_at = parsed.validity().not_after.timestamp();
        if u64::try_from(expires_at).unwrap_or(0) < clock::unix().as_secs() {
            return Err(AuthorityError::Expired);
        }
        RootCertStore::empty()
            .add(one.clone())
            .map_err(|_| AuthorityError::Unreadable)?;
        Ok(Self(one.clone()))
    }

    /// Returns the certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Returns the SHA-256 of the certificate in hexadecimal digits.
    pub fn digest(&self) -> String {
        let digest = digest(&SHA256, &self.0);
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{authority, made};

    #[test]
    fn one_certificate_of_an_authority_is_taken() {
        let text = authority();
        let digest = Authority::parse(&text).unwrap().digest();
        assert!(
            digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{digest}"
        );
        for (text, error) in [
            (String::new(), AuthorityError::Unreadable),
            ("no PEM".to_owned(), AuthorityError::Unreadable),
            (text.clone() + &authority(), AuthorityError::Several),
            (made(&["a.example"]).0, AuthorityError::NoAuthority),
        ] {
            assert_eq!(Authority::parse(&text), Err(error));
        }
    }
}
