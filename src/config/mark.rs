//! Positions of a document's values, in a tree beside the values.
//!
//! A value is a `serde_json::Value`, so that a file and a JSON body go through the same checks; where it
//! stood is a [`Mark`] of the same shape. A body has no marks, and everything here is optional: a value
//! without one is reported by its path alone.

use std::collections::HashMap;

use super::problem::{Place, Position, Problem, Severity, shorten};
use super::source::Source;

/// A stretch of one line of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of the source.
    pub(crate) source: u32,
    /// Line, from 1.
    pub(crate) line: u32,
    /// Column in characters, from 1.
    pub(crate) column: u32,
    /// Characters, at least 1.
    pub(crate) width: u32,
}

impl Span {
    /// Returns the start of a source.
    pub(crate) fn start_of(source: usize) -> Self {
        Self {
            source: narrow(source),
            line: 1,
            column: 1,
            width: 1,
        }
    }

    /// Returns line and column.
    pub(crate) fn position(self) -> Position {
        Position {
            line: self.line as usize,
            column: self.column as usize,
        }
    }
}

/// By how many lines what stands behind an edit has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shift(pub(crate) i64);

impl Shift {
    /// Returns where a line now is.
    pub(crate) fn of(self, line: u32) -> u32 {
        u32::try_from(i64::from(line) + self.0).unwrap_or(line)
    }
}

/// Where a value stands, and where the values in it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The value; of a mapping its first key, of a list its first item.
    pub(crate) span: Span,
    /// How the value came to be.
    pub(crate) origin: Origin,
    /// The values in it.
    pub(crate) inside: Inside,
}

/// How a value came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is what the line shows.
    Written,
    /// It was made by substituting `${…}`, so the line does not show it.
    Substituted,
    /// It could not be made, which has been reported; nothing more is to be said about it.
    Unknown,
}

/// Marks of the values in a value, in the order of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inside {
    /// A scalar.
    Nothing,
    /// One for each item.
    List(Vec<Mark>),
    /// One for each entry: the key, and the value.
    Map(Vec<(Span, Mark)>),
}

impl Mark {
    /// Makes the mark of a value of which no more is known than where it begins.
    pub(crate) fn at(span: Span) -> Self {
        Self {
            span,
            origin: Origin::Written,
            inside: Inside::Nothing,
        }
    }

    /// Returns the mark of an item of a list.
    pub(crate) fn item(&self, index: usize) -> Option<&Mark> {
        match &self.inside {
            Inside::List(items) => items.get(index),
            _ => None,
        }
    }

    /// Moves all that stands in `source` at `line` or behind it.
    pub(crate) fn shift(&mut self, source: u32, line: u32, shift: Shift) {
        let shift_span = |span: &mut Span| {
            if span.source == source && span.line >= line {
                span.line = shift.of(span.line);
            }
        };
        shift_span(&mut self.span);
        match &mut self.inside {
            Inside::Nothing => {}
            Inside::List(items) => items.iter_mut().for_each(|item| item.shift(source, line, shift)),
            Inside::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                shift_span(key);
                value.shift(source, line, shift);
            }),
        }
    }

    /// Takes what is inside, and leaves the place.
    pub(crate) fn take(&mut self) -> Mark {
        let left = Mark {
            origin: self.origin,
            ..Mark::at(self.span)
        };
        std::mem::replace(self, left)
    }

    /// Returns the marks of the items of a list; for what has none it is its own.
    pub(crate) fn into_items(self) -> impl Iterator<Item = Mark> {
        let Mark { span, origin, inside } = self;
        let items = match inside {
            Inside::List(items) => items,
            Inside::Nothing | Inside::Map(_) => Vec::new(),
        };
        let own = move || Mark {
            origin,
            ..Mark::at(span)
        };
        items.into_iter().chain(std::iter::repeat_with(own))
    }

    /// Returns the marks of the entries of a mapping: of their keys and of their values. For what has none it is
    /// its own.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Span, Mark)> {
        let Mark { span, origin, inside } = self;
        let entries = match inside {
            Inside::Map(entries) => entries,
            Inside::Nothing | Inside::List(_) => Vec::new(),
        };
        let own = move || {
            (
                span,
                Mark {
                    origin,
                    ..Mark::at(span)
                },
            )
        };
        entries.into_iter().chain(std::iter::repeat_with(own))
    }

    /// Returns the marks of an entry of a mapping: of its key and of its value.
    pub(crate) fn entry(&self, index: usize) -> Option<(Span, &Mark)> {
        match &self.inside {
            Inside::Map(entries) => entries.get(index).map(|(key, value)| (*key, value)),
            _ => None,
        }
    }
}

/// All sources of one load, and the problems found in them.
#[derive(Debug, Default)]
pub(crate) struct Sources(pub(crate) Vec<Source>);

impl Sources {
    /// Returns the place of a span, e.g. to name the other side of a conflict.
    pub(crate) fn place(&self, span: Span) -> Option<Place> {
        self.0
            .get(span.source as usize)
            .map(|source| source.place(span.position()))
    }

    /// Puts problems in the order in which one reads the files.
    pub(crate) fn sort(&self, problems: &mut [Problem]) {
        let sources = self.0.iter().enumerate();
        let order: HashMap<&str, usize> = sources
            .map(|(index, source)| (source.name.as_str(), index))
            .collect();
        problems.sort_by_key(|problem| {
            let file = order.get(problem.place.file.as_str()).copied();
            (file.is_none(), file, problem.place.position)
        });
    }

    /// Makes an error at a span, or about the whole configuration when there is none.
    pub(crate) fn problem(&self, span: Option<Span>, path: String, message: impl Into<String>) -> Problem {
        let found = span.and_then(|span| Some((span, self.0.get(span.source as usize)?)));
        let mut problem = match found {
            Some((span, source)) => source.problem(span.position(), span.width as usize, message),
            None => Problem::about("configuration", message),
        };
        problem.path = shorten(path);
        problem.severity = Severity::Error;
        problem
    }
}

/// Narrows a count that `MAX_FILE_BYTES` keeps far below the limit.
pub(crate) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
