//! Fields of a form, made the JSON object that they stand for.
//!
//! Kong's rules: dotted keys and brackets nest, `a[]` and `a[1]` are items of a list, nothing is null, and a
//! text becomes what the table says the field is. A text that cannot become it stays text, an unknown key
//! stays too: it is the check that refuses them, so that one answer names everything that is wrong.

use serde_json::{Map, Number, Value};

use crate::config::schema::{Entity, Field, Kind};

/// Steps that a key may have at most, and depth of a JSON body.
pub(crate) const MAX_DEPTH: usize = 64;

/// A key that nests too deep.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Makes pairs of keys and texts the object they stand for.
///
/// `stored` is the entity that the form changes, if it changes one: the name that chooses a plugin's `config`
/// may be there only.
pub(super) fn read_form(
    pairs: impl IntoIterator<Item = (String, String)>,
    entity: &'static Entity,
    stored: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>, TooDeep> {
    // A tree of objects; a leaf is the list of all texts given for it.
    let mut tree = Map::new();
    for (key, text) in pairs {
        insert(&mut tree, &split(&key)?, text);
    }
    let context = Context {
        written: texts_of(&tree),
        stored,
    };
    Ok(tree
        .into_iter()
        .map(|(key, node)| {
            let value = context.value(kind_of(entity.fields, &key), node);
            (key, value)
        })
        .collect())
}

/// Takes a key apart: `a.b[c][].d` has the steps a, b, c, nothing and d.
fn split(key: &str) -> Result<Vec<&str>, TooDeep> {
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        steps.push(name);
        while let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            steps.push(inside);
            rest = after;
        }
        if !rest.is_empty() {
            // Brackets that do not match are no brackets: the key is taken as it stands, and is unknown.
            return Ok(vec![key]);
        }
        if steps.len() > MAX_DEPTH {
            return Err(TooDeep);
        }
    }
    Ok(steps)
}

/// Puts a text where its steps lead. One given for what has parts is a part without a name.
fn insert(tree: &mut Map<String, Value>, steps: &[&str], text: String) {
    let Some((step, rest)) = steps.split_first() else {
        return insert(tree, &[""], text);
    };
    let node = tree.entry(*step).or_insert_with(|| {
        let is_leaf = rest.is_empty();
        if is_leaf {
            Value::Array(Vec::new())
        } else {
            Value::Object(Map::new())
        }
    });
    match node {
        Value::Array(texts) if rest.is_empty() => texts.push(text.into()),
        Value::Object(branch) => insert(branch, rest, text),
        texts => {
            let mut branch = Map::from_iter([(String::new(), texts.take())]);
            insert(&mut branch, rest, text);
            *texts = Value::Object(branch);
        }
    }
}

/// Returns the fields at the top that are given as one text.
fn texts_of(tree: &Map<String, Value>) -> Map<String, Value> {
    let single = tree
        .iter()
        .filter_map(|(key, node)| match node.as_array()?.as_slice() {
            [text] => Some((key.clone(), text.clone())),
            _ => None,
        });
    single.collect()
}

fn kind_of(fields: &'static [Field], name: &str) -> Option<&'static Kind> {
    fields
        .iter()
        .find(|field| field.name == name)
        .map(|field| &field.kind)
}

/// What may choose the record of a field.
struct Context<'s> {
    written: Map<String, Value>,
    stored: Option<&'s Map<String, Value>>,
}

