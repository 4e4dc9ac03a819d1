//! Which row is which: ids, names that must be unique, references.
//!
//! Ids follow Kong's scheme for declared entities, so a file moved over from Kong keeps the ids its
//! clients know: UUID version 5 of the entity's key, in a namespace made of the entity's name. Services and
//! Routes without a name get one from their content, so that a reload changes no id that need not change.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value;
use uuid::{Uuid, uuid};

use super::check::Checker;
use super::mark::Span;
use super::rows::Row;
use super::schema::target::normal_target;
use super::schema::{Field, Kind};
use super::suggest::nearest;

/// The namespace of Kong's declared entities.
const NAMESPACE: Uuid = uuid!("fd02801f-0957-4a15-a55a-c8d9606f30b5");
/// The kind of those who are in consumer groups.
pub(crate) const MEMBERS: &str = "consumer_group_consumers";
/// Dangling references for which a near name is looked up. Each costs a pass over all names, and after
/// so many of them the mistake is another one, such as a list that was left out.
const MAX_SUGGESTIONS: usize = 20;

/// Ids and references of all rows, in the order of the rows.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) ids: Vec<Uuid>,
    /// The row that a Route's or plugin's `service`, a Target's `upstream` or a `consumer` means.
    pub(crate) references: Vec<Option<usize>>,
    /// The row that a plugin's `route` or a member's `consumer_group` means, by the row of either.
    seconds: HashMap<usize, usize>,
    /// The rows of the consumer groups that a Consumer lists, each once, by the Consumer's row.
    pub(crate) groups: HashMap<usize, Vec<usize>>,
    /// Rows by id, and by name.
    by_id: HashMap<(&'static str, Uuid), usize>,
    names: HashMap<(&'static str, usize, String), usize>,
}

impl Identities {
    /// Returns the row that an id or a name means.
    pub(crate) fn find(&self, entity: &'static str, name: &str) -> Option<usize> {
        let id = Uuid::parse_str(name).ok();
        id.and_then(|id| self.by_id.get(&(entity, id)))
            // What names an entity is unique by its first rule.
            .or_else(|| self.names.get(&(entity, 0, format!("{name}\n"))))
            .copied()
    }

    /// Returns the row of an id.
    pub(crate) fn row_of(&self, entity: &'static str, id: Uuid) -> Option<usize> {
        self.by_id.get(&(entity, id)).copied()
    }

    /// Returns the row that a field of a row refers to.
    pub(crate) fn reference(&self, row: usize, field: &str) -> Option<usize> {
        match field {
            "route" | "consumer_group" => self.seconds.get(&row).copied(),
            _ => self.references[row],
        }
    }
}

/// Gives every row its id, finds what references mean, and reports duplicates and dangling references.
///
/// `is_complete` is false when a file could not be read: a name that is not there may be in that file.
pub(crate) fn resolve(rows: &[Row], is_complete: bool, checker: &mut Checker<'_>) -> Identities {
    let mut resolver = Resolver {
        rows,
        result: Identities {
            ids: vec![Uuid::nil(); rows.len()],
            references: vec![None; rows.len()],
            seconds: HashMap::new(),
            groups: HashMap::new(),
            by_id: HashMap::new(),
            names: HashMap::new(),
        },
        suggestions: MAX_SUGGESTIONS,
        is_complete,
    };
    // Parents first: a child's id may be made from its parent's.
    for entity in [
        "ca_certificates",
        "certificates",
        "services",
        "upstreams",
        "consumers",
        "consumer_groups",
    ] {
        resolver.identify(entity, checker);
    }
    resolver.refer("services", "client_certificate", "certificates", checker);
    for (entity, field, parent) in [
        ("snis", "certificate", "certificates"),
        ("routes", "service", "services"),
        ("targets", "upstream", "upstreams"),
        ("keyauth_credentials", "consumer", "consumers"),
        ("basicauth_credentials", "consumer", "consumers"),
        ("jwt_secrets", "consumer", "consumers"),
        ("acls", "consumer", "consumers"),
    ] {
        resolver.refer(entity, field, parent, checker);
        resolver.identify(entity, checker);
    }
    resolver.refer_to_groups(checker);
    resolver.refer(MEMBERS, "consumer", "consumers", checker);
    resolver.refer_too(MEMBERS, "consumer_group", "consumer_groups", checker);
    resolver.identify(MEMBERS, checker);
    resolver.refer("plugins", "service", "services", checker);
    resolver.refer_too("plugins", "route", "routes", checker);
    resolver.identify("plugins", checker);
    resolver.result
}

/// Says whether a row that takes the place of another has its identity, is known by the same names and refers to
/// the same: nothing of it differs that [`resolve`] looks at.
pub(crate) fn are_alike(before: &Row, now: &Row) -> bool {
    let entity = now.entity;
    let texts = ["id", "custom_id", "instance_name", "groups", "consumer_groups"];
    let unique = entity.unique.iter().flat_map(|unique| unique.fields);
    let references = entity.fields.iter().filter(|field| field.kind.is_reference());
    let mut names = (texts.iter().chain([&entity.key]).chain(unique))
        .copied()
        .chain(references.map(|field| field.name));
    let is_named = [entity.key, "custom_id"]
        .iter()
        .any(|name| now.written_text(name).is_some());
    std::ptr::eq(before.entity, entity)
        && before.parent == now.parent
        && names.all(|name| {
            before.written.get(name) == now.written.get(name) && before.values.get(name) == now.values.get(name)
        })
        // What has no name is known by all that it holds.
        && (is_named || before.values == now.values)
}

struct Resolver<'r> {
    rows: &'r [Row],
    result: Identities,
    suggestions: usize,
    is_complete: bool,
}

