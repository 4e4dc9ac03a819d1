//! All entities at once: `/config`, and in what they differ from the files.

use std::sync::PoisonError;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use super::api::{Answer, Api, Call, json as found, respond, with_generation};
use super::guard::Role;
use super::wire::body::read_config_body;
use super::wire::refusal::Refusal;
use crate::clock;
use crate::config::export::export;
use crate::config::{Overrides, load_text};
use crate::control::differences;
use crate::entity::{Change, Entity, State, show_masked};

/// `GET /config` shows what is in force as a file; `POST /config` puts a file's entities in place of all others.
pub(super) async fn answer(api: &Api, call: &Call, method: &str) -> Answer {
    if method == "GET" {
        if call.role == Role::Reader {
            let why = "the configuration holds secrets, and this token may only read what holds none";
            return Err(Refusal::message(StatusCode::FORBIDDEN, why));
        }
        return Ok(found(json!({ "config": export(&api.door.view().state) })));
    }
    let text = read_config_body(call.content_type(), call.body.clone()).await?;
    let hash = hash_of(&text);
    if call.is_set("check_hash") && is_in_force(api, &hash) {
        return Ok(respond(StatusCode::NOT_MODIFIED, &Value::Null));
    }
    let overrides = Overrides::default();
    let loaded =
        load_text("config", &text, &overrides).map_err(|report| Refusal::declarative(&report.problems))?;
    let entities = loaded.entities;
    let shown = by_kind(
        &entities
            .iter()
            .map(|entity| (**entity).clone())
            .collect::<Vec<_>>(),
    );
    let ((), generation) = api
        .change(call, move |state| Ok((replace_all(state, &entities), ())))
        .await?;
    call.warn(&loaded.warnings);
    *api.posted.lock().unwrap_or_else(PoisonError::into_inner) = Some((hash, generation));
    Ok(with_generation(
        respond(StatusCode::CREATED, &Value::Object(shown)),
        generation,
    ))
}

/// Says whether the configuration of this hash was posted last and nothing has changed since.
fn is_in_force(api: &Api, hash: &str) -> bool {
    let posted = api.posted.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = api.published.current().generation;
    posted
        .as_ref()
        .is_some_and(|(known, made)| known == hash && *made == generation)
}

/// Kong shows 32 hexadecimal digits.
fn hash_of(text: &str) -> String {
    let hash = Sha1::digest(text.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Steps from what is in force to these entities and no others; what is the same stays as it is.
fn replace_all(state: &State, entities: &[std::sync::Arc<Entity>]) -> Vec<Change> {
    let wanted = State::of(entities.iter().cloned());
    let before = state.in_order();
    let gone = before
        .iter()
        .rev()
        .filter(|entity| wanted.get(entity.kind, entity.id).is_none());
    let mut changes: Vec<Change> = gone
        .map(|entity| Change::Delete(entity.kind, entity.id))
        .collect();
    let now = clock::unix().as_secs_f64();
    for (index, entity) in entities.iter().enumerate() {
        let current = state.get(entity.kind, entity.id);
        if current.is_some_and(|current| current.says_the_same(entity)) {
            continue;
        }
        let made_at = now + index as f64 * 1e-6;
        let entity = Entity {
            created_at: entity
                .created_at
                .or(current.and_then(|current| current.created_at))
                .or(Some(made_at)),
            updated_at: Some(now.floor()),
            ..(**entity).clone()
        };
        changes.push(Change::Put(entity.into()));
    }
    changes
}

/// Kong answers with everything that was declared, by kind and id.
fn by_kind(entities: &[Entity]) -> Map<String, Value> {
    let mut shown = Map::new();
    for entity in entities {
        let of_kind = shown.entry(entity.kind.name()).or_insert_with(|| json!({}));
        of_kind[entity.id.to_string()] = Value::Object(show_masked(entity.kind.schema(), &entity.fields()));
    }
    shown
}

/// `GET /drift`: in what the entities in force differ from what the files said last.
pub(super) fn drift(api: &Api) -> Value {
    let view = api.door.view();
    let data = differences(&view.file, &view.state)
        .into_iter()
        .map(|difference| {
            let is_secret = |path: &str| {
                let field = difference
                    .kind
                    .schema()
                    .fields
                    .iter()
                    .find(|field| field.name == path);
                field.is_some_and(|field| field.is_secret)
            };
            let fields = difference
                .fields()
                .into_iter()
                .map(|(path, file, live)| match is_secret(&path) {
                    true => json!({"field": path, "file": "***", "live": "***"}),
                    false => json!({"field": path, "file": file, "live": live}),
                });
            let state = match (&difference.file, &difference.live) {
                (Some(_), None) => "removed",
                (None, _) => "added",
                _ => "changed",
            };
            json!({
                "entity": difference.kind.name(),
                "id": difference.id.to_string(),
                "name": difference.name,
                "state": state,
                "fields": fields.collect::<Value>(),
            })
        });
    json!({ "data": data.collect::<Value>(), "next": null })
}
