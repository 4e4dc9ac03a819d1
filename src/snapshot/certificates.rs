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
    by_name: HashMap<Box<str>, Shown, RandomState>,
}

/// What is shown under one name.
#[derive(Debug, Clone)]
struct Shown {
    certificate: Arc<Certificate>,
    /// A file of the same name with a key of the other kind.
    other: Option<Arc<Certificate>>,
}

impl Shown {
    fn new(certificate: &Arc<Certificate>) -> Self {
        Self {
            certificate: certificate.clone(),
            other: None,
        }
    }

    /// Takes another file in beside a file, as `cert_alt` is beside `cert`.
    fn add(&mut self, file: &Arc<Certificate>) {
        let is_of_file = self.certificate.id.is_none();
        if is_of_file && self.other.is_none() && !self.certificate.has_kind_of(file) {
            self.other = Some(file.clone());
        }
    }

    fn pairs(&self) -> impl Iterator<Item = &KeyPair> {
        let other = self.other.iter().flat_map(|other| &other.pairs);
        self.certificate.pairs.iter().chain(other)
    }
}

impl Certificates {
    /// Compiles certificates. Of two that have one name the first has it, unless both are files with keys of
    /// different kinds; without one for `*`, what the first of `in_files` is shown with stands for it, as an
    /// operator who gives a file expects it to be shown.
    pub(super) fn build<'a>(
        in_files: impl Iterator<Item = &'a Arc<Certificate>> + Clone,
        of_entities: impl Iterator<Item = &'a Arc<Certificate>>,
    ) -> Self {
        let mut certificates = Self::default();
        for certificate in of_entities.chain(in_files.clone()) {
            for name in &certificate.names {
                let shown = certificates.by_name.entry(name.as_str().into());
                let shown = shown.or_insert_with(|| Shown::new(certificate));
                shown.add(certificate);
            }
        }
        let mut others = in_files;
        if let Some(first) = others.next() {
            let mut default = Shown::new(first);
            others
                .filter(|other| first.names.iter().any(|name| other.names.contains(name)))
                .for_each(|other| default.add(other));
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
        let shown = names
            .into_iter()
            .flatten()
            .find_map(|name| self.by_name.get(name))?;
        let usable = shown.pairs().filter(|pair| pair.can_sign(schemes));
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
    fn files_of_one_name_join_when_their_keys_are_of_different_kinds() {
        let rsa = KeyPair::parse(
            include_str!("../../tests/data/keys/rsa.crt"),
            include_str!("../../tests/data/keys/rsa.pem"),
        );
        let mut rsa = Certificate {
            id: None,
            label: "rsa".to_owned(),
            pairs: vec![rsa.unwrap()],
            names: vec!["a.example".to_owned(), "c.example".to_owned()],
        };
        let file = Arc::new(rsa.clone());
        let files = [
            file,
            certificate("first", &["a.example"]),
            certificate("second", &["a.example", "b.example"]),
        ];
        let certificates = Certificates::build(files.iter(), [].iter());
        let shown = |certificates: &Certificates, name: &str, scheme| {
            let pair = certificates.find(name, &[scheme]);
            pair.map(|pair| pair.names()[0].clone())
        };
        let (old, new) = (SignatureScheme::RSA_PSS_SHA256, ANY[0]);
        for (name, of_old, of_new) in [
            ("a.example", Some("shop.example"), Some("first")),
            ("b.example", None, Some("second")),
            ("c.example", Some("shop.example"), None),
            // The default is the first file, with what stands beside it.
            ("d.example", Some("shop.example"), Some("first")),
        ] {
            assert_eq!(shown(&certificates, name, old).as_deref(), of_old, "{name}");
            assert_eq!(shown(&certificates, name, new).as_deref(), of_new, "{name}");
        }
        // An entity says for itself what it is shown with.
        rsa.id = Some(uuid::Uuid::nil());
        let certificates = Certificates::build(files[1..].iter(), [Arc::new(rsa)].iter());
        assert_eq!(shown(&certificates, "a.example", new), None);
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
