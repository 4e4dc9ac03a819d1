//! Certificates with their names, out of entities and out of files.

use std::sync::Arc;

use super::{Findings, read};
use crate::config::document as written;
use crate::config::schema::certificate::read_pair;
use crate::entity::Entity;
use crate::model::{CaCertificate, Certificate, CertificateFiles};
use crate::tls::{Authority, KeyPair};

/// Builds a certificate; its names follow it.
pub(super) fn certificate(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Certificate> {
    let (entity, snis) = from.split_first()?;
    let written = read::<written::Certificate>(&entity.values, entity, findings)?;
    let mut pairs = vec![KeyPair::parse(&written.cert, &written.key).ok()?];
    if let (Some(cert), Some(key)) = (&written.cert_alt, &written.key_alt) {
        pairs.push(KeyPair::parse(cert, key).ok()?);
    }
    let names = snis.iter().filter_map(|sni| sni.text("name"));
    let names = names.map(str::to_ascii_lowercase).collect();
    Some(Certificate::of_entity(entity.id, pairs, names))
}

/// Builds an authority's certificate.
pub(super) fn ca_certificate(from: &[Arc<Entity>], _: &mut Findings) -> Option<CaCertificate> {
    let entity = from.first()?;
    Some(CaCertificate {
        id: entity.id,
        authority: Authority::parse(entity.text("cert")?).ok()?,
    })
}

/// Takes a certificate and its key out of their files, which have been judged; `None` if they have changed
/// for the worse since.
pub(super) fn from_files(written: &written::CertificateFiles) -> Option<CertificateFiles> {
    let pair = read_pair(&written.cert_file, &written.key_file).ok()?;
    let names = match written.snis.is_empty() {
        true => pair.names().to_vec(),
        false => written
            .snis
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
    };
    Some(CertificateFiles {
        cert_file: written.cert_file.clone(),
        key_file: written.key_file.clone(),
        certificate: Arc::new(Certificate {
            id: None,
            label: written.cert_file.display().to_string(),
            pairs: vec![pair],
            names,
        }),
    })
}
