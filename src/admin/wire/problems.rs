//! What the check finds, as Kong's object for errors.
//!
//! A problem's path is a text such as `config.percentage` or `targets[1].weight`. Kong nests messages as
//! the values are nested, keeps the place of a list's item by nulls before it, and puts rules over several
//! fields of a record under `@entity`. Hints have no place in Kong's object and get a key of their own.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::lua;
use super::refusal::Refusal;
use crate::config::Problem;
use crate::config::schema::{ENTITIES, Entity, Kind};

/// Where Kong puts what concerns several fields.
const RULES: &str = "@entity";
/// Beginnings of messages that concern a record as one value, not several of its fields.
const ABOUT_ONE_VALUE: [&str; 6] = [
    "accepted without effect",
    "expected a ",
    "required field missing",
    "uniqueness violation",
    "unknown field",
    "value must be null",
];

impl Refusal {
    /// Code 2: an entity, as it was sent, breaks the rules of its schema. Warnings are left out.
    pub(crate) fn schema_violation(entity: &'static Entity, problems: &[Problem]) -> Self {
        let (fields, hints) = nest(Spot::Entity(entity), problems);
        let mut reasons = Vec::new();
        gather("", &Value::Object(fields.clone()), &mut reasons);
        let all = reasons.join("; ");
        let message = match reasons.len() {
            1 => format!("schema violation ({all})"),
            count => format!("{count} schema violations ({all})"),
        };
        let status = StatusCode::BAD_REQUEST;
        Self::coded(status, (2, "schema violation"), message, Some(fields)).with_hints(hints)
    }

    /// Code 2, for a rule that only the caller knows: one field and what is wrong with it.
    pub(crate) fn field_violation(field: &str, why: &str) -> Self {
        let message = format!("schema violation ({field}: {why})");
        let fields = Map::from_iter([(field.to_owned(), Value::from(why))]);
        Self::coded(
            StatusCode::BAD_REQUEST,
            (2, "schema violation"),
            message,
            Some(fields),
        )
    }

    /// Code 14: a declarative configuration is refused. Warnings are left out.
    pub(crate) fn declarative(problems: &[Problem]) -> Self {
        let (fields, hints) = nest(Spot::Document, problems);
        let message = format!("declarative config is invalid: {}", lua::show_map(&fields));
        let status = StatusCode::BAD_REQUEST;
        let name = "invalid declarative configuration";
        Self::coded(status, (14, name), message, Some(fields)).with_hints(hints)
    }

    fn with_hints(mut self, hints: Map<String, Value>) -> Self {
        if !hints.is_empty() {
            self.body.insert("hints".to_owned(), hints.into());
        }
        self
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads the path of a problem. Brackets around anything but a number are part of a key:
/// nobody but an author of a wrong key could have written them.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|_| !path.is_empty()) {
        let mut indices = Vec::new();
        let mut key = part;
        while let Some((before, index)) = key.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
            let Ok(index) = index.parse() else {
                break;
            };
            indices.push(Step::Index(index));
            key = before;
        }
        if !key.is_empty() || indices.is_empty() {
            steps.push(Step::Key(key.to_owned()));
        }
        steps.extend(indices.into_iter().rev());
    }
    steps
}