impl Context<'_> {
    /// Makes a node of the tree a value of the kind, or what comes closest.
    fn value(&self, kind: Option<&'static Kind>, node: Value) -> Value {
        match node {
            Value::Array(texts) => self.leaf(kind, texts),
            Value::Object(branch) => self.branch(kind, branch),
            other => other,
        }
    }

    fn leaf(&self, kind: Option<&'static Kind>, texts: Vec<Value>) -> Value {
        match kind {
            Some(Kind::List { of, .. }) => match texts.as_slice() {
                [Value::String(only)] if only.is_empty() => Value::Null,
                _ => texts.into_iter().map(|text| typed(Some(of), text)).collect(),
            },
            _ => match <[Value; 1]>::try_from(texts) {
                Ok([text]) => typed(kind, text),
                Err(texts) => texts.into_iter().map(|text| typed(kind, text)).collect(),
            },
        }
    }

    fn branch(&self, kind: Option<&'static Kind>, branch: Map<String, Value>) -> Value {
        let is_list = branch
            .keys()
            .all(|key| key.bytes().all(|byte| byte.is_ascii_digit()));
        match kind {
            Some(Kind::List { of, .. }) if is_list => self.items(Some(of), branch),
            Some(Kind::List { of, .. }) if of.fields().is_some() => {
                vec![self.branch(Some(of), branch)].into()
            }
            Some(Kind::Record(record) | Kind::RecordOrFalse(record)) => self.record(record.fields, branch),
            Some(Kind::Chosen(choices)) => {
                let record = choices
                    .record(&self.written)
                    .or_else(|| choices.record(self.stored?));
                self.record(record.map_or(&[], |record| record.fields), branch)
            }
            Some(Kind::Map { of, .. }) => branch
                .into_iter()
                .map(|(key, node)| (key, self.value(Some(of), node)))
                .collect(),
            Some(Kind::Reference(_)) => {
                let key = self.record(&[], branch);
                // Without id and name nothing is referred to.
                let is_nothing = key
                    .as_object()
                    .is_some_and(|key| key.values().all(Value::is_null));
                if is_nothing { Value::Null } else { key }
            }
            None | Some(Kind::Any) if is_list => self.items(None, branch),
            _ => self.record(&[], branch),
        }
    }

    fn record(&self, fields: &'static [Field], branch: Map<String, Value>) -> Value {
        branch
            .into_iter()
            .map(|(key, node)| {
                let value = self.value(kind_of(fields, &key), node);
                (key, value)
            })
            .collect()
    }

    /// Makes numbered parts a list in the order of the numbers, those without a number last.
    fn items(&self, of: Option<&'static Kind>, branch: Map<String, Value>) -> Value {
        let mut parts: Vec<_> = branch.into_iter().collect();
        parts.sort_by_key(|(key, _)| key.parse::<u64>().unwrap_or(u64::MAX));
        let mut items = Vec::new();
        for (key, node) in parts {
            match node {
                // `a[]=` alone is the one way to write an empty list.
                Value::Array(texts) if key.is_empty() && texts == [""] => {}
                Value::Array(texts) => items.extend(texts.into_iter().map(|text| match of {
                    Some(Kind::List { .. }) => self.leaf(of, vec![text]),
                    _ => typed(of, text),
                })),
                part => items.push(self.value(of, part)),
            }
        }
        items.into()
    }
}

/// Makes a text a value of the kind, if it can be one.
fn typed(kind: Option<&Kind>, value: Value) -> Value {
    let Value::String(text) = &value else {
        return value;
    };
    if text.is_empty() {
        return Value::Null;
    }
    let made = match kind {
        Some(
            Kind::Integer { .. }
            | Kind::Count { .. }
            | Kind::Number { .. }
            | Kind::Above { .. }
            | Kind::NumberChoice(_),
        ) => number(text),
        Some(Kind::Boolean) => text.parse().ok().map(Value::Bool),
        Some(Kind::RecordOrFalse(_)) if text == "false" => Some(Value::Bool(false)),
        _ => None,
    };
    made.unwrap_or(value)
}

