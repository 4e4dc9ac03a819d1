//! Values against the table: types, ranges, choices, formats, unknown keys, defaults.
//!
//! Knows no entity by name; everything comes from `schema`. Every problem of a document is gathered, so
//! that one run shows them all; a value that is wrong is left out of the result and remembered as
//! wrong, so that rules over several fields can tell "wrong" from "not given" and stay silent.

use std::fmt::{self, Display};

use serde_json::{Map, Value};

use super::mark::{Mark, Sources, Span};
use super::problem::{Problem, Severity};
use super::schema::{Child, Effect, Entity, Field, KONG_ONLY, Kind, REMARKS, Record, units};
use super::suggest::{did_you_mean, nearest};

/// Problems kept at most. Nobody reads more, and a large file of another kind would make millions.
const MAX_PROBLEMS: usize = 1000;

/// Where a value is in its document: a list of steps that lives on the stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Nothing,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The document itself.
    pub(crate) const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Nothing,
    };

    /// Goes to an entry of a mapping.
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// Goes to an item of a list.
    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.map(ToString::to_string).unwrap_or_default();
        f.write_str(&parent)?;
        match self.step {
            Step::Nothing => Ok(()),
            Step::Key(key) if parent.is_empty() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value with its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) value: &'a Value,
    pub(crate) mark: Option<&'a Mark>,
    pub(crate) path: Path<'a>,
}

impl At<'_> {
    fn span(&self) -> Option<Span> {
        self.mark.map(|mark| mark.span)
    }
}

/// Returns the mark of the entry called `name`, and of its key.
pub(crate) fn entry<'a>(value: &'a Value, mark: Option<&'a Mark>, name: &str) -> Option<(Span, &'a Mark)> {
    let index = value.as_object()?.keys().position(|key| key == name)?;
    mark?.entry(index)
}

/// A record that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The values that are right, with defaults for what was not given.
    pub(crate) values: Map<String, Value>,
    /// The fields whose values are wrong or missing.
    wrong: Vec<&'static str>,
}

/// Which keys a record may have.
#[derive(Debug, Clone, Copy)]
struct Shape {
    fields: &'static [Field],
    /// Remarks and nested entities, which are looked at elsewhere.
    children: &'static [Child],
    has_remarks: bool,
    /// The field that refers to the parent this record is nested in.
    parent: Option<&'static str>,
    check: fn(&mut Scope<'_, '_>),
}

/// Gathers problems while looking at values.
#[derive(Debug)]
pub(crate) struct Checker<'s> {
    pub(crate) sources: &'s Sources,
    problems: Vec<Problem>,
    dropped: usize,
}

impl<'s> Checker<'s> {
    /// Starts with the problems known so far.
    pub(crate) fn new(sources: &'s Sources, problems: Vec<Problem>) -> Self {
        Self {
            sources,
            problems,
            dropped: 0,
        }
    }

