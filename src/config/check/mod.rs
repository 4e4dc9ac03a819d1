//! Values against the table: types, ranges, choices, formats, unknown keys, defaults.
//!
//! Knows no entity by name; everything comes from `schema`. Every problem of a document is gathered, so
//! that one run shows them all; a value that is wrong is left out of the result and remembered as
//! wrong, so that rules over several fields can tell "wrong" from "not given" and stay silent.

mod scope;
mod value;

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::Range;

use serde_json::{Map, Value};

pub(crate) use self::scope::Scope;
pub(crate) use self::value::refuse_choice;

use super::at::{At, Path, entry};
use super::mark::{Origin, Shift, Sources, Span, narrow};
use super::problem::{MAX_PROBLEMS, Problem, Severity, shorten};
use super::schema::{Child, Effect, Entity, Field, KONG_ONLY, Kind as FieldKind, REMARKS, Record};
use super::suggest::nearest;
use crate::entity::Kind;

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
    /// The field that a text in place of the record was probably meant for.
    key: Option<&'static str>,
    /// Nested entities, which are looked at elsewhere.
    children: &'static [Child],
    has_remarks: bool,
    /// The field that refers to the parent this record is nested in.
    parent: Option<&'static str>,
    check: fn(&mut Scope<'_, '_>),
}

impl Shape {
    /// Returns a field that is never shown, if there is one.
    fn secret(&self) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.is_secret)
    }

    /// Returns the names of all keys there may be.
    fn known(&self) -> Vec<&'static str> {
        let fields = self
            .fields
            .iter()
            .map(|field| field.name)
            .filter(|name| Some(*name) != self.parent);
        fields
            .chain(self.children.iter().map(|child| child.entity.name))
            .collect()
    }
}

/// Problems of one severity.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    kept: usize,
    dropped: usize,
}

/// The problems that were found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    problems: Vec<Problem>,
    errors: Count,
    warnings: Count,
    /// Lines on which a secret stands, by source: no problem shows them.
    hidden: HashSet<(u32, u32)>,
}

impl Found {
    /// Says whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Says whether something is told of lines of a file.
    pub(crate) fn is_about(&self, file: &str, lines: Range<u32>) -> bool {
        self.problems.iter().any(|problem| {
            let line = problem.place.position.map(|position| narrow(position.line));
            problem.place.file == file && line.is_some_and(|line| lines.contains(&line))
        })
    }

    /// Lets other lines of a source stand where `lines` stood, with what was found in them: only lines to hide.
    pub(crate) fn replace(&mut self, source: u32, lines: &Range<u32>, shift: Shift, found: Self) {
        let moved = self.hidden.iter().filter_map(|(of, line)| match *of == source {
            true if lines.contains(line) => None,
            true if *line >= lines.end => Some((*of, shift.of(*line))),
            _ => Some((*of, *line)),
        });
        self.hidden = moved.chain(found.hidden).collect();
    }
}

/// Gathers problems while looking at values.
#[derive(Debug)]
pub(crate) struct Checker<'s> {
    pub(crate) sources: &'s Sources,
    found: Found,
}

impl<'s> Checker<'s> {
    /// Starts with the problems known so far.
    pub(crate) fn new(sources: &'s Sources, problems: Vec<Problem>) -> Self {
        let mut checker = Self::going_on(sources, Found::default());
        problems.into_iter().for_each(|problem| checker.push(problem));
        checker
    }

    /// Goes on from what was found.
    pub(crate) fn going_on(sources: &'s Sources, found: Found) -> Self {
        Self { sources, found }
    }

    /// Returns what was found, to go on from.
    pub(crate) fn into_found(self) -> Found {
        self.found
    }