fn number(text: &str) -> Option<Value> {
    let whole = text.parse::<i64>().ok().map(Value::from);
    whole.or_else(|| Number::from_f64(text.parse().ok()?).map(Value::Number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::plugin::PLUGINS;
    use crate::config::schema::route::ROUTES;
    use crate::config::schema::service::SERVICES;
    use crate::config::schema::upstream::UPSTREAMS;
    use crate::config::schema::{ENTITIES, canonical};
    use proptest::prelude::*;
    use serde_json::json;

    fn form(entity: &'static Entity, pairs: &[(&str, &str)]) -> Value {
        let pairs = pairs
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        read_form(pairs, entity, None).unwrap().into()
    }

    #[test]
    fn texts_become_what_the_field_is() {
        let service = [
            ("name", "80"),
            ("port", "8080"),
            ("enabled", "false"),
            ("path", ""),
            ("retries", "many"),
        ];
        assert_eq!(
            form(&SERVICES, &service),
            json!({"name": "80", "port": 8080, "enabled": false, "path": null, "retries": "many"})
        );
        let plugin = [
            ("name", "canary"),
            ("config.percentage", "12.5"),
            ("config.steps", "10"),
            ("config.upstream_fallback", "true"),
            ("config.groups", "a,b"),
        ];
        assert_eq!(
            form(&PLUGINS, &plugin)["config"],
            json!({"percentage": 12.5, "steps": 10, "upstream_fallback": true, "groups": ["a,b"]})
        );
        for odd in ["inf", "NaN", "0x10", " 1", "1e999"] {
            assert_eq!(form(&SERVICES, &[("port", odd)])["port"], json!(odd));
        }
    }

    #[test]
    fn dots_and_brackets_nest() {
        let upstream = [
            ("healthchecks.active.type", "http"),
            ("healthchecks[active][timeout]", "2"),
            ("healthchecks.active.healthy.http_statuses[]", "200"),
            ("healthchecks.active.healthy.http_statuses[]", "204"),
            ("healthchecks.active.headers.x-a", "b"),
        ];
        assert_eq!(
            form(&UPSTREAMS, &upstream),
            json!({"healthchecks": {"active": {
                "type": "http", "timeout": 2, "healthy": {"http_statuses": [200, 204]}, "headers": {"x-a": ["b"]},
            }}})
        );
    }

    #[test]
    fn lists_are_written_in_four_ways() {
        let hosts = |pairs: &[(&str, &str)]| form(&ROUTES, pairs)["hosts"].clone();
        assert_eq!(hosts(&[("hosts", "a")]), json!(["a"]));
        assert_eq!(hosts(&[("hosts", "a,b")]), json!(["a,b"]));
        assert_eq!(hosts(&[("hosts", "a"), ("hosts", "b")]), json!(["a", "b"]));
        assert_eq!(hosts(&[("hosts[]", "a"), ("hosts[]", "b")]), json!(["a", "b"]));
        assert_eq!(
            hosts(&[("hosts[2]", "b"), ("hosts[10]", "c"), ("hosts[1]", "a")]),
            json!(["a", "b", "c"])
        );
        assert_eq!(hosts(&[("hosts", "a"), ("hosts[]", "b")]), json!(["a", "b"]));
        assert_eq!(hosts(&[("hosts", "")]), json!(null));
        assert_eq!(hosts(&[("hosts[]", "")]), json!([]));
        assert_eq!(
            form(&ROUTES, &[("sources[1].ip", "::1"), ("sources[2].port", "80")]),
            json!({"sources": [{"ip": "::1"}, {"port": 80}]})
        );
        assert_eq!(
            form(&ROUTES, &[("sources.ip", "::1")]),
            json!({"sources": [{"ip": "::1"}]})
        );
        assert_eq!(
            form(&ROUTES, &[("headers.x-a[1]", "1"), ("headers.x-a[2]", "2")]),
            json!({"headers": {"x-a": ["1", "2"]}})
        );
    }

    #[test]
    fn references_are_records_of_an_id_or_a_name() {
        assert_eq!(
            form(&ROUTES, &[("service.id", "x")]),
            json!({"service": {"id": "x"}})
        );
        assert_eq!(
            form(&ROUTES, &[("service.name", "shop")]),
            json!({"service": {"name": "shop"}})
        );
        assert_eq!(form(&ROUTES, &[("service.id", "")]), json!({"service": null}));
        assert_eq!(form(&ROUTES, &[("service", "")]), json!({"service": null}));
    }

    #[test]
    fn what_the_table_does_not_know_is_left_to_the_check() {
        let pairs = [
            ("bogus.a", "1"),
            ("bogus.b[]", "2"),
            ("odd[", "3"),
            ("name", "a"),
            ("name", "b"),
        ];
        assert_eq!(
            form(&SERVICES, &pairs),
            json!({"bogus": {"a": "1", "b": ["2"]}, "odd[": "3", "name": ["a", "b"]})
        );
        let pairs = [
            ("name", "canary"),
            ("config.percentage", "some"),
            ("config.upstream_host", "b"),
            ("config.pct", "1"),
        ];
        let value = form(&PLUGINS, &pairs);
        let problems = canonical(&PLUGINS, &value).unwrap_err();
        let paths: Vec<_> = problems
            .iter()
            .map(|problem| (&*problem.path, &*problem.message))
            .collect();
        assert_eq!(
            paths,
            [
                ("config.percentage", "expected a number"),
                ("config.pct", "unknown field")
            ]
        );
    }

    #[test]
    fn a_change_of_a_plugin_need_not_name_it() {
        let stored = Map::from_iter([("name".to_owned(), json!("canary"))]);
        let pairs = [("config.percentage".to_owned(), "5".to_owned())];
        let read = read_form(pairs.clone(), &PLUGINS, Some(&stored)).unwrap();
        assert_eq!(Value::Object(read), json!({"config": {"percentage": 5}}));
        let unnamed = read_form(pairs, &PLUGINS, None).unwrap();
        assert_eq!(Value::Object(unnamed), json!({"config": {"percentage": "5"}}));
    }

    proptest! {
        #[test]
        fn any_form_is_an_object(
            pairs in proptest::collection::vec(("(hosts|headers|service|sources|a|1|\\.|\\[|\\]){0,8}", "(|1|true|x)"), 0..8),
        ) {
            for entity in ENTITIES {
                prop_assert!(read_form(pairs.clone(), entity, None).is_ok());
            }
        }
    }

    #[test]
    fn keys_do_not_nest_without_end() {
        let deep = |depth: usize| {
            read_form(
                [(format!("a{}", "[b]".repeat(depth)), String::new())],
                &SERVICES,
                None,
            )
        };
        assert!(deep(MAX_DEPTH - 1).is_ok());
        assert_eq!(deep(MAX_DEPTH), Err(TooDeep));
        assert_eq!(deep(100_000), Err(TooDeep));
    }
}
