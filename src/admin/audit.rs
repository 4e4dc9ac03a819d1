//! `GET /audit`: who changed what, newest first.

use serde_json::{Value, json};

use super::api::{Answer, Api, Call, json as respond};
use super::wire::page::Page;
use super::wire::refusal::Refusal;
use super::write;
use crate::config::reload::with_causes;

/// Answers with a page of the audit trail. No secret is in it.
pub(super) async fn answer(api: &Api, call: &Call) -> Answer {
    let page = Page::parse(call.query.as_deref(), false)?;
    let before = match &page.after {
        Some(text) => Some(
            text.parse::<u64>()
                .map_err(|_| Refusal::invalid_offset(text, "bad offset"))?,
        ),
        None => None,
    };
    let entries = api.store.entries(before, page.size).await;
    let entries = entries.map_err(|error| write::refuse_store(&with_causes(&error)))?;
    let last = entries
        .last()
        .map(|entry| entry.revision)
        .filter(|revision| *revision > 1);
    let last = last
        .filter(|_| entries.len() >= page.size)
        .map(|revision| revision.to_string());
    let items: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "generation": entry.revision,
                "at": entry.at.as_secs_f64(),
                "who": entry.who,
                "what": entry.what,
                "changes": entry.changes,
            })
        })
        .collect();
    Ok(respond(page.render(call.own_path(), items, last.as_deref())))
}
