//! The tables of what identifies Consumers, and of their ACL groups.
//!
//! Kong makes up a key or a secret that is left out. In a file it would be another one after each
//! reload, so here it is an error to leave it out.

use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::{CREATED_AT, Entity, Field, ID, Kind, Made, TAGS, UPDATED_AT, Unique, format, no_check};
use crate::config::check::Scope;

const CONSUMER: Field = Field::new(
    "consumer",
    Kind::Reference("consumers"),
    "The Consumer; given where this is not nested in it.",
)
.required()
.cascades()
.hint("name the consumer, or move this into its consumer");
const NOT_MADE_UP: &str = "write one down, for example the output of: openssl rand -hex 32; one made up at random would change at each reload";

/// Keys for `key-auth`.
pub(crate) static KEYAUTH_CREDENTIALS: Entity = Entity {
    name: "keyauth_credentials",
    key: "key",
    doc: "A key for the plugin key-auth.",
    fields: &[
        ID,
        CONSUMER,
        Field::new(
            "key",
            Kind::Text(&format::NON_EMPTY),
            "The key; unique. Never shown.",
        )
        .required()
        .secret()
        .made(Made::Token)
        .hint(NOT_MADE_UP),
        Field::new(
            "ttl",
            Kind::Integer {
                min: 0,
                max: 100_000_000,
            },
            "Time from created_at until the key is unknown, in seconds; 0 for never.",
        ),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["key"])],
    children: &[],
    check: |scope| {
        let has_ttl = scope
            .value("ttl")
            .and_then(Value::as_u64)
            .is_some_and(|ttl| ttl > 0);
        if has_ttl && scope.is_valid("created_at") && scope.value("created_at").is_none() {
            let hint = "ttl counts from created_at, in seconds since 1970: the output of date +%s".to_owned();
            scope.error_missing("created_at", "ttl", "required field missing", hint);
        }
    },
};

/// Names and passwords for `basic-auth`.
pub(crate) static BASICAUTH_CREDENTIALS: Entity = Entity {
    name: "basicauth_credentials",
    key: "username",
    doc: "A name and a password for the plugin basic-auth.",
    fields: &[
        ID,
        CONSUMER,
        Field::new("username", Kind::Text(&format::NON_EMPTY), "The name; unique.")
            .required()
            .hint("the name that clients send with the password"),
        Field::new(
            "password",
            Kind::Text(&format::NON_EMPTY),
            "The password; with _transform: false, the SHA-1 of password and Consumer's id. Never shown.",
        )
        .required()
        .secret()
        .hint("for example from the environment: ${PASSWORD}"),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["username"])],
    children: &[],
    check: no_check,
};

/// Keys of issuers for `jwt`.
pub(crate) static JWT_SECRETS: Entity = Entity {
    name: "jwt_secrets",
    key: "key",
    doc: "The key of an issuer of tokens, for the plugin jwt.",
    fields: &[
        ID,
        CONSUMER,
        Field::new(
            "key",
            Kind::Text(&format::NON_EMPTY),
            "What the token's key claim (iss) must say; unique.",
        )
        .required()
        .hint("what the token's claim iss says; one made up at random would change at each reload")
        .made(Made::Token),
        Field::new(
            "secret",
            Kind::Text(&format::NON_EMPTY),
            "Secret of an HS algorithm. Never shown.",
        )
        .secret()
        .made(Made::Token),
        Field::new(
            "algorithm",
            Kind::Choice {
                known: &[
                    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384",
                    "PS512", "EdDSA",
                ],
                kong_only: &["ES512"],
            },
            "Algorithm by which the token must be signed.",
        )
        .or(|| json!("HS256")),
        Field::new(
            "rsa_public_key",
            Kind::TEXT,
            "Public key as PEM, for every algorithm but the HS ones; of the algorithm's kind, whatever the name says.",
        ),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["key"])],
    children: &[],
    check: check_jwt,
};

