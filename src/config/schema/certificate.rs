//! The tables of certificates and of the names under which clients are shown them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::{CREATED_AT, Child, Entity, Field, ID, Kind, Record, TAGS, UPDATED_AT, Unique, format, no_check};
use crate::clock;
use crate::config::check::Scope;
use crate::tls::{Authority, KeyPair, PairError};

/// Certificates.
pub(crate) static CERTIFICATES: Entity = Entity {
    name: "certificates",
    key: "cert",
    doc: "A certificate with its private key, shown to clients that come by TLS.",
    fields: &[
        ID,
        Field::new(
            "cert",
            Kind::Text(&format::NON_EMPTY),
            "The certificate and its chain, PEM, the server's own first.",
        )
        .required()
        .hint("the text of the file, as a block: cert: |"),
        Field::new(
            "key",
            Kind::Text(&format::NON_EMPTY),
            "Its private key, PEM. Never shown.",
        )
        .required()
        .secret()
        .hint("the text of the file, as a block, or from the environment: ${SHOP_KEY}"),
        Field::new(
            "cert_alt",
            Kind::Text(&format::NON_EMPTY),
            "A second certificate for the same names, with a key of the other kind: RSA beside ECDSA.",
        ),
        Field::new(
            "key_alt",
            Kind::Text(&format::NON_EMPTY),
            "Its private key. Never shown.",
        )
        .secret(),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[],
    children: &[Child {
        entity: &SNIS,
        parent: "certificate",
    }],
    check: |scope| {
        let own = check_pair(scope, "cert", "key");
        if check_both(scope) {
            let other = check_pair(scope, "cert_alt", "key_alt");
            if own
                .zip(other)
                .is_some_and(|(own, other)| own.kind() == other.kind())
            {
                let hint = "clients are shown the one whose kind of key they know; a second of one kind is never used";
                let message = "cert and cert_alt mismatch: both have keys of one kind";
                scope.error("cert_alt", message, Some(hint.to_owned()));
            }
        }
    },
};

/// Names under which clients are shown a certificate.
pub(crate) static SNIS: Entity = Entity {
    name: "snis",
    key: "name",
    doc: "A name by which clients ask for a certificate in their TLS handshake.",
    fields: &[
        ID,
        Field::new(
            "name",
            Kind::Text(&format::SERVER_NAME),
            "The name, perhaps with a wildcard for its first or last label, e.g. *.example.com; * for whoever asks for none or for an unknown one.",
        )
        .required()
        .hint("such as shop.example.com, *.example.com or *"),
        Field::new(
            "certificate",
            Kind::Reference("certificates"),
            "The certificate; given where this is not nested in it.",
        )
        .required()
        .cascades()
        .hint("give the certificate's id, or move this into the 'snis' of its certificate"),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["name"])],
    children: &[],
    check: no_check,
};

/// Authorities by which origins are verified.
pub(crate) static CA_CERTIFICATES: Entity = Entity {
    name: "ca_certificates",
    key: "cert_digest",
    doc: "The certificate of an authority, by which Services verify their origins.",
    fields: &[
        ID,
        Field::new(
            "cert",
            Kind::Text(&format::NON_EMPTY),
            "The certificate, PEM; exactly one.",
        )
        .required()
        .hint("the text of the file, as a block: cert: |"),
        Field::new(
            "cert_digest",
            Kind::Text(&format::NON_EMPTY),
            "SHA-256 of the certificate in hexadecimal digits; unique. Made when it is left out.",
        ),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["cert_digest"])],
    children: &[],
    check: |scope| {
        let Some(authority) = scope.text("cert").map(Authority::parse) else {
            return;
        };
        match authority {
            Ok(authority) => {
                let digest = authority.digest();
                if scope.text("cert_digest").is_some_and(|given| given != digest) {
                    let hint = format!("leave it out, or write {digest}");
                    scope.error(
                        "cert_digest",
                        "cert_digest is not that of the certificate",
                        Some(hint),
                    );
                } else {
                    scope.set("cert_digest", json!(digest));
                }
            }
            Err(error) => scope.error("cert", error.to_string(), None),
        }
    },
};

fn check_pair(scope: &mut Scope<'_, '_>, cert: &'static str, key: &'static str) -> Option<KeyPair> {
    let pair = KeyPair::parse(scope.text(cert)?, scope.text(key)?);
    if pair.as_ref().is_ok_and(|pair| pair.expires_at() < clock::unix()) {
        let hint = "clients that verify it are refused until it is renewed";
        scope.warn(cert, "the certificate has expired", hint);
    }
    pair.inspect_err(|error| {
        let (field, hint) = match error {
            PairError::Certificate => (cert, None),
            PairError::Key => (key, None),
            PairError::Mismatch => (
                key,
                Some(format!("the key must be the one that '{cert}' was made for")),
            ),
        };
        scope.error(field, error.to_string(), hint);
    })
    .ok()
}

/// Says whether both halves of the second pair are given; one alone is an error.
fn check_both(scope: &mut Scope<'_, '_>) -> bool {
    let given =
        ["cert_alt", "key_alt"].map(|name| scope.value(name).is_some_and(|value| *value != Value::Null));
    if given == [true, false] {
        let hint = "add the private key of cert_alt, or leave both out".to_owned();
        scope.error_missing("key_alt", "cert_alt", "required field missing", hint);
    }
    if given == [false, true] {
        let hint = "add the certificate of key_alt, or leave both out".to_owned();
        scope.error_missing("cert_alt", "key_alt", "required field missing", hint);
    }
    given == [true, true]
}

/// A certificate in files beside the configuration, as `server.certificates` has it.
pub(super) static FILES: Record = Record {
    fields: &[
        Field::new(
            "cert_file",
            Kind::Text(&format::NON_EMPTY),
            "File with the certificate and its chain, PEM, the server's own first.",
        )
        .required()
        .hint("such as /etc/serin/shop.crt"),
        Field::new(
            "key_file",
            Kind::Text(&format::NON_EMPTY),
            "File with its private key, PEM.",
        )
        .required()
        .hint("such as /etc/serin/shop.key"),
        Field::new(
            "snis",
            Kind::List {
                of: &Kind::Text(&format::SERVER_NAME),
                min: 0,
                is_set: true,
            },
            "Names by which clients ask for it; by default those that are in the certificate.",
        )
        .or(|| json!([])),
    ],
    check: |scope| {
        let (Some(cert_file), Some(key_file)) = (scope.text("cert_file"), scope.text("key_file")) else {
            return;
        };
        match read_pair(Path::new(cert_file), Path::new(key_file)) {
            Ok(pair) if pair.expires_at() < clock::unix() => {
                let hint = "clients that verify it are refused until it is renewed";
                scope.warn("cert_file", "the certificate has expired", hint);
            }
            Ok(_) => {}
            Err((field, message)) => {
                let hint = "the certificates in force stay until both files are sound".to_owned();
                scope.error(field, message, Some(hint));
            }
        }
    },
};

/// Largest file that is read for a certificate or a key.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a certificate and its key from their files.
///
/// # Errors
///
/// The field that is wrong, and why.
pub(crate) fn read_pair(cert_file: &Path, key_file: &Path) -> Result<KeyPair, (&'static str, String)> {
    let certificate = read_file(cert_file).map_err(|error| ("cert_file", error))?;
    let key = read_file(key_file).map_err(|error| ("key_file", error))?;
    KeyPair::parse(&certificate, &key).map_err(|error| match error {
        PairError::Certificate => ("cert_file", error.to_string()),
        PairError::Key | PairError::Mismatch => ("key_file", error.to_string()),
    })
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
