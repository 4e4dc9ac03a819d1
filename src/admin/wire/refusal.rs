//! Answers that say no, with Kong's codes, names and words.
//!
//! Clients tell errors apart by `code` and show `message`, so both are Kong's letter for letter
//! (`kong/db/errors.lua` of Kong 3.x).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::lua;

/// Type of every body.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// An answer that says no.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) body: Map<String, Value>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(Value::Object(self.body));
        (self.status, [(header::CONTENT_TYPE, JSON)], body).into_response()
    }
}

impl Refusal {
    /// Answers with a sentence and nothing else.
    pub(crate) fn message(status: StatusCode, message: impl Into<String>) -> Self {
        let body = Map::from_iter([("message".to_owned(), Value::from(message.into()))]);
        Self { status, body }
    }

    /// Answers with one of Kong's codes; the details are called `fields`, those of code 11 `options`.
    pub(super) fn coded(
        status: StatusCode,
        (code, name): (u8, &str),
        message: impl Into<String>,
        details: Option<Map<String, Value>>,
    ) -> Self {
        let mut body = Map::new();
        body.insert("code".to_owned(), code.into());
        body.insert("name".to_owned(), name.into());
        body.insert("message".to_owned(), message.into().into());
        if let Some(details) = details {
            let key = if code == 11 { "options" } else { "fields" };
            body.insert(key.to_owned(), details.into());
        }
        Self { status, body }
    }

    /// Says that nothing is there: a path or an entity.
    pub(crate) fn not_found() -> Self {
        Self::message(StatusCode::NOT_FOUND, "Not found")
    }

