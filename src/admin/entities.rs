//! Entities: made, read, changed, removed.

use std::hash::Hasher;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;
use uuid::Uuid;

use super::address::{Address, Parent};
use super::api::{Answer, Api, Call, json, respond, with_generation};
use super::guard::Role;
use super::listing;
use super::names::{Names, give_names, take_names};
use super::wire::body::{read_body, read_change};
use super::wire::refusal::Refusal;
use super::write::{self, Draft, Drafted};
use crate::clock;
use crate::config::Problem;
use crate::config::check::check_entity;
use crate::entity::{self, Change, Entity, Kind, State};
use crate::health;
use crate::snapshot::Snapshot;

/// What is still under way on the Upstream that a Service has left, as `name=number`.
const IN_FLIGHT: HeaderName = HeaderName::from_static("x-serin-in-flight");

/// An address with names in place of borrowed text, so that a plan can keep it.
#[derive(Debug, Clone)]
struct Place {
    kind: Kind,
    /// The entity that it is nested in: kind, name, and the field that refers to it.
    parent: Option<(Kind, String, &'static str)>,
    name: Option<String>,
    /// The field of the entity called so that refers to the one meant.
    link: Option<(Kind, &'static str)>,
}

impl From<Address<'_>> for Place {
    fn from(address: Address<'_>) -> Self {
        let of = |parent: Parent<'_>| Some((parent.kind, parent.name.to_owned(), parent.field));
        let (kind, parent, name, link) = match address {
            Address::Collection(kind) => (kind, None, None, None),
            Address::Item(kind, name) => (kind, None, Some(name), None),
            Address::Children(parent, kind) => (kind, of(parent), None, None),
            Address::Child(parent, kind, name) => (kind, of(parent), Some(name), None),
            Address::Link(from, name, field, to) => (to, None, Some(name), Some((from, field))),
        };
        Self {
            kind,
            parent,
            name: name.map(str::to_owned),
            link,
        }
    }
}

/// What a place holds.
struct Found {
    parent: Option<(&'static str, Uuid)>,
    entity: Option<Arc<Entity>>,
}

impl Place {
    /// Looks a place up.
    ///
    /// # Errors
    /// 404 when the entity that it is nested in is not there.
    fn find(&self, state: &State) -> Result<Found, Refusal> {
        if let Some((from, field)) = self.link {
            let from = find(state, from, self.name.as_deref().unwrap_or_default())?;
            let entity = from.reference(field).and_then(|id| state.get(self.kind, id));
            let entity = entity.ok_or_else(Refusal::not_found)?;
            return Ok(Found {
                parent: None,
                entity: Some(entity.clone()),
            });
        }
        let parent = match &self.parent {
            Some((kind, name, field)) => Some((*field, find(state, *kind, name)?.id)),
            None => None,
        };
        let entity = self.name.as_deref().and_then(|name| match parent {
            Some((field, parent)) => state.child(self.kind, field, parent, name),
            None => state.find(self.kind, name),
        });
        Ok(Found {
            parent,
            entity: entity.cloned(),
        })
    }

    fn is_target(&self) -> bool {
        self.kind.name() == "targets"
    }
}

/// Finds an entity by id or name.
///
/// # Errors
/// 404 when there is none.
pub(super) fn find<'a>(state: &'a State, kind: Kind, name: &str) -> Result<&'a Arc<Entity>, Refusal> {
    state.find(kind, name).ok_or_else(Refusal::not_found)
}

/// Answers a request about entities.
pub(super) async fn answer(api: &Arc<Api>, call: &Call, method: &str, address: Address<'_>) -> Answer {
    let place = Place::from(address);
    match (method, &place.name) {
        ("GET", None) => {
            let view = api.door.view();
            let parent = place.find(&view.state)?.parent;
            listing::list(call, &view.state, place.kind, parent)
        }
        ("GET", Some(_)) => {
            let view = api.door.view();
            let entity = place.find(&view.state)?.entity.ok_or_else(Refusal::not_found)?;
            let names = Names::of(&view.state, &[&entity]);
            Ok(with_etag(json(shown_with(call, &entity, &names)), &entity))
        }
        ("POST", _) => create(api, call, place).await,
        ("PUT", _) => replace(api, call, place).await,
        ("PATCH", _) => patch(api, call, place).await,
        _ => delete(api, call, place).await,
    }
}

fn entity_of(api: &Api, place: &Place) -> Result<Arc<Entity>, Refusal> {
    place
        .find(&api.door.view().state)?
        .entity
        .ok_or_else(Refusal::not_found)
}

