//! `/explain`: which release a request would get right now, and why.
//!
//! Asked here and not at the proxy's own address, where it would tell anybody which keys are good.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use http::{HeaderName, HeaderValue, Method, Uri};
use pingora_http::RequestHeader;
use serde::Deserialize;
use serde_json::Value;

use super::api::{Answer, Api, Call, json as answer_with};
use super::wire::refusal::Refusal;
use crate::clock;
use crate::proxy::explain::{Question, explain};

/// A request that could come.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "root")]
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    consumer: Option<String>,
    key: Option<String>,
    ip: Option<IpAddr>,
}

fn root() -> String {
    "/".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

/// Explains the request of the body, or of the query's `url`, `method`, `consumer` and `ip`.
pub(super) async fn answer(api: &Arc<Api>, call: &Call, method: &str) -> Answer {
    let asked: Asked = match method {
        "POST" => serde_json::from_slice(&call.body).map_err(|error| bad(error.to_string()))?,
        _ => Asked {
            url: call.argument("url").unwrap_or_else(root),
            method: call.argument("method").unwrap_or_else(get),
            headers: Default::default(),
            consumer: call.argument("consumer"),
            // A key in a query ends in logs.
            key: None,
            ip: call
                .argument("ip")
                .map(|ip| ip.parse())
                .transpose()
                .map_err(|_| bad("ip: expected an address"))?,
        },
    };
    let snapshot = api.published.current();
    let url: Uri = asked.url.parse().map_err(|error| bad(format!("url: {error}")))?;
    let target = url.path_and_query().map_or("/", |path| path.as_str());
    let verb: Method = asked.method.parse().map_err(|_| bad("method: not a method"))?;
    let mut request =
        RequestHeader::build(verb, target.as_bytes(), None).map_err(|error| bad(format!("url: {error}")))?;
    let host = url
        .authority()
        .map_or("localhost", |authority| authority.as_str());
    let has_host = asked.headers.keys().any(|name| name.eq_ignore_ascii_case("host"));
    if !has_host {
        insert(&mut request, "host", host)?;
    }
    for (name, value) in &asked.headers {
        insert(&mut request, name, value)?;
    }
    let consumer = match (&asked.consumer, &asked.key) {
        (Some(name), _) => {
            let found = snapshot.consumers.find(name);
            Some(found.ok_or_else(|| bad(format!("consumer: no consumer has the username or id '{name}'")))?)
        }
        (None, Some(key)) => {
            let found = snapshot.consumers.find_key(key.as_bytes(), clock::unix());
            let found = found.ok_or_else(|| bad("key: no consumer has this key, or it has expired"))?;
            Some(found.consumer)
        }
        (None, None) => None,
    };
    let question = Question {
        request,
        address: asked.ip,
        is_https: url.scheme_str() == Some("https"),
        consumer,
    };
    let explained = serde_json::to_value(explain(&snapshot, question)).map_err(|_| Refusal::unexpected())?;
    let mut answer = explained;
    answer["generation"] = Value::from(snapshot.generation);
    Ok(answer_with(answer))
}

fn insert(request: &mut RequestHeader, name: &str, value: &str) -> Result<(), Refusal> {
    let field = HeaderName::try_from(name)
        .ok()
        .zip(HeaderValue::try_from(value).ok());
    let (name, value) = field.ok_or_else(|| bad(format!("headers: '{name}' cannot be a header field")))?;
    request
        .append_header(name, value)
        .map(drop)
        .map_err(|error| bad(format!("headers: {error}")))
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, message)
}
