//! YAML text to values with positions.
//!
//! serde_yaml reads the values; it is what operators' other tools agree with. It does not say where a
//! value stood, so a second pass over saphyr's events ([`tree`]) builds the positions, and on the way
//! refuses what serde_yaml lets pass or says badly: duplicate keys, alias bombs, deep nesting, tags.
//! [`Join`] lays the two over each other, resolves merge keys (`<<`) and substitutes `${…}`.
//!
//! Promises: bounded memory for any input of bounded size, no panic, and every value marked. What keys
//! and values mean is for `schema` to say.

mod syntax;
mod tree;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::tree::{Kind, Tree};
use self::value::Yaml;
use super::environment::{self, Fault};
use super::mark::{Inside, Mark, Origin, Span};
use super::problem::{MAX_PROBLEMS, Problem};
use super::source::Source;

/// A document: its value and where everything in it stands.
#[derive(Debug)]
pub(crate) struct Document {
    /// The value, substituted, merge keys resolved.
    pub(crate) value: Value,
    /// Marks of the same shape.
    pub(crate) mark: Mark,
    /// Whether something is given a name (`&name`), by which it may be repeated elsewhere.
    pub(crate) has_anchors: bool,
}

/// Parses one source, whose number is `index`.
///
/// Problems are added to `problems`; the document is `None` when there is nothing to look at further.
pub(crate) fn parse(
    source: &Source,
    index: usize,
    environment: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<Document> {
    let tree = match tree::build(source, index) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let is_sound = tree.problems.is_empty();
    problems.extend(tree.problems.iter().cloned());
    if !is_sound {
        return None;
    }
    let value: Yaml = match serde_yaml::from_str(&source.text) {
        Ok(value) => value,
        Err(error) => {
            problems.push(syntax::from_serde(source, &error));
            return None;
        }
    };
    let mut join = Join {
        source,
        tree: &tree,
        environment,
        problems: Vec::new(),
    };
    let (value, mark) = join.value(value, tree.root);
    problems.append(&mut join.problems);
    Some(Document {
        value,
        mark,
        has_anchors: tree.has_anchors,
    })
}

/// Types the text of a plain scalar as YAML would; text with any structure in it stays text.
fn plain_scalar(text: String) -> Value {
    let is_word = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-._~".contains(&byte));
    if text.is_empty() {
        return Value::Null;
    }
    match serde_yaml::from_str(&text) {
        Ok(Yaml::Scalar(value)) if is_word => value,
        _ => Value::String(text),
    }
}

struct Join<'a> {
    source: &'a Source,
    tree: &'a Tree,
    environment: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Join<'_> {
    /// Lays a value over the node it was read from. Should the two parsers ever disagree on a shape,
    /// the document is refused.
    fn value(&mut self, value: Yaml, node: usize) -> (Value, Mark) {
        let at = &self.tree.nodes[node];
        let mark = |inside| Mark {
            span: at.span,
            origin: Origin::Written,
            inside,
        };
        match (value, &at.kind) {
            (Yaml::List(items), Kind::List(nodes)) if items.len() == nodes.len() => {
                let (values, marks) = items
                    .into_iter()
                    .zip(nodes)
                    .map(|(item, node)| self.value(item, *node))
                    .unzip();
                (Value::Array(values), mark(Inside::List(marks)))
            }
            (Yaml::Map(values), Kind::Map(nodes)) if values.len() == nodes.len() => {
                let mut map = Map::new();
                let mut marks = Vec::with_capacity(nodes.len());
                let mut merged = Vec::new();
                for (value, (key, node)) in values.into_iter().zip(nodes) {
                    let (value, mark) = self.value(value, *node);
                    match &self.tree.nodes[*key].kind {
                        Kind::MergeKey => merged.push((value, mark)),
                        Kind::Scalar { text, .. } => {
                            map.insert(text.clone(), value);
                            marks.push((self.tree.nodes[*key].span, mark));
                        }
                        // Refused when the tree was built.
                        Kind::List(_) | Kind::Map(_) => {}
                    }
                }
                for (value, mark) in merged {
                    self.merge(value, &mark, &mut map, &mut marks);
                }
                (Value::Object(map), mark(Inside::Map(marks)))
            }
            (Yaml::Scalar(Value::String(text)), Kind::Scalar { is_plain, .. }) => {
                let (value, origin) = self.substitute(text, *is_plain, at.span);
                (
                    value,
                    Mark {
                        origin,
                        ..mark(Inside::Nothing)
                    },
                )
            }
            (Yaml::Scalar(value), Kind::Scalar { .. } | Kind::MergeKey) => (value, mark(Inside::Nothing)),
            _ => {
                let problem = self
                    .problem(at.span, "this can be read in two ways")
                    .with_hint("put quotes around text");
                self.problems.push(problem);
                (
                    Value::Null,
                    Mark {
                        origin: Origin::Unknown,
                        ..mark(Inside::Nothing)
                    },
                )
            }
        }
    }

    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        self.source.problem(span.position(), span.width as usize, message)
    }

    /// Adds the entries of `<<: value` that are not there already: what is written out wins, and of
    /// several merged mappings the first.
    fn merge(
        &mut self,
        value: Value,
        mark: &Mark,
        map: &mut Map<String, Value>,
        marks: &mut Vec<(Span, Mark)>,
    ) {
        match value {
            Value::Object(entries) => {
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    let (Some((key_span, mark)), false) = (mark.entry(index), map.contains_key(&key)) else {
                        continue;
                    };
                    map.insert(key, value);
                    marks.push((key_span, mark.clone()));
                }
            }
            Value::Array(items) if items.iter().all(Value::is_object) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.merge(item, &mark.item(index).unwrap_or(mark).clone(), map, marks);
                }
            }
            _ => {
                let problem = self
                    .problem(mark.span, "'<<' takes a mapping or a list of mappings")
                    .with_hint("write '<<: *name', where &name stands before a mapping");
                self.report(problem);
            }
        }
    }

    fn substitute(&mut self, text: String, is_plain: bool, span: Span) -> (Value, Origin) {
        let problem = match environment::substitute(&text, self.environment) {
            Ok(Cow::Borrowed(_)) => return (Value::String(text), Origin::Written),
            Ok(Cow::Owned(text)) if is_plain => return (plain_scalar(text), Origin::Substituted),
            Ok(Cow::Owned(text)) => return (Value::String(text), Origin::Substituted),
            Err(Fault::Unset(name)) => self
                .problem(span, format!("environment variable '{name}' is not set"))
                .with_hint(format!("set it, or give a default: ${{{name}:-default}}")),
            Err(Fault::Malformed) => self
                .problem(span, "expected ${NAME} or ${NAME:-default}")
                .with_hint("for a literal '${' write '$${'"),
        };
        self.report(problem);
        (Value::Null, Origin::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse_text(text: &str) -> (Option<Document>, Vec<String>) {
        let source = Source::file("f.yaml", text);
        let environment = BTreeMap::from([
            ("PORT".to_owned(), "8080".to_owned()),
            ("EVIL".to_owned(), "[a, b]".to_owned()),
        ]);
        let mut problems = Vec::new();
        let document = parse(&source, 0, &environment, &mut problems);
        (
            document,
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.place, problem.message))
                .collect(),
        )
    }

    fn check(text: &str, expected: Value) {
        let (document, problems) = parse_text(text);
        assert_eq!(problems, Vec::<String>::new(), "{text}");
        assert_eq!(document.expect("a document").value, expected, "{text}");
    }

    fn check_refused(text: &str, expected: &str) {
        let (_, problems) = parse_text(text);
        assert!(
            problems.iter().any(|problem| problem == expected),
            "{expected:?} is not among {problems:?}"
        );
    }

    /// Returns line, column and width of the value at a path of keys and indexes.
    fn span_of(text: &str, path: &[&str]) -> (u32, u32, u32) {
        let document = parse_text(text).0.expect("a document");
        let (mut value, mut mark) = (&document.value, &document.mark);
        for step in path {
            (value, mark) = match value {
                Value::Array(items) => {
                    let index = step.parse().unwrap();
                    (&items[index], mark.item(index).unwrap())
                }
                Value::Object(map) => {
                    let index = map.keys().position(|key| key == step).unwrap();
                    (&map[*step], mark.entry(index).unwrap().1)
                }
                _ => panic!("{step} is inside a scalar"),
            };
        }
        (mark.span.line, mark.span.column, mark.span.width)
    }

    #[test]
    fn values_are_those_of_yaml_1_2() {
        check(
            "a: yes\nb: true\nc: 1.10\nd: 12:30\ne: 0x1F\nf: ~\ng: -3\nh: '5'\n8000: x",
            json!({
            "a": "yes", "b": true, "c": 1.1, "d": "12:30", "e": 31, "f": null, "g": -3, "h": "5", "8000": "x"}),
        );
        check("a: .inf\nb: 99999999999999999999", json!({"a": "inf", "b": 1e20}));
        check("a: {b: [1, {c: 2}]}\n", json!({"a": {"b": [1, {"c": 2}]}}));
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        check(
            "a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}",
            json!({
            "a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 2}, "e": {"c": 3, "b": 1}}),
        );
        check(
            "a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne:\n  <<: [*x, *y]",
            json!({
            "a": {"b": 1}, "c": {"b": 2, "d": 3}, "e": {"b": 1, "d": 3}}),
        );
        check_refused(
            "a: {<<: 3}",
            "f.yaml:1:9: '<<' takes a mapping or a list of mappings",
        );
    }

    #[test]
    fn a_plain_value_is_typed_after_substitution_and_a_quoted_one_stays_text() {
        check(
            "a: ${PORT}\nb: \"${PORT}\"\nc: x${PORT}\nd: ${NONE:-true}\ne: ${NONE:-}",
            json!({
            "a": 8080, "b": "8080", "c": "x8080", "d": true, "e": null}),
        );
        check("# ${NONE}\na: $${PORT}", json!({"a": "${PORT}"}));
        check("a: ${EVIL}", json!({"a": "[a, b]"}));
        check_refused(
            "a: 1\nb:\n- ${NONE}",
            "f.yaml:3:3: environment variable 'NONE' is not set",
        );
        check_refused("a: ${{ x }}", "f.yaml:1:4: expected ${NAME} or ${NAME:-default}");
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "a:\n- b: héé  # c\n  c: 'quoted'\nd: {e: [1, 22]}\nf: |\n  block\n";
        assert_eq!(span_of(text, &["a", "0", "b"]), (2, 6, 3));
        assert_eq!(span_of(text, &["a", "0", "c"]), (3, 6, 8));
        assert_eq!(span_of(text, &["a", "0"]), (2, 3, 1));
        assert_eq!(span_of(text, &["d", "e", "1"]), (4, 12, 2));
        assert_eq!(span_of(text, &["f"]).0, 6, "a block begins where its text does");
        assert_eq!(span_of("a:\nb: 1", &["a"]), (1, 2, 1));
    }

    #[test]
    fn a_key_given_twice_is_refused_wherever_it_stands() {
        check_refused("a: 1\nb: {c: 1, c: 2}", "f.yaml:2:11: duplicate key 'c'");
        check_refused("1: a\n'1': b", "f.yaml:2:1: duplicate key '1'");
    }

    #[test]
    fn bombs_and_depth_are_refused() {
        let bomb: String = (0..30)
            .map(|n| {
                let item = if n == 0 {
                    "x".to_owned()
                } else {
                    format!("*a{}", n - 1)
                };
                format!("a{n}: &a{n} [{}]\n", vec![item; 10].join(", "))
            })
            .collect();
        check_refused(&bomb, "f.yaml:5:45: aliases expand to more than 100000 values");
        check_refused(&"[".repeat(100_000), "f.yaml:1:256: nested deeper than 64 levels");
        check_refused("a: &x [*x]", "f.yaml:1:8: an alias stands inside what it repeats");
        check_refused("a: *b", "f.yaml:1:4: no anchor of this name stands before it");
    }

    #[test]
    fn other_things_that_are_no_configuration_are_refused() {
        check_refused("", "f.yaml: file is empty");
        check_refused("# nothing\n", "f.yaml: file is empty");
        check_refused("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document starts here");
        check_refused(
            "a: !secret x",
            "f.yaml:1:4: tags such as '!secret' are not supported",
        );
        check_refused("? [a]\n: b", "f.yaml:1:3: keys must be plain text");
        check_refused("a:\n\tb: 1", "f.yaml:2:1: a tab is used for indentation");
    }
}
