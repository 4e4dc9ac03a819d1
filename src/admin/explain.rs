//! `/explain`: which release a request would get right now, and why.
//!
//! Asked here and not at the proxy's own address, where it would tell anybody which keys are good.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::api::{Answer, Api, Call, json};
use super::wire::refusal::Refusal;
use crate::clock;
use crate::proxy::explain::{Asked, explain};

/// A request that could come, as the body of a POST describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    url: Option<String>,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    consumer: Option<String>,
    key: Option<String>,
    ip: Option<String>,
}

/// Explains the request of the body, or of the query's `url`, `method`, `consumer` and `ip`.
pub(super) async fn answer(api: &Arc<Api>, call: &Call, method: &str) -> Answer {
    let described: Described = match method {
        "POST" => serde_json::from_slice(&call.body).map_err(|error| bad(error.to_string()))?,
        _ => Described {
            url: call.argument("url"),
            method: call.argument("method"),
            consumer: call.argument("consumer"),
            ip: call.argument("ip"),
            // A key in a query ends in logs.
            ..Described::default()
        },
    };
    let snapshot = api.published.current();
    let question = asked(described)?
        .question(&snapshot)
        .map_err(|error| bad(error.to_string()))?;
    let explanation = explain(&snapshot, question);
    let mut answer = serde_json::to_value(explanation).map_err(|_| Refusal::unexpected())?;
    answer["generation"] = Value::from(snapshot.generation);
    Ok(json(answer))
}

fn asked(described: Described) -> Result<Asked, Refusal> {
    let field = |(name, value): (&String, &String)| {
        let field = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        field.ok_or_else(|| bad(format!("headers: '{name}' cannot be a header field")))
    };
    let url = described.url.as_deref().unwrap_or("/");
    let method = described.method.as_deref().unwrap_or("GET");
    let address = described.ip.map(|ip| ip.parse()).transpose();
    Ok(Asked {
        url: url.parse().map_err(|error| bad(format!("url: {error}")))?,
        method: method.parse().map_err(|_| bad("method: not a method"))?,
        headers: described.headers.iter().map(field).collect::<Result<_, _>>()?,
        consumer: described.consumer,
        key: described.key,
        address: address.map_err(|_| bad("ip: expected an address"))?,
        at: clock::unix(),
    })
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, message)
}
