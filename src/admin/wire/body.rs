//! Bodies of requests: JSON, the two kinds of forms, and a whole configuration for `POST /config`.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::form::{MAX_DEPTH, read_form};
use super::refusal::Refusal;
use crate::config::schema::Entity;

/// Kong's words for a body that is no JSON object.
const NOT_JSON: &str = "Cannot parse JSON body";
const NOT_A_FORM: &str = "Cannot parse form body";
/// Kong's words for `POST /config` without one.
const NO_CONFIGURATION: &str = "expected a declarative configuration";
/// The field of a form, or of a JSON object, that holds a configuration as text.
const CONFIG: &str = "config";

/// Reads the body of a request that creates or replaces an entity; without a body it is `{}`.
///
/// # Errors
/// 400 for what cannot be parsed, 415 for a type other than JSON and forms.
pub(crate) async fn read_body(
    content_type: Option<&str>,
    bytes: Bytes,
    entity: &'static Entity,
) -> Result<Map<String, Value>, Refusal> {
    read(content_type, bytes, entity, None).await
}

/// Reads the body of a request that changes a stored entity: a form need not repeat a plugin's name.
///
/// # Errors
/// As [`read_body`].
pub(crate) async fn read_change(
    content_type: Option<&str>,
    bytes: Bytes,
    entity: &'static Entity,
    stored: &Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    read(content_type, bytes, entity, Some(stored)).await
}

async fn read(
    content_type: Option<&str>,
    bytes: Bytes,
    entity: &'static Entity,
    stored: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>, Refusal> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let media_type = MediaType::of(content_type);
    if media_type == MediaType::Json {
        return json_object(&bytes);
    }
    let pairs = pairs(media_type, content_type, bytes).await?;
    read_form(pairs, entity, stored).map_err(|_| bad_request(NOT_A_FORM))
}

/// Reads the body of `POST /config` and returns the text of the configuration: the body itself as JSON or YAML, or
/// what it holds as `config`.
///
/// # Errors
/// 400 for what cannot be parsed or holds no configuration, 415 for a type of which nothing is known.
pub(crate) async fn read_config_body(content_type: Option<&str>, bytes: Bytes) -> Result<String, Refusal> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(bad_request(NO_CONFIGURATION));
    }
    let media_type = MediaType::of(content_type);
    match media_type {
        MediaType::Json => {
            let mut object = json_object(&bytes)?;
            match object.remove(CONFIG) {
                Some(Value::String(text)) => some_text(text),
                // The text as it was sent, so that problems name the lines its author sees.
                _ => utf8(&bytes),
            }
        }
        MediaType::Yaml | MediaType::None => utf8(&bytes),
        MediaType::Form | MediaType::Multipart | MediaType::Other => {
            let pairs = pairs(media_type, content_type, bytes).await?;
            let config = pairs.into_iter().find(|(key, _)| key == CONFIG);
            some_text(config.map(|(_, text)| text).unwrap_or_default())
        }
    }
}

fn some_text(text: String) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(bad_request(NO_CONFIGURATION));
    }
    Ok(text)
}

fn utf8(bytes: &Bytes) -> Result<String, Refusal> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned)
        .map_err(|_| bad_request("failed parsing declarative configuration: expected UTF-8"))
}

fn bad_request(message: &str) -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, message)
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Form,
    Multipart,
    Yaml,
    None,
    Other,
}

impl MediaType {
    /// Reads `Content-Type`, leaving its parameters aside.
    fn of(content_type: Option<&str>) -> Self {
        let essence = content_type
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim();
        match essence.to_ascii_lowercase().as_str() {
            "" => Self::None,
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            "multipart/form-data" => Self::Multipart,
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" | "text/plain" => {
                Self::Yaml
            }
            _ => Self::Other,
        }
    }
}

/// Parses a JSON object that is not nested too deep.
fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if depth(bytes) > MAX_DEPTH {
        return Err(bad_request(NOT_JSON));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(bad_request(NOT_JSON)),
    }
}

/// Returns how deep a JSON text nests; for what is no JSON, some number.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Returns the keys and texts of a form.
async fn pairs(
    media_type: MediaType,
    content_type: Option<&str>,
    bytes: Bytes,
) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = match media_type {
        MediaType::Form => urlencoded(&bytes),
        MediaType::Multipart => multipart(content_type.unwrap_or_default(), bytes).await,
        _ => return Err(Refusal::unsupported_media_type()),
    };
    pairs.ok_or_else(|| bad_request(NOT_A_FORM))
}

/// Reads `a=b&c=d`. Unlike the URL standard's parser it refuses what is no UTF-8: a password with a replacement
/// character in it would be another one.
pub(crate) fn urlencoded(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let decode = |part: &[u8]| -> Option<String> {
        let spaced: Vec<u8> = part
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        percent_decode(&spaced).decode_utf8().ok().map(Cow::into_owned)
    };
    bytes
        .trim_ascii()
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            Some((
                decode(&pair[..at])?,
                decode(pair.get(at + 1..).unwrap_or_default())?,
            ))
        })
        .collect()
}