    /// Returns all problems.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        if self.dropped > 0 {
            let message = format!("{} more problems are not shown", self.dropped);
            self.problems.push(Problem::about("configuration", message));
        }
        self.problems
    }

    /// Says how many problems there are, warnings included.
    pub(crate) fn problem_count(&self) -> usize {
        self.problems.len() + self.dropped
    }

    /// Says whether there is any error so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.dropped > 0 || self.problems.iter().any(Problem::is_error)
    }

    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds an error.
    pub(crate) fn error(
        &mut self,
        span: Option<Span>,
        path: impl Display,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut problem = self.sources.problem(span, path.to_string(), message);
        problem.hint = hint;
        self.push(problem);
    }

    /// Adds a warning.
    pub(crate) fn warn(
        &mut self,
        span: Option<Span>,
        path: impl Display,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut problem = self.sources.problem(span, path.to_string(), message);
        problem.severity = Severity::Warning;
        problem.hint = hint;
        self.push(problem);
    }

    /// Looks at a value that is wrong: one problem, with what was substituted.
    fn wrong(&mut self, at: At<'_>, field: Option<&Field>, message: impl Into<String>, hint: Option<String>) {
        let is_secret = field.is_some_and(|field| field.is_secret);
        let mut hint = hint.or_else(|| field.and_then(|field| field.hint).map(str::to_owned));
        if at.mark.is_some_and(|mark| mark.is_substituted) && !is_secret {
            let read = format!("after substitution it reads {}", at.value);
            hint = Some(hint.map_or(read.clone(), |hint| format!("{hint}; {read}")));
        }
        let mut problem = self.sources.problem(at.span(), at.path.to_string(), message);
        problem.hint = hint;
        if is_secret {
            problem.excerpt = None;
        }
        self.push(problem);
    }

    /// Looks at a record and everything in it.
    pub(crate) fn record(&mut self, record: &'static Record, at: At<'_>) -> Option<Checked> {
        self.shape(
            Shape {
                fields: record.fields,
                children: &[],
                has_remarks: false,
                parent: None,
                check: record.check,
            },
            at,
        )
    }

    /// Looks at an entity, nested in another or not; the entities nested in it are not looked at.
    pub(crate) fn entity(
        &mut self,
        entity: &'static Entity,
        parent: Option<&'static Child>,
        at: At<'_>,
    ) -> Option<Checked> {
        let parent = parent.map(|child| child.parent);
        self.shape(
            Shape {
                fields: entity.fields,
                children: entity.children,
                has_remarks: true,
                parent,
                check: entity.check,
            },
            at,
        )
    }

    fn shape(&mut self, shape: Shape, at: At<'_>) -> Option<Checked> {
        let Value::Object(map) = at.value else {
            self.wrong(
                at,
                None,
                "expected a record",
                Some("a mapping of names to values".to_owned()),
            );
            return None;
        };
        let mut checked = Checked::default();
        for (index, (key, value)) in map.iter().enumerate() {
            let marks = at.mark.and_then(|mark| mark.entry(index));
            let here = At {
                value,
                mark: marks.map(|(_, mark)| mark).or(at.mark),
                path: at.path.key(key),
            };
            let key_span = marks.map(|(span, _)| span).or(at.span());
            let remarks: &[Field] = if shape.has_remarks { &REMARKS } else { &[] };
            if let Some(field) = shape.fields.iter().chain(remarks).find(|field| field.name == key) {
                if value.is_null() {
                    continue;
                }
                if shape.parent == Some(field.name) {
                    let hint = format!("it is nested in its {} already: remove '{0}'", field.name);
                    self.error(key_span, here.path, "value must be null", Some(hint));
                    checked.wrong.push(field.name);
                    continue;
                }
                match self.value(&field.kind, Some(field), here) {
                    Some(value) => {
                        self.warn_without_effect(field, &value, key_span, here.path);
                        checked.values.insert(field.name.to_owned(), value);
                    }
                    None => checked.wrong.push(field.name),
                }
            } else if !shape.children.iter().any(|child| child.entity.name == key) {
                let hint = unknown_field_hint(key, shape.fields, shape.children, shape.parent);
                self.error(key_span, here.path, "unknown field", Some(hint));
            }
        }
        for field in shape.fields {
            if checked.values.contains_key(field.name)
                || checked.wrong.contains(&field.name)
                || shape.parent == Some(field.name)
            {
                continue;
            }
            if let Some(value) = default_of(field) {
                checked.values.insert(field.name.to_owned(), value);
            } else if field.is_required && !field.stand_in.is_some_and(|name| map.contains_key(name)) {
                let span = entry(at.value, at.mark, field.name)
                    .map(|(span, _)| span)
                    .or(at.span());
                let hint = field.hint.unwrap_or(field.doc).to_owned();
                self.error(
                    span,
                    at.path.key(field.name),
                    "required field missing",
                    Some(hint),
                );
                checked.wrong.push(field.name);
            }
        }
        (shape.check)(&mut Scope {
            checker: self,
            at,
            checked: &mut checked,
        });
        Some(checked)
    }

    fn warn_without_effect(&mut self, field: &Field, value: &Value, span: Option<Span>, path: Path<'_>) {
        let Effect::None(reason) = field.effect else {
            return;
        };
        let is_default = default_of(field).as_ref() == Some(value);
        let is_empty = value.as_array().is_some_and(Vec::is_empty) || value == &Value::Bool(false);
        if !is_default && !(is_empty && field.default.is_none()) {
            self.warn(span, path, "accepted without effect", Some(reason.to_owned()));
        }
    }

    /// Looks at the value of a field that stands by itself; `None` when it is wrong, which has been reported.
    pub(crate) fn field(&mut self, field: &'static Field, at: At<'_>) -> Option<Value> {
        self.value(&field.kind, Some(field), at)
    }

    fn value(&mut self, kind: &'static Kind, field: Option<&'static Field>, at: At<'_>) -> Option<Value> {
        match kind {
            Kind::Any => Some(at.value.clone()),
            Kind::Boolean => match at.value {
                Value::Bool(_) => Some(at.value.clone()),
                _ => {
                    self.wrong(
                        at,
                        field,
                        "expected a boolean",
                        Some("true or false, without quotes".to_owned()),
                    );
                    None
                }
            },
            Kind::Text(format) => {
                let text = self.text(at, field)?;
                match (format.check)(text) {
                    Ok(()) => Some(at.value.clone()),
                    Err(fault) => {
                        self.wrong(at, field, fault.message, fault.hint);
                        None
                    }
                }
            }
            Kind::Choice { .. } => {
                let text = self.text(at, field)?;
                match refuse_choice(kind, text) {
                    None => Some(at.value.clone()),
                    Some((message, hint)) => {
                        self.wrong(at, field, message, hint);
                        None
                    }
                }
            }
            Kind::Integer { min, max } => {
                let number = self.integer(at, field)?;
                if (i128::from(*min)..=i128::from(*max)).contains(&number) {
                    return i64::try_from(number).ok().map(Value::from);
                }
                self.wrong(
                    at,
                    field,
                    format!("value should be between {min} and {max}"),
                    None,
                );
                None
            }
            Kind::NumberChoice(numbers) => {
                let number = self.integer(at, field)?;
                if let Some(known) = numbers.iter().find(|known| i128::from(**known) == number) {
                    return Some(Value::from(*known));
                }
                let known: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                self.wrong(at, field, format!("expected one of: {}", known.join(", ")), None);
                None
            }
            Kind::Number { min, max } => self.number(at, field, *min, *max),
            Kind::Duration { min, max } => {
                let Some(duration) = units::parse_duration(at.value) else {
                    let hint = at
                        .value
                        .as_u64()
                        .map(|number| format!("add the unit: {number}s or {number}ms"));
                    self.wrong(
                        at,
                        field,
                        "expected a duration, such as 10s, 500ms or 1m30s",
                        hint,
                    );
                    return None;
                };
                if (*min..=*max).contains(&duration) {
                    return Some(at.value.clone());
                }
                let message = format!(
                    "value should be between {} and {}",
                    units::show_duration(*min),
                    units::show_duration(*max)
                );
                self.wrong(at, field, message, None);
                None
            }
            Kind::Size {
                min,
                max,
                or_unlimited,
            } => match units::parse_size(at.value) {
                Some(units::Size::Unlimited) if *or_unlimited => Some(at.value.clone()),
                Some(units::Size::Bytes(bytes)) if (*min..=*max).contains(&bytes) => Some(at.value.clone()),
                Some(_) => {
                    let range = format!(
                        "value should be between {} and {}",
                        units::show_size(*min),
                        units::show_size(*max)
                    );
                    self.wrong(
                        at,
                        field,
                        range,
                        or_unlimited.then(|| "or 'unlimited'".to_owned()),
                    );
                    None
                }
                None => {
                    let hint = "a number of bytes, or one with KiB (1024 bytes), MiB or GiB";
                    self.wrong(at, field, "expected a size, such as 32KiB", Some(hint.to_owned()));
                    None
                }
            },
            Kind::List { of, min, is_set } => self.list(of, *min, *is_set, field, at),
            Kind::Map { key, of } => {
                let Value::Object(map) = at.value else {
                    self.wrong(
                        at,
                        field,
                        "expected a map",
                        Some("a mapping of names to lists".to_owned()),
                    );
                    return None;
                };
                let mut result = Map::new();
                let mut is_right = true;
                for (index, (name, value)) in map.iter().enumerate() {
                    let marks = at.mark.and_then(|mark| mark.entry(index));
                    let here = At {
                        value,
                        mark: marks.map(|(_, mark)| mark).or(at.mark),
                        path: at.path.key(name),
                    };
                    if let Err(fault) = (key.check)(name) {
                        self.error(
                            marks.map(|(span, _)| span).or(at.span()),
                            here.path,
                            fault.message,
                            fault.hint,
                        );
                        is_right = false;
                    }
                    match self.value(of, field, here) {
                        Some(value) => drop(result.insert(name.clone(), value)),
                        None => is_right = false,
                    }
                }
                is_right.then_some(Value::Object(result))
            }
            Kind::RecordOrFalse(_) if at.value == &Value::Bool(false) => Some(Value::Bool(false)),
            Kind::RecordOrFalse(_) if !at.value.is_object() => {
                self.wrong(at, field, "expected a record, or false for none", None);
                None
            }
            Kind::Record(record) | Kind::RecordOrFalse(record) => {
                let checked = self.record(record, at)?;
                checked.wrong.is_empty().then_some(Value::Object(checked.values))
            }
            Kind::Reference(_) => self.reference(at, field),
        }
    }

    fn text<'v>(&mut self, at: At<'v>, field: Option<&Field>) -> Option<&'v str> {
        if let Value::String(text) = at.value {
            return Some(text);
        }
        let hint = match at.value {
            Value::Number(_) | Value::Bool(_) => Some(format!("with quotes it is text: \"{}\"", at.value)),
            _ => None,
        };
        self.wrong(at, field, "expected a string", hint);
        None
    }

    fn integer(&mut self, at: At<'_>, field: Option<&Field>) -> Option<i128> {
        let Value::Number(number) = at.value else {
            self.wrong(at, field, "expected an integer", unquote(at.value));
            return None;
        };
        let whole = number.as_i128().or_else(|| {
            // A whole number written with a point is one to Kong; beyond 2^53 a float is no exact number.
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            (float.abs() < 9_007_199_254_740_992.0)
                .then_some(float as i128)
                .or(Some(if float < 0.0 { i128::MIN } else { i128::MAX }))
        });
        if whole.is_none() {
            self.wrong(at, field, "expected an integer", None);
        }
        whole
    }

    fn number(&mut self, at: At<'_>, field: Option<&Field>, min: i64, max: i64) -> Option<Value> {
        let Value::Number(number) = at.value else {
            self.wrong(at, field, "expected a number", unquote(at.value));
            return None;
        };
        let float = number.as_f64().unwrap_or(f64::NAN);
        if float >= min as f64 && float <= max as f64 {
            // Written as whole numbers where they are, so that 1.0 compares equal to a default of 1.
            let is_whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
            return Some(if is_whole {
                Value::from(float as i64)
            } else {
                at.value.clone()
            });
        }
        self.wrong(
            at,
            field,
            format!("value should be between {min} and {max}"),
            None,
        );
        None
    }

    fn list(
        &mut self,
        of: &'static Kind,
        min: usize,
        is_set: bool,
        field: Option<&'static Field>,
        at: At<'_>,
    ) -> Option<Value> {
        let Value::Array(items) = at.value else {
            let hint = match at.value {
                Value::Object(_) | Value::Null => None,
                scalar => Some(format!(
                    "a list, even of one: [{}]",
                    scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned)
                )),
            };
            self.wrong(
                at,
                field,
                if is_set {
                    "expected a set"
                } else {
                    "expected an array"
                },
                hint,
            );
            return None;
        };
        if items.len() < min {
            self.wrong(at, field, format!("length must be at least {min}"), None);
            return None;
        }
        let mut result = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            let here = At {
                value,
                mark: at.mark.and_then(|mark| mark.item(index)).or(at.mark),
                path: at.path.index(index),
            };
            result.extend(self.value(of, field, here));
        }
        (result.len() == items.len()).then_some(Value::Array(result))
    }

    /// Takes a reference in any of its forms and returns the name or id as text.
    fn reference(&mut self, at: At<'_>, field: Option<&Field>) -> Option<Value> {
        let name = match at.value {
            Value::String(name) if !name.is_empty() => Some(name.as_str()),
            Value::Object(map) if map.len() == 1 => {
                map.get("id").or_else(|| map.get("name")).and_then(Value::as_str)
            }
            _ => None,
        };
        if name.is_none() {
            self.wrong(
                at,
                field,
                "expected a reference",
                Some("a name or an id as text, or {name: …} or {id: …}".to_owned()),
            );
        }
        name.map(Value::from)
    }
}

