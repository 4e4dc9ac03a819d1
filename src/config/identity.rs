//! Which row is which: ids, names that must be unique, references.
//!
//! Ids follow Kong's scheme for declared entities, so a file moved over from Kong keeps the ids its
//! clients know: UUID version 5 of the entity's key, in a namespace made of the entity's name. Services and
//! Routes without a name get one from their content, so that a reload changes no id that need not change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;

use serde_json::Value;
use uuid::{Uuid, uuid};

use super::check::Checker;
use super::rows::Row;
use super::schema::address::split_host;
use super::schema::target::DEFAULT_PORT;
use super::suggest::nearest;

/// The namespace of Kong's declared entities.
const NAMESPACE: Uuid = uuid!("fd02801f-0957-4a15-a55a-c8d9606f30b5");
/// Dangling references for which a near name is looked up. Each costs a pass over all names, and after
/// so many of them the mistake is another one, such as a list that was left out.
const MAX_SUGGESTIONS: usize = 20;

/// Ids and references of all rows, in the order of the rows.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) ids: Vec<Uuid>,
    /// The row that a Route's `service` or a Target's `upstream` means.
    pub(crate) references: Vec<Option<usize>>,
}

/// Gives every row its id, finds what references mean, and reports duplicates and dangling references.
///
/// `is_complete` is false when a file could not be read: a name that is not there may be in that file.
pub(crate) fn resolve(rows: &[Row<'_>], is_complete: bool, checker: &mut Checker<'_>) -> Identities {
    let mut resolver = Resolver {
        rows,
        names: HashMap::new(),
        by_id: HashMap::new(),
        result: Identities {
            ids: vec![Uuid::nil(); rows.len()],
            references: vec![None; rows.len()],
        },
        suggestions: MAX_SUGGESTIONS,
        is_complete,
    };
    // Parents first: a child's id may be made from its parent's.
    for entity in ["services", "upstreams"] {
        resolver.identify(entity, checker);
    }
    for (entity, field, parent) in [
        ("routes", "service", "services"),
        ("targets", "upstream", "upstreams"),
    ] {
        resolver.refer(entity, field, parent, checker);
        resolver.identify(entity, checker);
    }
    resolver.result
}

struct Resolver<'r, 'a> {
    rows: &'r [Row<'a>],
    /// Row of an entity by name; of Targets, by Upstream and normal form of the address.
    names: HashMap<(&'static str, String), usize>,
    by_id: HashMap<(&'static str, Uuid), usize>,
    result: Identities,
    suggestions: usize,
    is_complete: bool,
}

impl Resolver<'_, '_> {
    fn of(&self, entity: &str) -> Vec<usize> {
        (0..self.rows.len())
            .filter(|row| self.rows[*row].entity.name == entity)
            .collect()
    }

    fn identify(&mut self, entity: &str, checker: &mut Checker<'_>) {
        let mut unnamed: HashMap<String, usize> = HashMap::new();
        for index in self.of(entity) {
            let row = &self.rows[index];
            let given = row
                .values
                .get("id")
                .and_then(Value::as_str)
                .and_then(|id| Uuid::parse_str(id).ok());
            let is_unique = self.claim_name(index, checker);
            let id = given.unwrap_or_else(|| match self.key_of(index) {
                Some(key) => make_id(row.entity.name, &key),
                None => {
                    let mut content = self.result.references[index]
                        .map_or_else(String::new, |parent| self.result.ids[parent].to_string());
                    write_canonical(&Value::Object(row.values.clone()), &mut content);
                    let ordinal = unnamed.entry(content.clone()).or_default();
                    *ordinal += 1;
                    make_id(row.entity.name, &format!("{content}#{ordinal}"))
                }
            });
            self.result.ids[index] = id;
            match self.by_id.entry((row.entity.name, id)) {
                Entry::Vacant(slot) => drop(slot.insert(index)),
                // Two of one name have one id; that they have one name has been said.
                Entry::Occupied(first) if is_unique => {
                    let message = format!(
                        "uniqueness violation: '{entity}' entity with primary key set to '{id}' already declared"
                    );
                    let hint = first_declared(checker, &self.rows[*first.get()], "id");
                    checker.error(row.span_of("id"), format!("{}.id", row.path), message, Some(hint));
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// Returns what Kong makes an id from.
    fn key_of(&self, index: usize) -> Option<String> {
        let row = &self.rows[index];
        let key = row.written_text(row.entity.key)?;
        match self.result.references[index] {
            Some(upstream) if row.entity.name == "targets" => {
                Some(format!("{key}:{}", self.result.ids[upstream]))
            }
            _ => Some(key.to_owned()),
        }
    }

    /// Enters a row under its name; reports it if that is taken, and says whether it was not.
    fn claim_name(&mut self, index: usize, checker: &mut Checker<'_>) -> bool {
        let row = &self.rows[index];
        let field = row.entity.key;
        let Some(name) = row.written_text(field) else {
            return true;
        };
        let key = if row.entity.name == "targets" {
            let Some(upstream) = self.result.references[index] else {
                return true;
            };
            format!("{upstream} {}", normal_target(name))
        } else {
            name.to_owned()
        };
        match self.names.entry((row.entity.name, key)) {
            Entry::Vacant(slot) => {
                slot.insert(index);
                true
            }
            Entry::Occupied(first) => {
                let message = format!(
                    "uniqueness violation: '{}' entity with {field} set to '{name}' already declared",
                    row.entity.name
                );
                let hint = first_declared(checker, &self.rows[*first.get()], field);
                checker.error(
                    row.span_of(field),
                    format!("{}.{field}", row.path),
                    message,
                    Some(hint),
                );
                false
            }
        }
    }

    fn refer(&mut self, entity: &str, field: &str, parent: &'static str, checker: &mut Checker<'_>) {
        for index in self.of(entity) {
            let row = &self.rows[index];
            if row.parent.is_some() {
                self.result.references[index] = row.parent;
                continue;
            }
            let Some(name) = row.values.get(field).and_then(Value::as_str) else {
                continue;
            };
            let by_id = Uuid::parse_str(name)
                .ok()
                .and_then(|id| self.by_id.get(&(parent, id)));
            let found = by_id
                .or_else(|| self.names.get(&(parent, name.to_owned())))
                .copied();
            if found.is_none() && self.is_complete {
                let message = format!("invalid reference '{field}: {name}' (no such entry in '{parent}')");
                let hint = self.suggest(parent, name);
                checker.error(row.span_of(field), format!("{}.{field}", row.path), message, hint);
            }
            self.result.references[index] = found;
        }
    }

    fn suggest(&mut self, entity: &str, name: &str) -> Option<String> {
        self.suggestions = self.suggestions.checked_sub(1)?;
        let known: Vec<&str> = self
            .of(entity)
            .into_iter()
            .filter_map(|row| self.rows[row].written_text("name"))
            .collect();
        Some(match nearest(name, known.iter().copied()) {
            Some(candidate) => format!("did you mean '{candidate}'?"),
            None if known.is_empty() => format!("there are no {entity}"),
            None => format!(
                "known {entity}: {}{}",
                known[..known.len().min(8)].join(", "),
                if known.len() > 8 { ", …" } else { "" }
            ),
        })
    }
}

fn first_declared(checker: &Checker<'_>, row: &Row<'_>, field: &str) -> String {
    let place = row.span_of(field).and_then(|span| checker.sources.place(span));
    format!(
        "first declared at {}; rename or remove one",
        place.map_or_else(|| row.path.clone(), |place| place.to_string())
    )
}

/// Makes the id of an entity from its key, as Kong does.
pub(crate) fn make_id(entity: &str, key: &str) -> Uuid {
    Uuid::new_v5(&Uuid::new_v5(&NAMESPACE, entity.as_bytes()), key.as_bytes())
}

/// Returns a Target's address in the one form by which two are compared.
fn normal_target(target: &str) -> String {
    let Ok((host, port)) = split_host(target) else {
        return target.to_owned();
    };
    let host = host
        .parse::<std::net::IpAddr>()
        .map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string());
    format!("{host} {}", port.unwrap_or(DEFAULT_PORT))
}

/// Writes a value with the keys of all mappings in order, so that moving a line changes nothing.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                let _ = write!(out, "{key:?}:");
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_kongs_scheme() {
        // uuid.uuid5(uuid.uuid5(NAMESPACE, "services"), "shop") of Python's standard library.
        assert_eq!(
            make_id("services", "shop").to_string(),
            "abfbe39c-075b-5e5e-aec6-a90f2f0adfee"
        );
    }

    #[test]
    fn two_spellings_of_one_address_are_one_target() {
        assert_eq!(normal_target("SHOP"), normal_target("shop:8000"));
        assert_eq!(normal_target("[0:0::1]:80"), normal_target("[::1]:80"));
        assert_ne!(normal_target("shop:80"), normal_target("shop:81"));
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let canonical = |text: &str| {
            let mut out = String::new();
            write_canonical(&serde_json::from_str(text).unwrap(), &mut out);
            out
        };
        assert_eq!(
            canonical(r#"{"a": {"c": 1, "b": [2]}, "d": null}"#),
            canonical(r#"{"d": null, "a": {"b": [2], "c": 1}}"#)
        );
        assert_ne!(canonical(r#"["a", "b"]"#), canonical(r#"["a,b"]"#));
    }
}
