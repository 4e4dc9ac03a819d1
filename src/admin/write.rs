//! A body to an entity: what is made up, what stays, what it refers to.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::wire::refusal::Refusal;
use crate::config::Problem;
use crate::config::check::{Sound, check_entity};
use crate::config::entities::hash_password;
use crate::config::schema::{self, Field, Made, Presence};
use crate::control::Unbuildable;
use crate::entity::{self, Change, EditError, Entity, Kind, State};

/// What a body is to become.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    /// As it was sent.
    pub(super) body: Map<String, Value>,
    /// The identity that the path gives, or that of the entity that is there.
    pub(super) id: Option<Uuid>,
    /// The time in seconds since 1970.
    pub(super) now: f64,
}

/// What a draft has become.
#[derive(Debug)]
pub(super) struct Drafted {
    /// The step that puts it in place.
    pub(super) change: Change,
    pub(super) entity: Arc<Entity>,
    /// What its author should know of what is new in it.
    pub(super) warnings: Vec<Problem>,
}

impl Draft {
    /// Makes the step that puts an entity in place, complete but for defaults: a PUT or a POST.
    pub(super) fn put(mut self, state: &State, existing: Option<&Entity>) -> Result<Drafted, Refusal> {
        self.make_up();
        self.finish(state, existing)
    }

    /// Returns the body with what is made up for it.
    pub(super) fn completed(mut self) -> Map<String, Value> {
        self.make_up();
        settle_algorithm(&mut self.body);
        self.body
    }

    fn make_up(&mut self) {
        for field in self.kind.schema().fields {
            if field.made == Some(Made::Token)
                && is_absent(&self.body, field.name)
                && needs_token(&self.body, field)
            {
                let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
                self.body.insert(field.name.to_owned(), Value::from(&token[..32]));
            }
        }
    }

    /// Makes the step that changes some fields of an entity: a PATCH. Records are merged, other values
    /// replaced, and null stands for the default.
    pub(super) fn patch(mut self, state: &State, existing: &Entity) -> Result<Drafted, Refusal> {
        let sent = std::mem::take(&mut self.body);
        let mut stored = existing.fields();
        make_room(&mut stored, &sent);
        let has_password = !is_absent(&sent, "password");
        self.body = merge(self.kind.schema().fields, stored, sent);
        if !has_password && let Some(hash) = existing.values.get("password").cloned() {
            let mut drafted = self.finish(state, Some(existing))?;
            let entity = Arc::make_mut(&mut drafted.entity);
            Arc::make_mut(&mut entity.values).insert("password".to_owned(), hash);
            drafted.change = put(state, drafted.entity.clone())?;
            return Ok(drafted);
        }
        self.finish(state, Some(existing))
    }

    fn finish(mut self, state: &State, existing: Option<&Entity>) -> Result<Drafted, Refusal> {
        let (kind, schema) = (self.kind, self.kind.schema());
        refuse_forms_of_files(&self.body, schema)?;
        settle_algorithm(&mut self.body);
        let id = match self.id {
            Some(id) => id,
            None => self.given_id()?,
        };
        let created_at = self.created_at(existing);
        self.body.insert("id".to_owned(), Value::from(id.to_string()));
        self.body.insert("created_at".to_owned(), Value::from(created_at));
        self.body.shift_remove("updated_at");
        let Sound {
            mut values,
            mut warnings,
        } = check_entity(kind, &self.body)
            .map_err(|problems| Refusal::schema_violation(schema, &problems))?;
        for field in schema.fields {
            resolve(field, &mut values, state)?;
        }
        if kind.name() == "basicauth_credentials"
            && let (Some(password), Some(consumer)) = (text(&values, "password"), text(&values, "consumer"))
            && let Ok(consumer) = Uuid::parse_str(consumer)
        {
            let hash = hash_password(password, consumer);
            values.insert("password".to_owned(), Value::from(hash));
        }
        let mut entity = Entity::new(kind, id, values);
        entity.updated_at = Some(self.now.floor());
        let entity = Arc::new(entity);
        warnings.retain(|warning| is_new(warning, &entity, existing));
        Ok(Drafted {
            change: put(state, entity.clone())?,
            warnings: warnings
                .into_iter()
                .map(|warning| about(&entity, warning))
                .collect(),
            entity,
        })
    }

    fn given_id(&self) -> Result<Uuid, Refusal> {
        match self.body.get("id") {
            None | Some(Value::Null) => Ok(Uuid::new_v4()),
            Some(Value::String(text)) => {
                Uuid::parse_str(text).map_err(|_| Refusal::field_violation("id", "expected a valid UUID"))
            }
            Some(_) => Err(Refusal::field_violation("id", "expected a string")),
        }
    }

    /// A client sends the time back as it was shown, without the fraction that keeps the order.
    fn created_at(&self, existing: Option<&Entity>) -> f64 {
        let kept = existing.and_then(|entity| entity.created_at);
        match (self.body.get("created_at").and_then(Value::as_f64), kept) {
            (Some(sent), Some(kept)) if (sent - kept).abs() < 1.0 => kept,
            (Some(sent), _) => sent,
            (None, Some(kept)) => kept,
            (None, None) => self.now,
        }
    }
}

/// Says whether a field that is warned of has another value than before; who changes others knows already.
fn is_new(warning: &Problem, entity: &Entity, existing: Option<&Entity>) -> bool {
    let field = warning.path.split(['.', '[']).next().unwrap_or_default();
    existing.is_none_or(|existing| existing.values.get(field) != entity.values.get(field))
}

/// Says of which entity a problem of a body is.
fn about(entity: &Entity, mut problem: Problem) -> Problem {
    problem.place.file = "body".to_owned();
    problem.path = format!("{}[{}].{}", entity.kind.name(), entity.label(), problem.path);
    problem
}