/// Returns why a word is none of a choice, or `None` when it is one.
pub(crate) fn refuse_choice(kind: &Kind, text: &str) -> Option<(String, Option<String>)> {
    let Kind::Choice { known, kong_only } = kind else {
        return None;
    };
    if known.contains(&text) {
        return None;
    }
    let hint = if kong_only.contains(&text) {
        Some(format!("'{text}' is Kong's, but Serin does not have it yet"))
    } else {
        nearest(text, known.iter().copied()).map(|word| format!("did you mean '{word}'?"))
    };
    Some((format!("expected one of: {}", known.join(", ")), hint))
}

/// Returns what stands for a field that is not given, defaults of a record's own fields included.
pub(crate) fn default_of(field: &Field) -> Option<Value> {
    let value = field.default?();
    let fields = field.kind.fields().filter(|_| value.is_object());
    let (Some(fields), Value::Object(mut map)) = (fields, value.clone()) else {
        return Some(value);
    };
    for inner in fields {
        if !map.contains_key(inner.name)
            && let Some(value) = default_of(inner)
        {
            map.insert(inner.name.to_owned(), value);
        }
    }
    Some(Value::Object(map))
}

fn unquote(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    text.parse::<i64>()
        .ok()
        .map(|number| format!("without quotes it is a number: {number}"))
}

