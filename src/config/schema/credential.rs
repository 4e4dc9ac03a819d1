//! The tables of what identifies Consumers, and of their ACL groups.
//!
//! Kong makes up a key or a secret that is left out. In a file it would be another one after each
//! reload, so here it is an error to leave it out.

use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::{CREATED_AT, Entity, Field, ID, Kind, TAGS, UPDATED_AT, format, no_check};
use crate::config::check::Scope;

const CONSUMER: Field = Field::new(
    "consumer",
    Kind::Reference("consumers"),
    "The Consumer; given where this is not nested in it.",
)
.required()
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
        .hint("what the token's claim iss says; one made up at random would change at each reload"),
        Field::new(
            "secret",
            Kind::Text(&format::NON_EMPTY),
            "Secret of an HS algorithm. Never shown.",
        )
        .secret(),
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
    children: &[],
    check: no_check,
};

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
        _ => (
            "an elliptic curve key",
            DecodingKey::from_ec_pem(pem.as_bytes()).is_ok(),
        ),
    };
    // A private key is no less a key to the parser.
    if !is_key || pem.contains("PRIVATE KEY") {
        let hint = format!("{algorithm} needs the public half of {kind} as PEM: -----BEGIN PUBLIC KEY-----");
        scope.error("rsa_public_key", "invalid key", Some(hint));
    }
}