/// What a path has led to in the table.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Document,
    Entities(&'static Entity),
    Entity(&'static Entity),
    Value(&'static Kind),
    Unknown,
}

impl Spot {
    fn step(self, step: &Step) -> Self {
        match (self, step) {
            (Self::Document, Step::Key(key)) => ENTITIES
                .iter()
                .find(|entity| entity.name == key)
                .map_or(Self::Unknown, |entity| Self::Entities(entity)),
            (Self::Entities(entity), Step::Index(_)) => Self::Entity(entity),
            (Self::Entity(entity), Step::Key(key)) => {
                let field = entity.fields.iter().find(|field| field.name == key);
                let child = entity.children.iter().find(|child| child.entity.name == key);
                match (field, child) {
                    (Some(field), _) => Self::Value(&field.kind),
                    (None, Some(child)) => Self::Entities(child.entity),
                    (None, None) => Self::Unknown,
                }
            }
            (Self::Value(Kind::List { of, .. }), Step::Index(_)) => Self::Value(of),
            (Self::Value(kind), Step::Key(key)) => kind
                .fields()
                .and_then(|fields| fields.iter().find(|field| field.name == key))
                .map_or(Self::Unknown, |field| Self::Value(&field.kind)),
            _ => Self::Unknown,
        }
    }

    /// Says whether there are fields below, so that a message may concern several of them.
    fn has_fields(self) -> bool {
        match self {
            Self::Document | Self::Entity(_) => true,
            Self::Value(kind) => kind.fields().is_some() || matches!(kind, Kind::Chosen(_)),
            Self::Entities(_) | Self::Unknown => false,
        }
    }
}

/// Returns the messages of all errors nested as the values are, and the hints by path.
fn nest(root: Spot, problems: &[Problem]) -> (Map<String, Value>, Map<String, Value>) {
    let mut fields = Value::Object(Map::new());
    let mut hints = Map::new();
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        let steps = steps(&problem.path);
        let spot = steps.iter().fold(root, |spot, step| spot.step(step));
        let is_one_value = ABOUT_ONE_VALUE
            .iter()
            .any(|start| problem.message.starts_with(start));
        let is_rule = steps.is_empty() || (spot.has_fields() && !is_one_value);
        insert(&mut fields, &steps, &problem.message, is_rule);
        if let Some(hint) = &problem.hint {
            let path = if steps.is_empty() {
                RULES.to_owned()
            } else {
                dotted(&steps)
            };
            hints.entry(path).or_insert_with(|| hint.as_str().into());
        }
    }
    match fields {
        Value::Object(fields) => (fields, hints),
        _ => (Map::new(), hints),
    }
}

/// Puts a message where its path leads.
fn insert(node: &mut Value, steps: &[Step], message: &str, is_rule: bool) {
    let Some((step, rest)) = steps.split_first() else {
        return set(node, message, is_rule);
    };
    // What was said about the value as a whole gives way to what is said about its parts.
    if let Value::String(whole) = node {
        let whole = whole.clone();
        *node = json!({ RULES: [whole] });
    }
    match step {
        Step::Key(key) => {
            if node.is_null() {
                *node = Value::Object(Map::new());
            }
            match node.as_object_mut() {
                Some(map) => insert(
                    map.entry(key.as_str()).or_insert(Value::Null),
                    rest,
                    message,
                    is_rule,
                ),
                None => set(node, message, true),
            }
        }
        Step::Index(index) => {
            if node.is_null() {
                *node = Value::Array(Vec::new());
            }
            match node {
                Value::Array(items) => {
                    if items.len() <= *index {
                        items.resize(index + 1, Value::Null);
                    }
                    insert(&mut items[*index], rest, message, is_rule);
                }
                _ => set(node, message, true),
            }
        }
    }
}

/// Puts a message at a value, beside others that may be there.
fn set(node: &mut Value, message: &str, is_rule: bool) {
    match node {
        Value::Null if is_rule => *node = json!({ RULES: [message] }),
        Value::Object(map) => match map.entry(RULES).or_insert_with(|| json!([])) {
            Value::Array(rules) => rules.push(message.into()),
            other => *other = json!([message]),
        },
        Value::String(text) => *text = format!("{text}; {message}"),
        Value::Array(items) => items.push(message.into()),
        _ => *node = message.into(),
    }
}

/// Writes a path as Kong does: items are counted from 1.
fn dotted(steps: &[Step]) -> String {
    let parts: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => (index + 1).to_string(),
        })
        .collect();
    parts.join(".")
}