fn unknown_field_hint(key: &str, fields: &[Field], children: &[Child], parent: Option<&str>) -> String {
    let known: Vec<&str> = (fields
        .iter()
        .map(|field| field.name)
        .filter(|name| Some(*name) != parent))
    .chain(children.iter().map(|child| child.entity.name))
    .collect();
    if KONG_ONLY.contains(&key) {
        return format!("'{key}' are Kong's, but Serin does not have them yet");
    }
    did_you_mean(key, &known, "known fields")
}

/// A record while its own rules look at it.
#[derive(Debug)]
pub(crate) struct Scope<'c, 's> {
    checker: &'c mut Checker<'s>,
    at: At<'c>,
    checked: &'c mut Checked,
}

impl Scope<'_, '_> {
    /// Says whether a field was given, right or wrong.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.at.value.get(name).is_some_and(|value| !value.is_null())
    }

    /// Says whether a field is right, or not given and not required.
    pub(crate) fn is_valid(&self, name: &str) -> bool {
        !self.checked.wrong.contains(&name)
    }

    /// Returns a field's value or default.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.checked.values.get(name)
    }

    /// Returns a field's value or default if that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(Value::as_str)
    }

    /// Puts a value in place of what was given; null removes it.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        if value.is_null() {
            self.checked.values.remove(name);
        } else {
            self.checked.values.insert(name.to_owned(), value);
        }
    }

    /// Returns the place of a field's value in words, to name the other side of a conflict.
    pub(crate) fn place_of(&self, name: &str) -> String {
        self.show_place(self.span_of(name))
    }

    /// Returns the place of an item of a field's list in words.
    pub(crate) fn place_of_item(&self, name: &str, index: usize) -> String {
        self.show_place(self.item_span(name, index))
    }

    /// Reports a field's value; one that was not given is reported at the record.
    pub(crate) fn error(&mut self, name: &str, message: impl Into<String>, hint: Option<String>) {
        let span = self.span_of(name).or(self.at.span());
        self.checker.error(span, self.at.path.key(name), message, hint);
    }

    /// Reports an item of a field's list.
    pub(crate) fn error_item(
        &mut self,
        name: &str,
        index: usize,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let span = self.item_span(name, index).or(self.at.span());
        self.checker
            .error(span, self.at.path.key(name).index(index), message, hint);
    }

    /// Reports that a field is missing because of another, where that other stands.
    pub(crate) fn error_missing(
        &mut self,
        name: &str,
        because_of: &str,
        message: impl Into<String>,
        hint: String,
    ) {
        let span = self.span_of(because_of).or(self.at.span());
        self.checker
            .error(span, self.at.path.key(name), message, Some(hint));
    }

    /// Reports the record as a whole.
    pub(crate) fn error_here(&mut self, message: impl Into<String>, hint: Option<String>) {
        self.checker.error(self.at.span(), self.at.path, message, hint);
    }

    fn span_of(&self, name: &str) -> Option<Span> {
        entry(self.at.value, self.at.mark, name).map(|(_, mark)| mark.span)
    }

    fn item_span(&self, name: &str, index: usize) -> Option<Span> {
        let (_, mark) = entry(self.at.value, self.at.mark, name)?;
        Some(mark.item(index).unwrap_or(mark).span)
    }

    fn show_place(&self, span: Option<Span>) -> String {
        span.and_then(|span| self.checker.sources.place(span))
            .map_or_else(|| "the default".to_owned(), |place| place.to_string())
    }
}