/// Puts an entity into a state, in the words of Kong's errors.
fn put(state: &State, entity: Arc<Entity>) -> Result<Change, Refusal> {
    entity::put(state, entity.clone()).map_err(|error| refuse(&error, &entity))
}

fn refuse(error: &EditError, entity: &Entity) -> Refusal {
    match error {
        EditError::Duplicate { unique, .. } => {
            let shown = entity::show(entity.kind.schema(), &entity.fields());
            let fields = unique
                .fields
                .iter()
                .filter_map(|field| shown.get_key_value(*field));
            Refusal::unique_violation(
                fields
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        }
        EditError::Dangling { field, to, id } => foreign_key(field, id, *to),
        EditError::Referenced { of, by } => Refusal::referenced_by(of.name(), by.name()),
    }
}

/// Removes an entity with what goes with it, in the words of Kong's errors.
pub(super) fn delete(state: &State, entity: &Entity) -> Result<Vec<Change>, Refusal> {
    entity::delete(state, entity.kind, entity.id).map_err(|error| refuse(&error, entity))
}

/// What only building shows to be wrong, in the words of Kong's errors.
pub(super) fn refuse_unbuildable(fault: &Unbuildable) -> Refusal {
    let mut problem = Problem::about("configuration", fault.message.clone());
    problem.path = fault.path.clone();
    problem.hint = fault.hint.clone();
    Refusal::schema_violation(fault.kind.schema(), &[problem])
}

/// Finds what a reference means: the name or id becomes the id.
fn resolve(field: &Field, values: &mut Map<String, Value>, state: &State) -> Result<(), Refusal> {
    let Some(to) = field.kind.refers_to().and_then(Kind::named) else {
        return Ok(());
    };
    let Some(name) = text(values, field.name) else {
        return Ok(());
    };
    let id = match state.find(to, name) {
        Some(found) => found.id.to_string(),
        None if Uuid::parse_str(name).is_ok() => return Err(foreign_key(field.name, name, to)),
        None => {
            let key = to.schema().key;
            return Err(Refusal::foreign_key_unresolved(field.name, key, name, to.name()));
        }
    };
    values.insert(field.name.to_owned(), Value::from(id));
    Ok(())
}

fn foreign_key(field: &str, id: &str, to: Kind) -> Refusal {
    let key = Map::from_iter([("id".to_owned(), Value::from(id))]);
    Refusal::foreign_key(field, key, to.name())
}

/// A secret is of use with some algorithms of `jwt` only; Kong makes one up for all.
fn needs_token(body: &Map<String, Value>, field: &Field) -> bool {
    let algorithm = text(body, "algorithm").unwrap_or("HS256");
    field.name != "secret" || algorithm.starts_with("HS")
}

fn refuse_forms_of_files(body: &Map<String, Value>, schema: &schema::Entity) -> Result<(), Refusal> {
    let of_files = schema
        .fields
        .iter()
        .filter(|field| field.presence == Presence::FileOnly);
    let names = of_files
        .map(|field| field.name)
        .chain(schema.children.iter().map(|child| child.entity.name))
        .chain(schema::REMARKS.iter().map(|field| field.name));
    let sent = names.into_iter().find(|name| !is_absent(body, name));
    sent.map_or(Ok(()), |name| {
        Err(Refusal::field_violation(name, "unknown field"))
    })
}

/// In Kong `hash_on` settles the algorithm where both are given; a file that says both is refused.
fn settle_algorithm(body: &mut Map<String, Value>) {
    let hash_on = text(body, "hash_on").unwrap_or("none");
    let is_settled = match text(body, "algorithm") {
        Some("round-robin") => hash_on != "none",
        Some("consistent-hashing") => hash_on == "none" && body.contains_key("hash_on"),
        _ => false,
    };
    if is_settled {
        body.shift_remove("algorithm");
    }
}

/// Takes out stored values that a body replaces under other names.
fn make_room(stored: &mut Map<String, Value>, sent: &Map<String, Value>) {
    if !is_absent(sent, "url") {
        for part in ["protocol", "host", "port", "path"] {
            stored.shift_remove(part);
        }
    }
    if sent.contains_key("hash_on") && is_absent(sent, "algorithm") {
        stored.shift_remove("algorithm");
    }
}

fn merge(
    fields: &'static [Field],
    mut stored: Map<String, Value>,
    sent: Map<String, Value>,
) -> Map<String, Value> {
    for (name, value) in sent {
        let field = fields.iter().find(|field| field.name == name);
        let is_record = field.is_some_and(|field| {
            field.kind.fields().is_some() || matches!(field.kind, schema::Kind::Chosen(_))
        });
        let merged = match (stored.get_mut(&name), value) {
            (_, Value::Null) => None,
            (Some(Value::Object(inner)), Value::Object(sent)) if is_record => {
                let fields = field.and_then(|field| field.kind.fields()).unwrap_or_default();
                Some(Value::Object(merge(fields, std::mem::take(inner), sent)))
            }
            (_, value) => Some(value),
        };
        match merged {
            Some(value) => drop(stored.insert(name, value)),
            None => drop(stored.shift_remove(&name)),
        }
    }
    stored
}

fn is_absent(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).is_none_or(Value::is_null)
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str)
}

/// Says that the store did not take a change.
pub(super) fn refuse_store(why: &str) -> Refusal {
    let mut refusal = Refusal::database_error(why);
    refusal.status = StatusCode::SERVICE_UNAVAILABLE;
    refusal.body.insert(
        "hints".to_owned(),
        json!({"@entity": "what was in force goes on; read the entity before you try again"}),
    );
    refusal
}
