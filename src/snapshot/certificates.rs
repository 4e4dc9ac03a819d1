//! Which certificate a client is shown, by the name it asks for.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use rustls::SignatureScheme;

use crate::model::Certificate;
use crate::tls::{KeyKind, KeyPair};

/// The name of what is shown to whoever asks for none, or for one that nobody has.
const DEFAULT: &str = "*";

/// Certificates by name.
#[derive(Debug, Default)]
pub struct Certificates {
    by_name: HashMap<Box<str>, Arc<Certificate>, RandomState>,
}

impl Certificates {
    /// Compiles certificates. Of two that have one name the first has it; without one for `*`, the first of
    /// `in_files` stands for it, as an operator who gives a file expects it to be shown.
    pub(super) fn build<'a>(
        in_files: impl Iterator<Item = &'a Arc<Certificate>> + Clone,
        of_entities: impl Iterator<Item = &'a Arc<Certificate>>,
    ) -> Self {
        let mut certificates = Self::default();
        let default = in_files.clone().next().cloned();
        for certificate in of_entities.chain(in_files) {
            for name in &certificate.names {
                let by_name = &mut certificates.by_name;
                by_name
                    .entry(name.as_str().into())
                    .or_insert_with(|| certificate.clone());
            }
        }
        if let Some(default) = default {
            certificates.by_name.entry(DEFAULT.into()).or_insert(default);
        }
        certificates
    }

    /// Says whether there is any to be shown.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns the pair for a name that a client can verify: the certificate of that name, else of the
    /// wildcard for its first label, else of that for its last, else the default; of two pairs that on an
    /// elliptic curve, which costs a tenth of the time. Four look-ups at most.
    pub fn find(&self, name: &str, schemes: &[SignatureScheme]) -> Option<&KeyPair> {
        let name = name.to_ascii_lowercase();
        let first = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let last = name.rsplit_once('.').map(|(rest, _)| format!("{rest}.*"));
        let names = [Some(&*name), first.as_deref(), last.as_deref(), Some(DEFAULT)];
        let certificate = names
            .into_iter()
            .flatten()
            .find_map(|name| self.by_name.get(name))?;
        let usable = certificate.pairs.iter().filter(|pair| pair.can_sign(schemes));
        usable.max_by_key(|pair| pair.kind() == KeyKind::Elliptic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::made;

    const ANY: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

    fn certificate(label: &str, names: &[&str]) -> Arc<Certificate> {
        let (certificate, key) = made(&[label]);
        Arc::new(Certificate {
            id: None,
            label: label.to_owned(),
            pairs: vec![KeyPair::parse(&certificate, &key).unwrap()],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn shown(certificates: &Certificates, name: &str) -> Option<String> {
        certificates.find(name, &ANY).map(|pair| pair.names()[0].clone())
    }

    #[test]
    fn the_most_precise_name_wins() {
        let entities = [
            certificate("exact", &["shop.example.com"]),
            certificate("first", &["*.example.com", "shop.example.com"]),
            certificate("last", &["shop.example.*", "example.*"]),
            certificate("default", &["*"]),
        ];
        let certificates = Certificates::build([].iter(), entities.iter());
        for (name, label) in [
            ("shop.example.com", "exact"),
            ("SHOP.example.COM", "exact"),
            ("cart.example.com", "first"),
            ("shop.example.org", "last"),
            ("example.org", "last"),
            // A wildcard is one label.
            ("a.cart.example.com", "default"),
            ("", "default"),
        ] {
            assert_eq!(shown(&certificates, name).as_deref(), Some(label), "{name}");
        }
    }

    #[test]
    fn without_a_default_an_unknown_name_has_none_but_the_first_file_stands_in() {
        let entities = [certificate("a", &["a.example"])];
        let files = [
            certificate("f", &["f.example"]),
            certificate("g", &["g.example", "a.example"]),
        ];
        let certificates = Certificates::build([].iter(), entities.iter());
        assert_eq!(shown(&certificates, "b.example"), None);
        let certificates = Certificates::build(files.iter(), entities.iter());
        assert_eq!(shown(&certificates, "b.example").as_deref(), Some("f"));
        assert_eq!(shown(&certificates, "a.example").as_deref(), Some("a"));
        assert!(!certificates.is_empty() && Certificates::default().is_empty());
    }

    #[test]
    fn a_pair_that_the_client_cannot_verify_is_not_shown() {
        let certificates = Certificates::build([].iter(), [certificate("a", &["*"])].iter());
        assert!(
            certificates
                .find("a", &[SignatureScheme::RSA_PSS_SHA256])
                .is_none()
        );
    }
}
