//! `config` of the plugins that identify Consumers: `key-auth`, `basic-auth`, `jwt`.

use serde_json::{Value, json};

use crate::config::check::Scope;
use crate::config::schema::{Field, Kind, Record, format};

/// Longest `maximum_expiration`: a year in seconds.
const YEAR: i64 = 31_536_000;
const NAMES: Kind = Kind::List {
    of: &Kind::Text(&format::NON_EMPTY),
    min: 0,
    is_set: true,
};
const ANONYMOUS: Field = Field::new(
    "anonymous",
    Kind::Text(&format::NON_EMPTY),
    "Id or username of the Consumer that a request without valid credentials counts as; left out, such a request is refused.",
);
const HIDE_CREDENTIALS: Field = Field::new(
    "hide_credentials",
    Kind::Boolean,
    "Takes the credential out of the request before it goes to the origin.",
)
.or(|| json!(false));
const RUN_ON_PREFLIGHT: Field = Field::new(
    "run_on_preflight",
    Kind::Boolean,
    "Asks for credentials on OPTIONS too.",
)
.or(|| json!(true));
const REALM: Field = Field::new("realm", Kind::TEXT, "realm of the challenge in WWW-Authenticate.");

/// `key-auth`.
pub(super) static KEY_AUTH: Record = Record::of(&[
    Field::new(
        "key_names",
        Kind::List {
            of: &Kind::Text(&format::HEADER),
            min: 1,
            is_set: false,
        },
        "Names of the header fields and query arguments that may hold the key.",
    )
    .or(|| json!(["apikey"])),
    HIDE_CREDENTIALS,
    ANONYMOUS,
    Field::new(
        "key_in_header",
        Kind::Boolean,
        "Looks for the key in header fields.",
    )
    .or(|| json!(true)),
    Field::new("key_in_query", Kind::Boolean, "Looks for the key in the query.").or(|| json!(true)),
    Field::new("key_in_body", Kind::Boolean, "Looks for the key in the body.")
        .or(|| json!(false))
        .without_effect("Serin does not read bodies"),
    RUN_ON_PREFLIGHT,
    REALM,
]);

/// `basic-auth`.
pub(super) static BASIC_AUTH: Record =
    Record::of(&[HIDE_CREDENTIALS, ANONYMOUS, REALM.or(|| json!("service"))]);

/// `jwt`.
pub(super) static JWT: Record = Record {
    fields: &[
        Field::new("uri_param_names", NAMES, "Query arguments that may hold the token.").or(|| json!(["jwt"])),
        Field::new(
            "header_names",
            Kind::List {
                of: &Kind::Text(&format::HEADER),
                min: 0,
                is_set: true,
            },
            "Header fields that may hold the token, behind 'Bearer'.",
        )
        .or(|| json!(["authorization"])),
        Field::new(
            "cookie_names",
            Kind::List {
                of: &Kind::Text(&format::COOKIE),
                min: 0,
                is_set: true,
            },
            "Cookies that may hold the token.",
        )
        .or(|| json!([])),
        Field::new(
            "key_claim_name",
            Kind::Text(&format::NON_EMPTY),
            "Claim, or parameter of the token's header, that names the issuer's key.",
        )
        .or(|| json!("iss")),
        Field::new("secret_is_base64", Kind::Boolean, "The issuers' secrets are base64.").or(|| json!(false)),
        Field::new(
            "claims_to_verify",
            Kind::List {
                of: &Kind::Choice {
                    known: &["exp", "nbf"],
                    kong_only: &[],
                },
                min: 0,
                is_set: true,
            },
            "exp refuses tokens that are over, nbf those that are yet to come.",
        ),
        Field::new(
            "maximum_expiration",
            Kind::Number { min: 0, max: YEAR },
            "Longest time to exp that a token may have, in seconds; 0 for any. Needs exp in claims_to_verify.",
        )
        .or(|| json!(0)),
        RUN_ON_PREFLIGHT,
        ANONYMOUS,
        REALM,
    ],
    check: check_jwt,
};

fn check_jwt(scope: &mut Scope<'_, '_>) {
    let maximum = scope.value("maximum_expiration").and_then(Value::as_f64);
    let claims = scope.value("claims_to_verify").and_then(Value::as_array);
    let verifies_exp = claims.is_some_and(|claims| claims.contains(&json!("exp")));
    if maximum.is_some_and(|maximum| maximum > 0.0) && scope.is_valid("claims_to_verify") && !verifies_exp {
        let place = scope.place_of("maximum_expiration");
        scope.error_missing(
            "claims_to_verify",
            "maximum_expiration",
            "expected to contain: exp: failed conditional validation given value of field 'config.maximum_expiration'",
            format!("maximum_expiration ({place}) limits exp; write claims_to_verify: [exp]"),
        );
    }
}