impl Resolver<'_> {
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
                    write_canonical(&Value::Object((*row.values).clone()), &mut content);
                    let ordinal = unnamed.entry(content.clone()).or_default();
                    *ordinal += 1;
                    make_id(row.entity.name, &format!("{content}#{ordinal}"))
                }
            });
            self.result.ids[index] = id;
            match self.result.by_id.entry((row.entity.name, id)) {
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
        let Some(key) = row.written_text(row.entity.key) else {
            // A Consumer has at least one of two names.
            let custom_id = row
                .written_text("custom_id")
                .filter(|_| row.entity.name == "consumers");
            return custom_id.map(|custom_id| format!("custom_id:{custom_id}"));
        };
        let id_of = |row: Option<&usize>| {
            row.map(|row| self.result.ids[*row].to_string())
                .unwrap_or_default()
        };
        let reference = self.result.references[index].as_ref();
        Some(match row.entity.name {
            "targets" if reference.is_some() => format!("{key}:{}", id_of(reference)),
            // Kong's cache keys of these: the fields that are unique together.
            "acls" => format!("{key}:{}", id_of(reference)),
            MEMBERS => format!("{}:{}", id_of(self.result.seconds.get(&index)), id_of(reference)),
            "plugins" => match row.written_text("instance_name") {
                Some(name) => name.to_owned(),
                None => {
                    let route = id_of(self.result.seconds.get(&index));
                    format!("plugins:{key}:{route}:{}:", id_of(reference))
                }
            },
            _ => key.to_owned(),
        })
    }

    /// Returns what no other row may have: the rule, the field that is reported, and the text that must
    /// differ.
    fn unique_keys(&self, index: usize) -> Vec<(usize, &'static str, String)> {
        let rules = self.rows[index].entity.unique.iter().enumerate();
        rules
            .filter_map(|(rule, unique)| {
                let mut key = String::new();
                for field in unique.fields {
                    match self.unique_text(index, field) {
                        Some(text) => key.push_str(&text),
                        None if unique.counts_null && !self.is_dangling(index, field) => {}
                        // Which one a dangling reference means nobody knows.
                        None => return None,
                    }
                    key.push('\n');
                }
                let is_name = |field: &&&str| !self.is_reference(index, field);
                let field = unique.fields.iter().find(is_name).or(unique.fields.last())?;
                Some((rule, *field, key))
            })
            .collect()
    }

    fn is_dangling(&self, index: usize, field: &str) -> bool {
        self.is_reference(index, field) && self.rows[index].values.contains_key(field)
    }

    fn is_reference(&self, index: usize, field: &str) -> bool {
        let fields = self.rows[index].entity.fields;
        fields
            .iter()
            .any(|one| one.name == field && one.kind.is_reference())
    }

    fn unique_text(&self, index: usize, field: &str) -> Option<String> {
        if self.is_reference(index, field) {
            return self.result.reference(index, field).map(|row| row.to_string());
        }
        // Of a field that must be null, what is wrong is not who else has it.
        let is_text = |one: &&Field| one.name == field && !matches!(one.kind, Kind::Any);
        self.rows[index].entity.fields.iter().find(is_text)?;
        let text = self.rows[index].written_text(field)?;
        Some(match field {
            "target" => normal_target(text),
            _ => text.to_owned(),
        })
    }

    /// Enters a row under its names; reports those that are taken, and says whether none was.
    fn claim_name(&mut self, index: usize, checker: &mut Checker<'_>) -> bool {
        let row = &self.rows[index];
        let mut is_unique = true;
        for (rule, field, key) in self.unique_keys(index) {
            let first = match self.result.names.entry((row.entity.name, rule, key)) {
                Entry::Vacant(slot) => {
                    slot.insert(index);
                    continue;
                }
                Entry::Occupied(first) => &self.rows[*first.get()],
            };
            let is_secret = (row.entity.fields.iter()).any(|one| one.name == field && one.is_secret);
            let name = row.written_text(field).filter(|_| !is_secret).unwrap_or("***");
            let message = format!(
                "uniqueness violation: '{}' entity with {field} set to '{name}' already declared",
                row.entity.name
            );
            let mut hint = first_declared(checker, first, field);
            match row.entity.name {
                "acls" => hint.push_str("; a consumer is in a group once"),
                "plugins" => hint.push_str("; there is one of a name for each service and route"),
                _ => {}
            }
            checker.error(
                row.span_of(field),
                format!("{}.{field}", row.path),
                message,
                Some(hint),
            );
            is_unique = false;
        }
        is_unique
    }

    fn refer(&mut self, entity: &str, field: &str, parent: &'static str, checker: &mut Checker<'_>) {
        for index in self.of(entity) {
            self.result.references[index] = self.parent_of(index, field, parent, checker);
        }
    }

    fn refer_too(&mut self, entity: &str, field: &str, parent: &'static str, checker: &mut Checker<'_>) {
        for index in self.of(entity) {
            if let Some(row) = self.parent_of(index, field, parent, checker) {
                self.result.seconds.insert(index, row);
            }
        }
    }

    /// Finds what a row is nested in, or else what its field refers to.
    fn parent_of(
        &mut self,
        index: usize,
        field: &str,
        parent: &'static str,
        checker: &mut Checker<'_>,
    ) -> Option<usize> {
        let row = &self.rows[index];
        if let Some(outer) = row.parent.filter(|outer| self.rows[*outer].entity.name == parent) {
            return Some(outer);
        }
        let name = row.values.get(field).and_then(Value::as_str)?;
        let found = self.result.find(parent, name);
        if found.is_none() {
            self.dangling(
                row.span_of(field),
                format!("{}.{field}", row.path),
                (field, name, parent),
                checker,
            );
        }
        found
    }

    /// Finds the consumer groups that Consumers list, under either name.
    fn refer_to_groups(&mut self, checker: &mut Checker<'_>) {
        const GROUPS: &str = "consumer_groups";
        for index in self.of("consumers") {
            let row = &self.rows[index];
            let (mut groups, mut seen) = (Vec::new(), HashSet::new());
            for field in ["groups", GROUPS] {
                let listed = row.values.get(field).and_then(Value::as_array);
                for (item, name) in listed.into_iter().flatten().enumerate() {
                    let name = name.as_str().unwrap_or_default();
                    match self.result.find(GROUPS, name) {
                        Some(group) if seen.insert(group) => groups.push(group),
                        Some(_) => {}
                        None => {
                            let path = format!("{}.{field}[{item}]", row.path);
                            self.dangling(row.item_span(field, item), path, (field, name, GROUPS), checker);
                        }
                    }
                }
            }
            if !groups.is_empty() {
                self.result.groups.insert(index, groups);
            }
        }
    }

    fn dangling(
        &mut self,
        span: Option<Span>,
        path: String,
        (field, name, parent): (&str, &str, &'static str),
        checker: &mut Checker<'_>,
    ) {
        if self.is_complete {
            let message = format!("invalid reference '{field}: {name}' (no such entry in '{parent}')");
            let hint = self.suggest(parent, name);
            checker.error(span, path, message, hint);
        }
    }

    fn suggest(&mut self, entity: &str, name: &str) -> Option<String> {
        self.suggestions = self.suggestions.checked_sub(1)?;
        // What has many lines, as a certificate, is no name to be typed.
        let name_of = |row: usize| {
            let name = self.rows[row].written_text(self.rows[row].entity.key)?;
            Some(match name.contains('\n') {
                true => self.result.ids[row].to_string(),
                false => name.to_owned(),
            })
        };
        let known: Vec<String> = self.of(entity).into_iter().filter_map(name_of).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        Some(match nearest(name, known.iter().copied()) {
            Some(candidate) => format!("did you mean '{candidate}'?"),
            None if known.is_empty() => format!("there are no {}", entity.replace('_', " ")),
            None => format!(
                "known {entity}: {}{}",
                known[..known.len().min(8)].join(", "),
                if known.len() > 8 { ", …" } else { "" }
            ),
        })
    }
}

fn first_declared(checker: &Checker<'_>, row: &Row, field: &str) -> String {
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