    /// Says that a path does not have the method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
    }

    /// Says that bodies of a type are not read.
    pub(crate) fn unsupported_media_type() -> Self {
        Self::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
    }

    /// Says that a body is too long.
    pub(crate) fn too_large() -> Self {
        Self::message(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large")
    }

    /// Says that an entity is no longer what the caller believes it is (`If-Match`, RFC 9110 §13.1.1).
    pub(crate) fn precondition_failed() -> Self {
        Self::message(
            StatusCode::PRECONDITION_FAILED,
            "the entity was changed in the meantime: read it again",
        )
    }

    /// Says that a change does not go together with what is there.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::message(StatusCode::CONFLICT, message)
    }

    /// Says that something went wrong that the caller has no part in; the log has the details.
    pub(crate) fn unexpected() -> Self {
        Self::message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
    }

    /// Says that an id to create is in use.
    pub(crate) fn id_in_use(id: &str) -> Self {
        let why = format!("already exists with value '{id}'");
        Self {
            status: StatusCode::CONFLICT,
            body: Map::from_iter([("id".to_owned(), Value::from(why))]),
        }
    }

    /// Code 1: an id is none; `fields` say why.
    pub(crate) fn invalid_primary_key(fields: Map<String, Value>) -> Self {
        let message = format!("invalid primary key: '{}'", lua::show_map(&fields));
        Self::coded(
            StatusCode::BAD_REQUEST,
            (1, "invalid primary key"),
            message,
            Some(fields),
        )
    }

    /// Code 3: an id is in use.
    pub(crate) fn primary_key_violation(fields: Map<String, Value>) -> Self {
        let message = format!("primary key violation on key '{}'", lua::show_map(&fields));
        Self::coded(
            StatusCode::BAD_REQUEST,
            (3, "primary key violation"),
            message,
            Some(fields),
        )
    }

    /// Code 4: `field` refers to an entity that is not there, by `key` such as `{"id": …}`.
    pub(crate) fn foreign_key(field: &str, key: Map<String, Value>, parent: &str) -> Self {
        let key_text = lua::show_map(&key);
        let message =
            format!("the foreign key '{key_text}' does not reference an existing '{parent}' entity.");
        let fields = Map::from_iter([(field.to_owned(), key.into())]);
        Self::coded(
            StatusCode::BAD_REQUEST,
            (4, "foreign key violation"),
            message,
            Some(fields),
        )
    }

    /// Code 4: an entity cannot be deleted, because one of `child` refers to it.
    pub(crate) fn referenced_by(parent: &str, child: &str) -> Self {
        let message = format!("an existing '{child}' entity references this '{parent}' entity");
        let fields = Map::from_iter([("@referenced_by".to_owned(), child.into())]);
        Self::coded(
            StatusCode::BAD_REQUEST,
            (4, "foreign key violation"),
            message,
            Some(fields),
        )
    }

    /// Code 5: what must be unique is not; `fields` are those that are unique together, with nulls.
    pub(crate) fn unique_violation(fields: Map<String, Value>) -> Self {
        let message = format!("UNIQUE violation detected on '{}'", lua::show_map(&fields));
        Self::coded(
            StatusCode::CONFLICT,
            (5, "unique constraint violation"),
            message,
            Some(fields),
        )
    }

    /// Code 7: an offset is none of ours.
    pub(crate) fn invalid_offset(offset: &str, why: &str) -> Self {
        let message = format!("'{offset}' is not a valid offset: {why}");
        Self::coded(StatusCode::BAD_REQUEST, (7, "invalid offset"), message, None)
    }

    /// Code 8: the store does not answer.
    pub(crate) fn database_error(message: impl Into<String>) -> Self {
        Self::coded(
            StatusCode::INTERNAL_SERVER_ERROR,
            (8, "database error"),
            message,
            None,
        )
    }

    /// Code 9: a page's size is none.
    pub(crate) fn invalid_size(message: impl Into<String>) -> Self {
        Self::coded(StatusCode::BAD_REQUEST, (9, "invalid size"), message, None)
    }

    /// Code 11: an argument of the query is wrong.
    pub(crate) fn invalid_option(option: &str, why: &str) -> Self {
        let message = format!("invalid option ({option}: {why})");
        let options = Map::from_iter([(option.to_owned(), why.into())]);
        Self::coded(
            StatusCode::BAD_REQUEST,
            (11, "invalid options"),
            message,
            Some(options),
        )
    }

    /// Code 12: this cannot be done here at all.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::coded(
            StatusCode::METHOD_NOT_ALLOWED,
            (12, "operation unsupported"),
            message,
            None,
        )
    }

    /// Code 13: `field` refers by `key` (such as `name`) to an entity that is not there.
    pub(crate) fn foreign_key_unresolved(field: &str, key: &str, value: &str, parent: &str) -> Self {
        let named = lua::show(&json!({ key: value }));
        let why =
            format!("the foreign key cannot be resolved with '{named}' for an existing '{parent}' entity");
        let message = format!("foreign key unresolved ({field}.{key}: {why})");
        let fields = Map::from_iter([(field.to_owned(), json!({ key: why }))]);
        Self::coded(
            StatusCode::BAD_REQUEST,
            (13, "foreign keys unresolved"),
            message,
            Some(fields),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn check(refusal: Refusal, status: u16, body: Value) {
        assert_eq!(
            (refusal.status.as_u16(), Value::Object(refusal.body)),
            (status, body)
        );
    }

    #[test]
    fn duplicates_are_conflicts() {
        check(
            Refusal::unique_violation(map(json!({"name": "x"}))),
            409,
            json!({
                "code": 5, "name": "unique constraint violation",
                "message": "UNIQUE violation detected on '{name=\"x\"}'", "fields": {"name": "x"},
            }),
        );
        check(
            Refusal::unique_violation(map(
                json!({"name": "acl", "consumer": null, "service": {"id": "s"}, "route": null}),
            )),
            409,
            json!({
                "code": 5, "name": "unique constraint violation",
                "message": "UNIQUE violation detected on '{consumer=null,name=\"acl\",route=null,service={id=\"s\"}}'",
                "fields": {"name": "acl", "consumer": null, "service": {"id": "s"}, "route": null},
            }),
        );
        check(
            Refusal::id_in_use("a-b"),
            409,
            json!({"id": "already exists with value 'a-b'"}),
        );
    }

    #[test]
    fn references_that_lead_nowhere_name_themselves() {
        check(
            Refusal::foreign_key("service", map(json!({"id": "s"})), "services"),
            400,
            json!({
                "code": 4, "name": "foreign key violation",
                "message": "the foreign key '{id=\"s\"}' does not reference an existing 'services' entity.",
                "fields": {"service": {"id": "s"}},
            }),
        );
        check(
            Refusal::referenced_by("services", "routes"),
            400,
            json!({
                "code": 4, "name": "foreign key violation",
                "message": "an existing 'routes' entity references this 'services' entity",
                "fields": {"@referenced_by": "routes"},
            }),
        );
        let why = "the foreign key cannot be resolved with '{name=\"x\"}' for an existing 'services' entity";
        check(
            Refusal::foreign_key_unresolved("service", "name", "x", "services"),
            400,
            json!({
                "code": 13, "name": "foreign keys unresolved",
                "message": format!("foreign key unresolved (service.name: {why})"),
                "fields": {"service": {"name": why}},
            }),
        );
    }

    #[test]
    fn arguments_of_the_query_have_codes_of_their_own() {
        check(
            Refusal::invalid_option("tags", "invalid filter syntax"),
            400,
            json!({
                "code": 11, "name": "invalid options",
                "message": "invalid option (tags: invalid filter syntax)",
                "options": {"tags": "invalid filter syntax"},
            }),
        );
        check(
            Refusal::invalid_offset("x", "bad base64 encoding"),
            400,
            json!({"code": 7, "name": "invalid offset", "message": "'x' is not a valid offset: bad base64 encoding"}),
        );
        check(
            Refusal::invalid_size("size must be a number"),
            400,
            json!({"code": 9, "name": "invalid size", "message": "size must be a number"}),
        );
    }

    #[test]
    fn keys_are_judged_before_anything_is_looked_up() {
        check(
            Refusal::invalid_primary_key(map(json!({"id": "expected a valid UUID"}))),
            400,
            json!({
                "code": 1, "name": "invalid primary key",
                "message": "invalid primary key: '{id=\"expected a valid UUID\"}'",
                "fields": {"id": "expected a valid UUID"},
            }),
        );
        check(
            Refusal::primary_key_violation(map(json!({"id": "x"}))),
            400,
            json!({
                "code": 3, "name": "primary key violation",
                "message": "primary key violation on key '{id=\"x\"}'", "fields": {"id": "x"},
            }),
        );
    }

    #[test]
    fn what_cannot_be_done_is_said_plainly() {
        let message = "cannot create 'routes' entities when not using a database";
        check(
            Refusal::unsupported(message),
            405,
            json!({"code": 12, "name": "operation unsupported", "message": message}),
        );
        check(
            Refusal::database_error("the store is read only"),
            500,
            json!({"code": 8, "name": "database error", "message": "the store is read only"}),
        );
        check(Refusal::not_found(), 404, json!({"message": "Not found"}));
        check(
            Refusal::method_not_allowed(),
            405,
            json!({"message": "Method not allowed"}),
        );
        check(
            Refusal::unsupported_media_type(),
            415,
            json!({"message": "Unsupported media type"}),
        );
    }

    #[test]
    fn a_refusal_is_json_with_its_charset() {
        let response = Refusal::conflict("no").into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/json; charset=utf-8"
        );
    }
}