/// Groups for the plugins `acl` and `canary`.
pub(crate) static ACLS: Entity = Entity {
    name: "acls",
    key: "group",
    doc: "An ACL group that a Consumer is in, for the plugins acl and canary.",
    fields: &[
        ID,
        CONSUMER,
        Field::new(
            "group",
            Kind::Text(&format::NON_EMPTY),
            "Name of the group; a Consumer has it once.",
        )
        .required()
        .hint("the name that the plugins acl and canary list"),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    unique: &[Unique::of(&["consumer", "group"])],
    children: &[],
    check: no_check,
};

/// Says whether this is a public key on the curve whose coordinates have so many bytes: the point is one byte
/// and two coordinates (SEC 1, §2.3.3).
fn is_ec_key(pem: &str, coordinate_bytes: usize) -> bool {
    DecodingKey::from_ec_pem(pem.as_bytes()).is_ok_and(|key| {
        let point = key.try_get_as_bytes();
        point.is_ok_and(|point| point.len() == 1 + 2 * coordinate_bytes)
    })
}

/// Insists on the key that the algorithm needs.
fn check_jwt(scope: &mut Scope<'_, '_>) {
    let Some(algorithm) = scope.text("algorithm").map(str::to_owned) else {
        return;
    };
    if algorithm.starts_with("HS") {
        if scope.is_valid("secret") && scope.value("secret").is_none() {
            scope.error("secret", "required field missing", Some(NOT_MADE_UP.to_owned()));
        }
        return;
    }
    let Some(pem) = scope.text("rsa_public_key") else {
        if scope.is_valid("rsa_public_key") {
            let message =
                "required field missing: failed conditional validation given value of field 'algorithm'";
            let hint = format!("add 'rsa_public_key', the public key for {algorithm} as PEM");
            scope.error_missing("rsa_public_key", "algorithm", message, hint);
        }
        return;
    };
    let (kind, is_key) = match algorithm.as_bytes().first() {
        Some(b'R' | b'P') => ("an RSA key", DecodingKey::from_rsa_pem(pem.as_bytes()).is_ok()),
        _ if algorithm == "EdDSA" => ("an Ed25519 key", DecodingKey::from_ed_pem(pem.as_bytes()).is_ok()),
        _ if algorithm == "ES256" => ("a P-256 key", is_ec_key(pem, 32)),
        _ => ("a P-384 key", is_ec_key(pem, 48)),
    };
    // A private key is no less a key to the parser.
    if !is_key || pem.contains("PRIVATE KEY") {
        let hint = format!("{algorithm} needs the public half of {kind} as PEM: -----BEGIN PUBLIC KEY-----");
        scope.error("rsa_public_key", "invalid key", Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text};

    const RSA: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqHSz3Neu8oxctEH/sSef\nq4dcAGx1L0WJ523ujTqJI4N8CTVy0irelkEatLarASnHW+4JJDFeC41CN1wC3+K4\nQ6/by75lODTSB9yjW+2R3B0SxG7njtyWETP1t+zc/N6G5TkcwBWnby907dA5WKwy\n6OIKwlAKuYNwG/tvHVUaV3UwdSdSKDYFNTQAK8g//fEDyUXLacjo2cuKXQL01p6I\nf31lvTmckboqAA9xOvmxHr119kb61hBeSdqxwpt5doLe/akhu8wmCX7MAYy5YKHW\nKnGsyOwAHqROBHC+/p3KF+yGHnEg6gVx8u3THhE3khUAkuOkoRcDZv4JSD14+PYE\n0QIDAQAB\n-----END PUBLIC KEY-----";
    const EC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5+63zIqqlYPdPfYNqTJuJZsHqevE\nXDUNQpAluGs6ZJowY9HgVEHcdJ8S7L/Xc6jtKpo42mvveL+oe8zL410kGQ==\n-----END PUBLIC KEY-----";
    const EC_384: &str = include_str!("../../../tests/data/keys/es384.pub.pem");
    const ED: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAHy1fKNE7hajLh/kXzJTtVnUE78jvBfzzbMS3J+G6NTg=\n-----END PUBLIC KEY-----";

    fn is_accepted(algorithm: &str, pem: &str) -> bool {
        let text = format!(
            "_format_version: \"3.0\"\nconsumers: [{{username: a, jwt_secrets: [{{key: k, algorithm: {algorithm}, rsa_public_key: {pem:?}}}]}}]"
        );
        load_text("f.yaml", &text, &Overrides::default()).is_ok()
    }

    #[test]
    fn a_public_key_must_be_of_the_algorithms_kind() {
        let kinds = [
            (RSA, &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
            (EC, &["ES256"]),
            (EC_384, &["ES384"]),
            (ED, &["EdDSA"]),
        ];
        for (pem, algorithms) in kinds {
            for algorithm in algorithms {
                for (other, _) in kinds {
                    assert_eq!(is_accepted(algorithm, other), other == pem, "{algorithm} {other}");
                }
                let private = pem.replace("PUBLIC", "PRIVATE");
                assert!(!is_accepted(algorithm, &private), "{algorithm}");
            }
        }
    }
}