/// Gathers all messages with their paths: rules first, then by the names of the fields.
fn gather(path: &str, value: &Value, reasons: &mut Vec<String>) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::String(message) if path.is_empty() => reasons.push(message.clone()),
        Value::String(message) => reasons.push(format!("{path}: {message}")),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                gather(&join(&(index + 1).to_string()), item, reasons);
            }
        }
        Value::Object(map) => {
            let rules = map.get(RULES).and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                gather(path, rule, reasons);
            }
            let mut entries: Vec<_> = map.iter().filter(|(key, _)| *key != RULES).collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                gather(&join(key), value, reasons);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::canonical;
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::route::ROUTES;
    use crate::config::schema::service::SERVICES;
    use crate::config::schema::upstream::UPSTREAMS;
    use crate::config::{Overrides, load_text};

    fn refuse(entity: &'static Entity, value: Value) -> Value {
        let problems = canonical(entity, &value).unwrap_err();
        let mut refusal = Refusal::schema_violation(entity, &problems);
        refusal.body.remove("hints");
        refusal.body.into()
    }

    fn violation(message: &str, fields: Value) -> Value {
        json!({"code": 2, "name": "schema violation", "message": message, "fields": fields})
    }

    #[test]
    fn one_wrong_field_is_one_violation() {
        assert_eq!(
            refuse(
                &PLUGINS,
                json!({"name": "canary", "config": {"upstream_host": "v2", "percentage": 120}})
            ),
            violation(
                "schema violation (config.percentage: value should be between 0 and 100)",
                json!({"config": {"percentage": "value should be between 0 and 100"}})
            )
        );
    }

    #[test]
    fn several_are_sorted_and_counted() {
        assert_eq!(
            refuse(&SERVICES, json!({"retries": -1, "path": "x", "bogus": 1})),
            violation(
                "4 schema violations (bogus: unknown field; host: required field missing; path: should start with: /; retries: value should be between 0 and 32767)",
                json!({
                    "retries": "value should be between 0 and 32767", "path": "should start with: /",
                    "bogus": "unknown field", "host": "required field missing",
                })
            )
        );
    }

    #[test]
    fn rules_over_several_fields_come_first() {
        let rule =
            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
        assert_eq!(
            refuse(&ROUTES, json!({"name": 7})),
            violation(
                &format!("2 schema violations ({rule}; name: expected a string)"),
                json!({"name": "expected a string", "@entity": [rule]})
            )
        );
        let rule = "at least one of these fields must be non-empty: 'config.upstream_uri', 'config.upstream_host', 'config.upstream_port'";
        assert_eq!(
            refuse(&PLUGINS, json!({"name": "canary", "config": {"percentage": -1}})),
            violation(
                &format!(
                    "2 schema violations (config: {rule}; config.percentage: value should be between 0 and 100)"
                ),
                json!({"config": {"percentage": "value should be between 0 and 100", "@entity": [rule]}})
            )
        );
        assert_eq!(
            refuse(&PLUGINS, json!({"name": "canary", "config": 1})),
            violation(
                "schema violation (config: expected a record)",
                json!({"config": "expected a record"})
            )
        );
    }

    #[test]
    fn items_keep_their_place() {
        assert_eq!(
            refuse(&ROUTES, json!({"methods": ["GET", "x", "PUT", "y"]})),
            violation(
                "2 schema violations (methods.2: invalid value: x; methods.4: invalid value: y)",
                json!({"methods": [null, "invalid value: x", null, "invalid value: y"]})
            )
        );
        assert_eq!(
            refuse(
                &UPSTREAMS,
                json!({"name": "u", "healthchecks": {"active": {"healthy": {"http_statuses": [200, 5]}}}})
            ),
            violation(
                "schema violation (healthchecks.active.healthy.http_statuses.2: value should be between 100 and 999)",
                json!({"healthchecks": {"active": {"healthy": {"http_statuses": [null, "value should be between 100 and 999"]}}}})
            )
        );
    }

    #[test]
    fn hints_are_beside_what_kong_has() {
        let problems = canonical(&SERVICES, &json!({"host": "a", "retires": 1})).unwrap_err();
        let body = Refusal::schema_violation(&SERVICES, &problems).body;
        assert_eq!(body["hints"], json!({"retires": "did you mean 'retries'?"}));
        let problems = canonical(&ROUTES, &json!({})).unwrap_err();
        let body = Refusal::schema_violation(&ROUTES, &problems).body;
        assert_eq!(
            body["hints"],
            json!({"@entity": "to match every request, set paths: [/]"})
        );
    }

    #[test]
    fn a_whole_configuration_keeps_the_places_of_its_entities() {
        let text = r#"{"_format_version": "3.0", "services": [{"name": "a", "host": "a"}, {"name": "b", "host": "b",
            "port": 70000, "routes": [{"name": "r"}]}]}"#;
        let report = load_text("config", text, &Overrides::default()).unwrap_err();
        let refusal = Refusal::declarative(&report.problems);
        let rule =
            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
        assert_eq!(
            refusal.body["fields"],
            json!({"services": [null, {"port": "value should be between 0 and 65535", "routes": [{"@entity": [rule]}]}]})
        );
        assert_eq!(
            (refusal.status.as_u16(), &refusal.body["code"]),
            (400, &json!(14))
        );
        assert_eq!(
            refusal.body["message"],
            json!(format!(
                "declarative config is invalid: {{services={{null,{{port=\"value should be between 0 and 65535\",routes={{{{[\"@entity\"]={{\"{rule}\"}}}}}}}}}}}}"
            ))
        );
    }

    #[test]
    fn paths_are_read_back() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(steps(""), []);
        assert_eq!(
            steps("a[1].b[0][2].c[x]"),
            [
                key("a"),
                Step::Index(1),
                key("b"),
                Step::Index(0),
                Step::Index(2),
                key("c[x]")
            ]
        );
    }

    #[test]
    fn messages_about_a_value_and_its_parts_do_not_push_each_other_out() {
        let problem = |path: &str, message: &str| Problem {
            path: path.to_owned(),
            ..Problem::about("request", message)
        };
        let problems = [
            problem("tags", "expected a set"),
            problem("tags[1]", "invalid"),
            problem("name", "a"),
            problem("name", "b"),
            problem("config.x", "c"),
            problem("config", "expected a record"),
        ];
        let body = Refusal::schema_violation(&PLUGINS, &problems).body;
        assert_eq!(
            body["fields"],
            json!({
                "tags": {"@entity": ["expected a set", "invalid"]}, "name": "a; b",
                "config": {"x": "c", "@entity": ["expected a record"]},
            })
        );
    }
}
