//! Lists, page by page.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Answer, Api, Call, json as answer};
use super::entities::{find, shown_with};
use super::names::Names;
use super::wire::page::Page;
use super::wire::refusal::Refusal;
use crate::entity::{Entity, Kind, State};

/// Lists the entities of a kind, perhaps those that refer to another by a field.
///
/// A page begins behind the last entity of the one before, by id: what comes or goes meanwhile shifts nothing.
/// Of an Upstream the newest Target comes first, as in Kong.
pub(super) fn list(call: &Call, state: &State, kind: Kind, parent: Option<(&'static str, Uuid)>) -> Answer {
    let page = Page::parse(call.query.as_deref(), parent.is_none())?;
    let mut found: Vec<&Arc<Entity>> = match parent {
        Some((field, id)) => state.referring(kind, field, id).collect(),
        None => {
            let after = after(&page)?;
            // One more than the page has, to see whether there is a next one.
            let chosen = state
                .entities_after(kind, after)
                .filter(|entity| is_chosen(call, &page, entity));
            chosen.take(page.size + 1).collect()
        }
    };
    if parent.is_some() {
        if kind.name() == "targets" {
            found.sort_by(|a, b| {
                (order(b), b.id)
                    .partial_cmp(&(order(a), a.id))
                    .unwrap_or(std::cmp::Ordering::Equal)
            });
            if let Some(after) = &page.after {
                let (time, id) = newest_first(after)?;
                found.retain(|entity| (order(entity), entity.id) < (time, id));
            }
        } else if let Some(after) = after(&page)? {
            found.retain(|entity| entity.id > after);
        }
        found.truncate(page.size + 1);
    }
    let has_more = found.len() > page.size;
    found.truncate(page.size);
    let last = found
        .last()
        .filter(|_| has_more)
        .map(|entity| match (parent, kind.name()) {
            (Some(_), "targets") => format!("{} {}", order(entity), entity.id),
            _ => entity.id.to_string(),
        });
    let names = Names::of(state, &found);
    let items = found
        .into_iter()
        .map(|entity| shown_with(call, entity, &names))
        .collect();
    Ok(answer(page.render(call.own_path(), items, last.as_deref())))
}

fn is_chosen(call: &Call, page: &Page, entity: &Entity) -> bool {
    let has_tags = page.tags.as_ref().is_none_or(|tags| tags.has(&entity.values));
    let custom_id = || {
        call.argument("custom_id")
            .filter(|_| entity.kind.name() == "consumers")
    };
    has_tags && custom_id().is_none_or(|wanted| entity.text("custom_id") == Some(&wanted))
}

fn order(entity: &Entity) -> f64 {
    entity.created_at.unwrap_or_default()
}

fn after(page: &Page) -> Result<Option<Uuid>, Refusal> {
    let parse = |text: &String| Uuid::parse_str(text).map_err(|_| bad_offset(text));
    page.after.as_ref().map(parse).transpose()
}

fn newest_first(text: &str) -> Result<(f64, Uuid), Refusal> {
    let parsed = text
        .split_once(' ')
        .and_then(|(time, id)| Some((time.parse().ok()?, Uuid::parse_str(id).ok()?)));
    parsed.ok_or_else(|| bad_offset(text))
}

fn bad_offset(text: &str) -> Refusal {
    Refusal::invalid_offset(text, "bad offset")
}

/// Lists every Target of an Upstream, those of weight 0 too, which Kong tells apart.
pub(super) fn all_targets(api: &Api, call: &Call, upstream: &str) -> Answer {
    let view = api.door.view();
    let kind = Kind::named("upstreams").ok_or_else(Refusal::not_found)?;
    let upstream = find(&view.state, kind, upstream)?.id;
    let targets = Kind::named("targets").ok_or_else(Refusal::not_found)?;
    list(call, &view.state, targets, Some(("upstream", upstream)))
}

/// Lists what there is none of.
pub(super) fn empty(call: &Call) -> Answer {
    let page = Page::parse(call.query.as_deref(), true)?;
    Ok(answer(page.render(call.own_path(), Vec::new(), None)))
}

/// Lists who has which label: `GET /tags` and `/tags/{tag}`.
pub(super) fn tags(api: &Api, call: &Call, wanted: Option<&str>) -> Answer {
    let page = Page::parse(call.query.as_deref(), false)?;
    let view = api.door.view();
    let mut found: Vec<(String, Value)> = Vec::new();
    for kind in Kind::all() {
        for entity in view.state.entities(kind) {
            let tags = entity.values.get("tags").and_then(Value::as_array);
            for tag in tags.into_iter().flatten().filter_map(Value::as_str) {
                if wanted.is_none_or(|wanted| wanted == tag) {
                    let key = format!("{} {} {tag}", kind.name(), entity.id);
                    let item =
                        json!({"entity_name": kind.name(), "entity_id": entity.id.to_string(), "tag": tag});
                    found.push((key, item));
                }
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(after) = &page.after {
        found.retain(|(key, _)| key > after);
    }
    let has_more = found.len() > page.size;
    found.truncate(page.size);
    let last = found.last().filter(|_| has_more).map(|(key, _)| key.clone());
    let items = found.into_iter().map(|(_, item)| item).collect();
    Ok(answer(page.render(call.own_path(), items, last.as_deref())))
}