async fn create(api: &Api, call: &Call, place: Place) -> Answer {
    let mut body = read_body(call.content_type(), call.body.clone(), place.kind.schema()).await?;
    let names = take_names(place.kind, &mut body)?;
    let made = api.change(call, move |state| {
        let draft = draft(&place, body.clone(), place.find(state)?.parent, None);
        let now = draft.now;
        let drafted = draft.put(state, None)?;
        let entity = &drafted.entity;
        if state.get(entity.kind, entity.id).is_some() {
            return Err(match entity.kind.name() {
                "plugins" => Refusal::id_in_use(&entity.id.to_string()),
                _ => {
                    let id = Value::from(entity.id.to_string());
                    Refusal::primary_key_violation(Map::from_iter([("id".to_owned(), id)]))
                }
            });
        }
        finish(state, drafted, names.as_deref(), now)
    });
    let (made, generation) = made.await?;
    call.warn(&made.warnings);
    let response = respond(StatusCode::CREATED, &shown_with(call, &made.entity, &made.names));
    Ok(with_generation(with_etag(response, &made.entity), generation))
}

/// What is shown of a change.
struct Made {
    entity: Arc<Entity>,
    names: Names,
    warnings: Vec<Problem>,
}

/// The steps of a change with those for the names of a certificate; and what is shown of it afterwards.
fn finish(
    state: &State,
    drafted: Drafted,
    names: Option<&[String]>,
    now: f64,
) -> Result<(Vec<Change>, Made), Refusal> {
    let Drafted {
        change,
        entity,
        warnings,
    } = drafted;
    let changes = match names {
        Some(names) => give_names(state, &entity, change, names, now)?,
        None => vec![change],
    };
    let mut after = state.clone();
    if names.is_some() {
        entity::apply(&mut after, &changes);
    }
    let names = Names::of(&after, &[&entity]);
    let made = Made {
        entity,
        names,
        warnings,
    };
    Ok((changes, made))
}

async fn replace(api: &Api, call: &Call, place: Place) -> Answer {
    let mut body = read_body(call.content_type(), call.body.clone(), place.kind.schema()).await?;
    let names = take_names(place.kind, &mut body)?;
    let if_match = call.if_match();
    let made = api.change(call, move |state| {
        let found = place.find(state)?;
        let existing = found.entity.as_deref();
        check_match(if_match.as_deref(), existing)?;
        // Kong never makes a Target by PUT; decK then POSTs it.
        if place.is_target() && existing.is_none() {
            return Err(Refusal::not_found());
        }
        let name = place
            .name
            .as_deref()
            .filter(|_| place.link.is_none())
            .unwrap_or_default();
        let id = existing.map(|entity| entity.id).or(Uuid::parse_str(name).ok());
        let mut body = body.clone();
        if Uuid::parse_str(name).is_err() && place.link.is_none() {
            name_it(&mut body, place.kind, name)?;
        }
        let draft = draft(&place, body, found.parent, id);
        let now = draft.now;
        let drafted = draft.put(state, existing)?;
        finish(state, drafted, names.as_deref(), now)
    });
    let (made, generation) = made.await?;
    call.warn(&made.warnings);
    let shown = shown_with(call, &made.entity, &made.names);
    Ok(with_generation(with_etag(json(shown), &made.entity), generation))
}

async fn patch(api: &Arc<Api>, call: &Call, place: Place) -> Answer {
    let stored = entity_of(api, &place)?.fields();
    let mut body = read_change(
        call.content_type(),
        call.body.clone(),
        place.kind.schema(),
        &stored,
    )
    .await?;
    let names = take_names(place.kind, &mut body)?;
    let (if_match, is_forced) = (call.if_match(), call.is_set("force"));
    let published = api.published.clone();
    let made = api.change(call, move |state| {
        let found = place.find(state)?;
        let existing = found.entity.ok_or_else(Refusal::not_found)?;
        check_match(if_match.as_deref(), Some(&existing))?;
        let draft = draft(&place, body.clone(), found.parent, Some(existing.id));
        let now = draft.now;
        let drafted = draft.patch(state, &existing)?;
        if !is_forced {
            refuse_void(&published.current(), &existing, &drafted.entity)?;
        }
        let (changes, made) = finish(state, drafted, names.as_deref(), now)?;
        Ok((changes, (existing, made)))
    });
    let ((before, made), generation) = made.await?;
    call.warn(&made.warnings);
    let Made { entity, names, .. } = made;
    let shown = shown_with(call, &entity, &names);
    let mut response = with_generation(with_etag(json(shown), &entity), generation);
    if entity.kind.name() == "services"
        && let Some(left) = before
            .text("host")
            .filter(|host| entity.text("host") != Some(*host))
        && let Some(report) = health::drain(&api.published.current(), &api.observed, left, clock::monotonic())
        && let Ok(value) = HeaderValue::try_from(format!("{left}={}", report.in_flight))
    {
        response.headers_mut().insert(IN_FLIGHT, value);
    }
    Ok(response)
}