/// Reads `multipart/form-data`; a file is its content.
async fn multipart(content_type: &str, bytes: Bytes) -> Option<Vec<(String, String)>> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    // The parser wants a stream, and a body is one.
    let stream = Body::from(bytes).into_data_stream();
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut pairs = Vec::new();
    while let Some(part) = parts.next_field().await.ok()? {
        let name = part.name()?.to_owned();
        let content = part.bytes().await.ok()?;
        pairs.push((name, String::from_utf8(content.to_vec()).ok()?));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::service::SERVICES;
    use serde_json::json;

    const MULTIPART: &str = "multipart/form-data; boundary=XX";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn body(content_type: Option<&str>, text: impl Into<Bytes>) -> Result<Value, (u16, Value)> {
        run(read_body(content_type, text.into(), &SERVICES))
            .map(Value::Object)
            .map_err(|refusal| (refusal.status.as_u16(), refusal.body["message"].clone()))
    }

    fn config(content_type: Option<&str>, text: impl Into<Bytes>) -> Result<String, (u16, Value)> {
        run(read_config_body(content_type, text.into()))
            .map_err(|refusal| (refusal.status.as_u16(), refusal.body["message"].clone()))
    }

    #[test]
    fn json_is_taken_as_it_is() {
        for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
            let read = body(Some(content_type), r#"{"port": 80.0, "tags": null}"#);
            assert_eq!(read, Ok(json!({"port": 80.0, "tags": null})));
        }
        for wrong in ["{", "[]", "1", "nul", "{} x", "\u{feff}{}", "{\"a\": NaN}"] {
            assert_eq!(
                body(Some("application/json"), wrong),
                Err((400, json!(NOT_JSON))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn json_does_not_nest_without_end() {
        let nested = |depth: usize| {
            format!(
                "{{\"a]]]\\\"\": {}{}}}",
                "[".repeat(depth - 1),
                "]".repeat(depth - 1)
            )
        };
        assert!(body(Some("application/json"), nested(MAX_DEPTH)).is_ok());
        for depth in [MAX_DEPTH + 1, 1_000_000] {
            assert_eq!(
                body(Some("application/json"), nested(depth)),
                Err((400, json!(NOT_JSON)))
            );
        }
        let texts = format!("{{\"a\": \"{}\"}}", "[".repeat(1000));
        assert!(body(Some("application/json"), texts).is_ok());
    }

    #[test]
    fn no_body_is_an_empty_object() {
        for content_type in [None, Some("application/json"), Some(FORM), Some("image/png")] {
            assert_eq!(body(content_type, ""), Ok(json!({})));
        }
    }

    #[test]
    fn other_types_are_refused() {
        for content_type in [
            None,
            Some("image/png"),
            Some("text/plain"),
            Some("application/yaml"),
        ] {
            assert_eq!(
                body(content_type, "{}"),
                Err((415, json!("Unsupported media type")))
            );
        }
    }

    #[test]
    fn a_form_is_decoded() {
        assert_eq!(
            body(
                Some(FORM),
                "name=a%20b+c&port=80&&tags[]=x%26y&tags%5B%5D=\u{e9}&host\n"
            ),
            Ok(json!({"name": "a b c", "port": 80, "tags": ["x&y", "\u{e9}"], "host": null}))
        );
        assert_eq!(body(Some(FORM), "name=%ff"), Err((400, json!(NOT_A_FORM))));
        let deep = format!("a{}=1", "[b]".repeat(100));
        assert_eq!(body(Some(FORM), deep), Err((400, json!(NOT_A_FORM))));
    }

    #[test]
    fn a_multipart_form_is_a_form_too() {
        let text = "--XX\r\nContent-Disposition: form-data; name=\"port\"\r\n\r\n80\r\n--XX\r\nContent-Disposition: form-data; name=\"tags[1]\"\r\n\r\na,b\r\n--XX--\r\n";
        assert_eq!(
            body(Some(MULTIPART), text),
            Ok(json!({"port": 80, "tags": ["a,b"]}))
        );
        for (content_type, text) in [
            (MULTIPART, "--XX\r\n"),
            (MULTIPART, "x"),
            ("multipart/form-data", text),
        ] {
            assert_eq!(body(Some(content_type), text), Err((400, json!(NOT_A_FORM))));
        }
    }

    #[test]
    fn a_change_may_leave_the_name_of_a_plugin_to_what_is_stored() {
        let stored = Map::from_iter([("name".to_owned(), json!("canary"))]);
        let read = run(read_change(
            Some(FORM),
            "config.percentage=5".into(),
            &PLUGINS,
            &stored,
        ));
        assert_eq!(read.map(Value::Object), Ok(json!({"config": {"percentage": 5}})));
    }

    #[test]
    fn a_configuration_comes_in_many_ways() {
        let yaml = "_format_version: \"3.0\"\n";
        let json = "{\"_format_version\": \"3.0\"}";
        let held = json!({"config": yaml}).to_string();
        let file = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"config\"; filename=\"kong.yml\"\r\n\r\n{yaml}\r\n--XX--\r\n"
        );
        assert_eq!(config(Some("application/json"), json).unwrap(), json);
        assert_eq!(config(Some("application/json"), held).unwrap(), yaml);
        assert_eq!(config(Some("text/yaml; charset=utf-8"), yaml).unwrap(), yaml);
        assert_eq!(config(None, yaml).unwrap(), yaml);
        assert_eq!(config(Some(MULTIPART), file).unwrap(), yaml);
        assert_eq!(
            config(Some(FORM), "check=1&config=_format_version%3A+%223.0%22%0A").unwrap(),
            yaml
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (content_type, text) in [
            (None, ""),
            (None, " \n"),
            (Some(FORM), "a=b"),
            (Some(FORM), "config="),
            (Some("application/json"), "{\"config\": \" \"}"),
        ] {
            assert_eq!(config(content_type, text), Err((400, json!(NO_CONFIGURATION))));
        }
        assert_eq!(
            config(Some("application/json"), "[]"),
            Err((400, json!(NOT_JSON)))
        );
        assert_eq!(config(Some("image/png"), "x").unwrap_err().0, 415);
        assert_eq!(config(None, &b"\xff"[..]).unwrap_err().0, 400);
    }
}
