//! A body of the Admin API.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::{Map, Value};

use crate::admin::wire::body::{read_body, urlencoded};
use crate::admin::wire::form::MAX_DEPTH;
use crate::config::check::check_entity;
use crate::config::schema::{ENTITIES, Entity};

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=XX";
const JSON: &str = "application/json";

/// A body is refused with a status of the client's, or is an object of bounded depth that says the same as JSON;
/// the pairs of a form are those of the URL standard; and what the check makes of an object the check leaves alone.
///
/// Read as a multipart form, as JSON or as a form, by how it begins; for every kind of entity.
pub fn form(data: &[u8]) {
    let content_type = match data {
        [b'-', b'-', ..] => MULTIPART,
        [b'{', ..] => JSON,
        _ => FORM,
    };
    if content_type == FORM {
        compare_pairs(data);
    }
    for entity in ENTITIES {
        if let Some(object) = read(content_type, data, entity) {
            judge(&object, entity, data);
        }
    }
}

fn read(content_type: &str, data: &[u8], entity: &'static Entity) -> Option<Map<String, Value>> {
    let body = read_body(Some(content_type), Bytes::copy_from_slice(data), entity);
    match body.now_or_never().expect("nothing to wait for") {
        Ok(object) => Some(object),
        Err(refusal) => {
            assert!(refusal.status.is_client_error(), "{}", data.escape_ascii());
            None
        }
    }
}

fn judge(object: &Map<String, Value>, entity: &'static Entity, data: &[u8]) {
    let shown = data.escape_ascii();
    let depth = object.values().map(depth).max().unwrap_or_default() + 1;
    // A part of a list of records that has no number of its own adds a list to its steps.
    assert!(depth <= 2 * MAX_DEPTH, "{depth} deep: {shown}");
    if depth <= MAX_DEPTH {
        let json = serde_json::to_vec(object).expect("JSON");
        let again = read(JSON, &json, entity).expect("what was written as JSON");
        let (object, again) = (Value::from(object.clone()), Value::from(again));
        assert!(is_same(&object, &again), "{shown}: {object} is read as {again}");
    }
    if let Ok(checked) = check_entity(entity.into(), object) {
        let checked = checked.values;
        match check_entity(entity.into(), &checked) {
            Ok(again) => assert_eq!(again.values, checked, "{}: {shown}", entity.name),
            Err(problems) => panic!(
                "{}: {shown} became {checked:?}, which has {problems:?}",
                entity.name
            ),
        }
    }
}

/// Compares with a parser of the URL standard, which replaces what is no UTF-8 where this one refuses.
fn compare_pairs(data: &[u8]) {
    let standard = form_urlencoded::parse(data.trim_ascii());
    match urlencoded(data) {
        Some(pairs) => {
            let expected: Vec<(String, String)> = standard
                .map(|(key, text)| (key.into_owned(), text.into_owned()))
                .collect();
            assert_eq!(pairs, expected, "{}", data.escape_ascii());
        }
        None => {
            let is_replaced = |text: &Cow<'_, str>| text.contains(char::REPLACEMENT_CHARACTER);
            let mut pairs = standard;
            assert!(pairs.any(|(key, text)| is_replaced(&key) || is_replaced(&text)));
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Equal but for the last bit of a number, which its decimal form may lose.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_there = |(key, value)| other.get(key).is_some_and(|other| is_same(value, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-12,
            _ => one == other,
        },
        _ => one == other,
    }
}