/// Kong would switch into the void: an Upstream with Targets of which none may be chosen answers 503.
fn refuse_void(snapshot: &Snapshot, before: &Entity, after: &Entity) -> Result<(), Refusal> {
    let host = after
        .text("host")
        .filter(|host| before.text("host") != Some(*host));
    let (Some(host), "services") = (host, after.kind.name()) else {
        return Ok(());
    };
    let upstream = snapshot
        .upstreams
        .iter()
        .find(|upstream| upstream.is_declared() && upstream.label() == host);
    let Some(upstream) = upstream else {
        return Ok(());
    };
    let targets = upstream.targets().len();
    if targets == 0 || !upstream.endpoints().eligible.is_empty() {
        return Ok(());
    }
    Err(Refusal::conflict(format!(
        "upstream '{host}' has targets ({targets}), but none may be chosen now, so that every request would be answered 503; see /upstreams/{host}/health, or add ?force=true"
    )))
}

async fn delete(api: &Api, call: &Call, place: Place) -> Answer {
    let if_match = call.if_match();
    let removed = api.change(call, move |state| {
        let found = place.find(state)?;
        check_match(if_match.as_deref(), found.entity.as_deref())?;
        match found.entity {
            Some(entity) => Ok((write::delete(state, &entity)?, ())),
            None if place.is_target() => Err(Refusal::not_found()),
            None => Ok((Vec::new(), ())),
        }
    });
    let ((), generation) = removed.await?;
    Ok(with_generation(no_content(), generation))
}

/// Checks a body without keeping anything: `POST /schemas/{entity}/validate`.
pub(super) async fn validate(call: &Call, kind: Kind) -> Answer {
    let mut body = read_body(call.content_type(), call.body.clone(), kind.schema()).await?;
    take_names(kind, &mut body)?;
    body.entry("created_at")
        .or_insert(Value::from(clock::unix().as_secs()));
    let draft = Draft {
        kind,
        body,
        id: None,
        now: clock::unix().as_secs_f64(),
    };
    let body = draft.completed();
    check_entity(kind, &body).map_err(|problems| Refusal::schema_violation(kind.schema(), &problems))?;
    Ok(json(
        serde_json::json!({"message": "schema validation successful"}),
    ))
}

fn draft(
    place: &Place,
    mut body: Map<String, Value>,
    parent: Option<(&'static str, Uuid)>,
    id: Option<Uuid>,
) -> Draft {
    if let Some((field, parent)) = parent {
        body.insert(field.to_owned(), Value::from(parent.to_string()));
    }
    Draft {
        kind: place.kind,
        body,
        id,
        now: clock::unix().as_secs_f64(),
    }
}

/// What is put under a name has that name, unless the body gives it another.
fn name_it(body: &mut Map<String, Value>, kind: Kind, name: &str) -> Result<(), Refusal> {
    let field = match kind.name() {
        "acls" => Some("group"),
        "targets" => Some("target"),
        _ => {
            let key = kind.schema().key;
            let is_unique = kind.schema().unique.iter().any(|unique| unique.fields == [key]);
            is_unique.then_some(key)
        }
    };
    let Some(field) = field else {
        let why = Map::from_iter([("id".to_owned(), Value::from("expected a valid UUID"))]);
        return Err(Refusal::invalid_primary_key(why));
    };
    if body.get(field).is_none_or(Value::is_null) {
        body.insert(field.to_owned(), Value::from(name));
    }
    Ok(())
}

fn check_match(if_match: Option<&str>, entity: Option<&Entity>) -> Result<(), Refusal> {
    let Some(wanted) = if_match else {
        return Ok(());
    };
    let has = entity.map(etag);
    let is_met = match wanted {
        "*" => has.is_some(),
        tags => tags.split(',').any(|tag| has.as_deref() == Some(tag.trim())),
    };
    match is_met {
        true => Ok(()),
        false => Err(Refusal::precondition_failed()),
    }
}

/// Returns what changes whenever the entity does.
fn etag(entity: &Entity) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(Value::Object(entity.fields()).to_string().as_bytes());
    format!("\"{:016x}\"", hasher.finish())
}

fn with_etag(mut response: Response, entity: &Entity) -> Response {
    if let Ok(tag) = HeaderValue::try_from(etag(entity)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Returns an entity as the client may see it.
pub(super) fn shown(call: &Call, entity: &Entity) -> Value {
    let fields = entity.fields();
    Value::Object(match call.role {
        Role::Admin => entity::show(entity.kind.schema(), &fields),
        Role::Reader => entity::show_masked(entity.kind.schema(), &fields),
    })
}

/// Returns an entity as the client may see it, with the names that it has as a certificate.
pub(super) fn shown_with(call: &Call, entity: &Entity, names: &Names) -> Value {
    let mut shown = shown(call, entity);
    names.add_to(&mut shown, entity);
    shown
}

/// Answers that there is nothing more to say.
pub(super) fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