    /// Returns all problems.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.hide_secrets();
        let Found {
            mut problems,
            errors,
            warnings,
            ..
        } = self.found;
        for (count, severity) in [(errors, Severity::Error), (warnings, Severity::Warning)] {
            if count.dropped > 0 {
                let problem = Problem::about(
                    "configuration",
                    format!("{} more like these are not shown", count.dropped),
                );
                problems.push(Problem { severity, ..problem });
            }
        }
        problems
    }

    /// Keeps the line of a secret out of every problem, also of those about something else on that line.
    pub(crate) fn hide(&mut self, span: Option<Span>) {
        self.found
            .hidden
            .extend(span.map(|span| (span.source, span.line)));
    }

    fn hide_secrets(&mut self) {
        if self.found.hidden.is_empty() {
            return;
        }
        let lines: HashSet<(&str, usize)> = (self.found.hidden.iter())
            .filter_map(|(source, line)| Some((&*self.sources.0.get(*source as usize)?.name, *line as usize)))
            .collect();
        for problem in &mut self.found.problems {
            let line = problem.place.position.map_or(0, |position| position.line);
            if lines.contains(&(&*problem.place.file, line)) {
                problem.excerpt = None;
            }
        }
    }

    /// Says whether there is any error so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.errors.kept > 0
    }

    /// Says whether one more is kept; if not, it is counted.
    fn has_room(&mut self, severity: Severity) -> bool {
        let count = if severity == Severity::Error {
            &mut self.found.errors
        } else {
            &mut self.found.warnings
        };
        let has_room = count.kept < MAX_PROBLEMS;
        *(if has_room {
            &mut count.kept
        } else {
            &mut count.dropped
        }) += 1;
        has_room
    }

    fn push(&mut self, problem: Problem) {
        if self.has_room(problem.severity) {
            self.found.problems.push(problem);
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
        self.add(Severity::Error, span, path, message, hint);
    }

    /// Adds a warning.
    pub(crate) fn warn(
        &mut self,
        span: Option<Span>,
        path: impl Display,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Warning, span, path, message, hint);
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Option<Span>,
        path: impl Display,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.has_room(severity) {
            let problem = self.sources.problem(span, path.to_string(), message);
            self.found.problems.push(Problem {
                severity,
                hint: hint.map(shorten),
                ..problem
            });
        }
    }

    /// Reports a value that is wrong, with what was substituted; a secret's line is not shown.
    fn wrong(&mut self, at: At<'_>, field: Option<&Field>, message: impl Into<String>, hint: Option<String>) {
        if !self.has_room(Severity::Error) {
            return;
        }
        let is_secret = field.is_some_and(|field| field.is_secret);
        let mut hint = hint.or_else(|| field.and_then(|field| field.hint).map(str::to_owned));
        if at.mark.is_some_and(|mark| mark.origin == Origin::Substituted) && !is_secret {
            let read = format!("after substitution it reads {}", at.value);
            hint = Some(hint.map_or(read.clone(), |hint| format!("{hint}; {read}")));
        }
        let mut problem = self.sources.problem(at.span(), at.path.to_string(), message);
        problem.hint = hint.map(shorten);
        if is_secret {
            problem.excerpt = None;
        }
        self.found.problems.push(problem);
    }

    /// Looks at a record and everything in it.
    pub(crate) fn record(&mut self, record: &'static Record, at: At<'_>) -> Option<Checked> {
        let mut required = record.fields.iter().filter(|field| field.is_required);
        let key = match (record.fields, required.next(), required.next()) {
            ([only], ..) | (_, Some(only), None) => Some(only.name),
            _ => None,
        };
        let (fields, check) = (record.fields, record.check);
        self.shape(
            Shape {
                fields,
                key,
                children: &[],
                has_remarks: false,
                parent: None,
                check,
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
        let Entity {
            fields,
            children,
            check,
            ..
        } = *entity;
        let parent = parent.map(|child| child.parent);
        self.shape(
            Shape {
                fields,
                key: Some(entity.key),
                children,
                has_remarks: true,
                parent,
                check,
            },
            at,
        )
    }

    fn shape(&mut self, shape: Shape, at: At<'_>) -> Option<Checked> {
        let Value::Object(map) = at.value else {
            // A text in place of a credential is likely to be the secret.
            let secret = shape.secret().filter(|_| shape.has_remarks);
            let hint = match (at.value, shape.key) {
                (Value::String(text), Some(key)) if secret.is_none() => format!("write {key}: {text}"),
                _ => "a mapping of names to values".to_owned(),
            };
            if secret.is_some() {
                self.hide(at.span());
            }
            self.wrong(at, secret, "expected a record", Some(hint));
            return None;
        };
        let mut checked = Checked::default();
        // Fields that an unknown key was probably meant for: they are not also reported as missing.
        let mut meant = Vec::new();
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
                self.given(field, &shape, here, key_span, &mut checked);
            } else if !shape.children.iter().any(|child| child.entity.name == key) {
                meant.extend(self.unknown(key, &shape, here, key_span));
            }
        }
        self.chosen(shape.fields, map, at, &mut checked);
        for field in shape.fields {
            let is_settled = checked.values.contains_key(field.name)
                || checked.wrong.contains(&field.name)
                || shape.parent == Some(field.name);
            if is_settled {
                continue;
            }
            if let Some(value) = default_of(field) {
                checked.values.insert(field.name.to_owned(), value);
            } else if field.is_required && !field.stand_in.is_some_and(|name| map.contains_key(name)) {
                checked.wrong.push(field.name);
                if !meant.contains(&field.name) {
                    let span = entry(at.value, at.mark, field.name)
                        .map(|(span, _)| span)
                        .or(at.span());
                    let hint = field.hint.map(str::to_owned);
                    self.error(span, at.path.key(field.name), "required field missing", hint);
                }
            }
        }
        (shape.check)(&mut Scope::new(self, at, &mut checked));
        self.warn_without_effect(&shape, at, &checked);
        Some(checked)
    }

    /// Looks at a field that the table knows.
    fn given(
        &mut self,
        field: &'static Field,
        shape: &Shape,
        at: At<'_>,
        key: Option<Span>,
        checked: &mut Checked,
    ) {
        if at.value.is_null() && !at.is_unknown() {
            return;
        }
        if shape.parent == Some(field.name) {
            let hint = format!("it is nested in its {} already: remove '{0}'", field.name);
            self.error(key, at.path, "value must be null", Some(hint));
            return;
        }
        if field.is_secret {
            self.hide(at.span());
        }
        if matches!(field.kind, FieldKind::Chosen(_)) {
            return;
        }
        match self.value(&field.kind, Some(field), at) {
            Some(value) => drop(checked.values.insert(field.name.to_owned(), value)),
            None => checked.wrong.push(field.name),
        }
    }

    /// Looks at fields whose record another field chooses, once all of them can be seen. One that is left
    /// out is looked at as if it were empty: the record may ask for something.
    fn chosen(
        &mut self,
        fields: &'static [Field],
        map: &Map<String, Value>,
        at: At<'_>,
        checked: &mut Checked,
    ) {
        let empty = Value::Object(Map::new());
        for field in fields {
            let FieldKind::Chosen(choices) = field.kind else {
                continue;
            };
            let given = map.get(field.name).filter(|value| !value.is_null());
            let mark = entry(at.value, at.mark, field.name)
                .map(|(_, mark)| mark)
                .or(at.mark);
            let here = At {
                value: given.unwrap_or(&empty),
                mark,
                path: at.path.key(field.name),
            };
            let found = choices.record(map).filter(|_| !here.is_unknown());
            match found.and_then(|record| self.record(record, here)) {
                Some(inner) if inner.wrong.is_empty() => {
                    checked
                        .values
                        .insert(field.name.to_owned(), Value::Object(inner.values));
                }
                _ => checked.wrong.push(field.name),
            }
        }
    }

    /// Reports a key that the table does not know; returns the field it was probably meant for.
    fn unknown(&mut self, key: &str, shape: &Shape, at: At<'_>, span: Option<Span>) -> Option<&'static str> {
        let known = shape.known();
        let candidate = nearest(key, known.iter().copied());
        let hint = match candidate {
            Some(candidate) => format!("did you mean '{candidate}'?"),
            _ if KONG_ONLY.contains(&key) => format!("'{key}' are Kong's, but Serin does not have them yet"),
            None => format!("known fields: {}", known.join(", ")),
        };
        // What was meant for a secret is one, whatever it is called.
        if shape.has_remarks && shape.secret().is_some() {
            self.hide(span);
            self.hide(at.span());
        }
        self.error(span, at.path, "unknown field", Some(hint));
        candidate
    }

    /// Warns of fields that are set to something and do nothing; what is wrong has been reported already.
    fn warn_without_effect(&mut self, shape: &Shape, at: At<'_>, checked: &Checked) {
        for field in shape.fields {
            let (Effect::None(reason), Some(value)) = (field.effect, checked.values.get(field.name)) else {
                continue;
            };
            let is_default = match default_of(field) {
                Some(default) => *value == default,
                None => value.as_array().is_some_and(Vec::is_empty) || *value == Value::Bool(false),
            };
            if !is_default && !checked.wrong.contains(&field.name) {
                let span = entry(at.value, at.mark, field.name)
                    .map(|(key, _)| key)
                    .or(at.span());
                self.warn(
                    span,
                    at.path.key(field.name),
                    "accepted without effect",
                    Some(reason.to_owned()),
                );
            }
        }
    }

    /// Looks at the value of a field that stands by itself; `None` when it is wrong, which has been reported.
    pub(crate) fn field(&mut self, field: &'static Field, at: At<'_>) -> Option<Value> {
        self.value(&field.kind, Some(field), at)
    }
}

