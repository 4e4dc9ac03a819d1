//! The authorities of the system, by which origins are verified that a Service names no others for.
//!
//! Pingora reads them for each of its connectors, whether or not one will ever speak TLS, and panics where it
//! cannot. So they are read once before, to say what is wrong.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use pingora_rustls::{RootCertStore, load_platform_certs_incl_env_into_store};

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORY: &str = "SSL_CERT_DIR";

/// The authorities of the system cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the certificate authorities {}", shown(.variables))]
pub struct SystemAuthoritiesError {
    /// What the environment says of them.
    variables: Vec<(&'static str, PathBuf)>,
    source: Box<dyn Error + Send + Sync>,
}

impl SystemAuthoritiesError {
    /// Returns a way out.
    pub fn hint(&self) -> &'static str {
        match self.variables.is_empty() {
            true => {
                "every connection to an origin is prepared for TLS: repair the system's certificates (package ca-certificates), or name a file of PEM certificates in SSL_CERT_FILE"
            }
            false => {
                "every connection to an origin is prepared for TLS: correct the variable, which replaces the system's authorities, or unset it to use those"
            }
        }
    }
}

/// Says whether Pingora will be able to read the authorities of the system.
///
/// # Errors
///
/// When it will not: a file or a directory cannot be read, or holds what is no certificate.
pub fn check_system_authorities() -> Result<(), SystemAuthoritiesError> {
    load_platform_certs_incl_env_into_store(&mut RootCertStore::empty()).map_err(|mut error| {
        let variables = [FILE, DIRECTORY].map(|name| Some((name, env::var_os(name)?.into())));
        SystemAuthoritiesError {
            variables: variables.into_iter().flatten().collect(),
            source: error.cause.take().unwrap_or(error),
        }
    })
}

fn shown(variables: &[(&'static str, PathBuf)]) -> String {
    let named: Vec<String> = variables
        .iter()
        .map(|(name, path)| format!("{name}={}", path.display()))
        .collect();
    match named.is_empty() {
        true => "of the system".to_owned(),
        false => format!("that the environment names, {}", named.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: Vec<(&'static str, PathBuf)>, message: &str, hint: &str) {
        let source = "unreadable".into();
        let error = SystemAuthoritiesError { variables, source };
        assert_eq!(error.to_string(), message);
        assert!(error.hint().contains(hint), "{}", error.hint());
    }

    #[test]
    fn the_variable_or_the_system_is_named() {
        check(
            Vec::new(),
            "cannot read the certificate authorities of the system",
            "ca-certificates",
        );
        check(
            vec![(FILE, "a.pem".into()), (DIRECTORY, "certs".into())],
            "cannot read the certificate authorities that the environment names, SSL_CERT_FILE=a.pem and SSL_CERT_DIR=certs",
            "unset it",
        );
    }
}
