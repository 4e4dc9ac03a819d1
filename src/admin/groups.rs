//! Who is in which consumer group.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::address::Address;
use super::api::{Answer, Api, Call, json as answer, respond, with_generation};
use super::entities::{self, find, no_content, shown};
use super::wire::body::read_body;
use super::wire::refusal::Refusal;
use crate::clock;
use crate::config::entities::member;
use crate::entity::{Change, Entity, Kind, State};

fn kind(name: &str) -> Result<Kind, Refusal> {
    Kind::named(name).ok_or_else(Refusal::not_found)
}

/// `/consumer_groups/{group}`: Kong shows a group with its members and plugins.
pub(super) async fn group(api: &Arc<Api>, call: &Call, method: &str, group: &str) -> Answer {
    let groups = kind("consumer_groups")?;
    if method != "GET" {
        return entities::answer(api, call, method, Address::Item(groups, group)).await;
    }
    let view = api.door.view();
    let found = find(&view.state, groups, group)?;
    let mut shown_group = json!({ "consumer_group": shown(call, found) });
    if call.argument("list_consumers").as_deref() != Some("false") {
        let consumers = consumers_of(&view.state, found)?;
        shown_group["consumers"] = consumers.iter().map(|consumer| shown(call, consumer)).collect();
    }
    shown_group["plugins"] = json!([]);
    Ok(answer(shown_group))
}

fn consumers_of(state: &State, group: &Entity) -> Result<Vec<Arc<Entity>>, Refusal> {
    let (members, consumers) = (kind("consumer_group_consumers")?, kind("consumers")?);
    let members = state.referring(members, "consumer_group", group.id);
    let found = members.filter_map(|member| state.get(consumers, member.reference("consumer")?).cloned());
    Ok(found.collect())
}

/// `/consumer_groups/{group}/consumers`: the members, and a new one by `{"consumer": id or username}`.
pub(super) async fn members(api: &Api, call: &Call, method: &str, group: &str) -> Answer {
    let (groups, consumers) = (kind("consumer_groups")?, kind("consumers")?);
    if method == "GET" {
        let view = api.door.view();
        let members = consumers_of(&view.state, find(&view.state, groups, group)?)?;
        let data: Value = members.iter().map(|consumer| shown(call, consumer)).collect();
        return Ok(answer(json!({ "data": data, "next": null })));
    }
    let names = names_in(call, "consumer").await?;
    let group = group.to_owned();
    let made = api.change(call, move |state| {
        let group = find(state, groups, &group)?.clone();
        let pairs = names.iter().map(|name| {
            let consumer = find(state, consumers, name);
            consumer.map(|consumer| (consumer.clone(), group.clone()))
        });
        let pairs: Vec<_> = pairs.collect::<Result<_, _>>()?;
        Ok((join(&pairs), (group, pairs)))
    });
    let ((group, pairs), generation) = made.await?;
    let consumers: Value = pairs.iter().map(|(consumer, _)| shown(call, consumer)).collect();
    let value = json!({ "consumer_group": shown(call, &group), "consumers": consumers });
    Ok(with_generation(respond(StatusCode::CREATED, &value), generation))
}

/// `/consumers/{consumer}/consumer_groups`: the groups, and a new one by `{"group": id or name}`.
pub(super) async fn of_consumer(api: &Api, call: &Call, method: &str, consumer: &str) -> Answer {
    let (groups, consumers) = (kind("consumer_groups")?, kind("consumers")?);
    if method == "GET" {
        let view = api.door.view();
        let consumer = find(&view.state, consumers, consumer)?;
        let members = view
            .state
            .referring(kind("consumer_group_consumers")?, "consumer", consumer.id);
        let found = members.filter_map(|member| view.state.get(groups, member.reference("consumer_group")?));
        let data: Value = found.map(|group| shown(call, group)).collect();
        return Ok(answer(json!({ "data": data, "next": null })));
    }
    let names = names_in(call, "group").await?;
    let consumer = consumer.to_owned();
    let made = api.change(call, move |state| {
        let consumer = find(state, consumers, &consumer)?.clone();
        let pairs = names.iter().map(|name| {
            let group = find(state, groups, name);
            group.map(|group| (consumer.clone(), group.clone()))
        });
        let pairs: Vec<_> = pairs.collect::<Result<_, _>>()?;
        Ok((join(&pairs), (consumer, pairs)))
    });
    let ((consumer, pairs), generation) = made.await?;
    let groups: Value = pairs.iter().map(|(_, group)| shown(call, group)).collect();
    let value = json!({ "consumer": shown(call, &consumer), "consumer_groups": groups });
    Ok(with_generation(respond(StatusCode::CREATED, &value), generation))
}

/// Takes a Consumer out of a group.
pub(super) async fn remove(api: &Api, call: &Call, consumer: &str, group: &str) -> Answer {
    let (groups, consumers, members) = (
        kind("consumer_groups")?,
        kind("consumers")?,
        kind("consumer_group_consumers")?,
    );
    let (consumer, group) = (consumer.to_owned(), group.to_owned());
    let removed = api.change(call, move |state| {
        let consumer = find(state, consumers, &consumer)?.id;
        let group = find(state, groups, &group)?.id;
        let member = state
            .referring(members, "consumer", consumer)
            .find(|member| member.reference("consumer_group") == Some(group))
            .ok_or_else(Refusal::not_found)?;
        Ok((vec![Change::Delete(members, member.id)], ()))
    });
    let ((), generation) = removed.await?;
    Ok(with_generation(no_content(), generation))
}

/// Who is in a group already stays in it.
fn join(pairs: &[(Arc<Entity>, Arc<Entity>)]) -> Vec<Change> {
    let now = clock::unix().as_secs_f64();
    let members = pairs
        .iter()
        .filter_map(|(consumer, group)| member(consumer.id, group.id));
    let put = members.map(|member| {
        Change::Put(Arc::new(Entity {
            created_at: Some(now),
            updated_at: Some(now.floor()),
            ..member
        }))
    });
    put.collect()
}

/// Reads one name or several.
async fn names_in(call: &Call, field: &str) -> Result<Vec<String>, Refusal> {
    let members = kind("consumer_group_consumers")?;
    let body: Map<String, Value> =
        read_body(call.content_type(), call.body.clone(), members.schema()).await?;
    let name_of = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(map) => map.values().find_map(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let names: Vec<String> = match body.get(field) {
        Some(Value::Array(items)) => items.iter().filter_map(name_of).collect(),
        Some(value) => name_of(value).into_iter().collect(),
        None => Vec::new(),
    };
    match names.is_empty() {
        true => Err(Refusal::field_violation(field, "required field missing")),
        false => Ok(names),
    }
}