/// An entity without an error.
#[derive(Debug)]
pub(crate) struct Sound {
    /// Its values, with defaults for what was not given.
    pub(crate) values: Map<String, Value>,
    /// What its author should know.
    pub(crate) warnings: Vec<Problem>,
}

/// Judges an entity that no file holds: a body of the Admin API, or what a merge has made.
///
/// # Errors
/// Every problem, if at least one of them is an error.
pub(crate) fn check_entity(kind: Kind, written: &Map<String, Value>) -> Result<Sound, Vec<Problem>> {
    let sources = Sources::default();
    let mut checker = Checker::new(&sources, Vec::new());
    let value = Value::Object(written.clone());
    let at = At {
        value: &value,
        mark: None,
        path: Path::ROOT,
    };
    let checked = checker.entity(kind.schema(), None, at);
    let has_errors = checker.has_errors();
    match checked {
        Some(Checked { values, .. }) if !has_errors => Ok(Sound {
            values,
            warnings: checker.finish(),
        }),
        _ => Err(checker.finish()),
    }
}

/// Returns what stands for a field that is not given, defaults of a record's own fields included.
pub(crate) fn default_of(field: &Field) -> Option<Value> {
    let mut value = field.default?();
    if let (Some(fields), Value::Object(map)) = (field.kind.fields(), &mut value) {
        for inner in fields {
            if !map.contains_key(inner.name)
                && let Some(value) = default_of(inner)
            {
                map.insert(inner.name.to_owned(), value);
            }
        }
    }
    Some(value)
}
