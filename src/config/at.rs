//! A value with its place: the path from the top of its document, and the mark beside it.

use std::fmt::{self, Display};

use serde_json::Value;

use super::mark::{Mark, Origin, Span};

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
    /// Returns where the value stands.
    pub(crate) fn span(&self) -> Option<Span> {
        self.mark.map(|mark| mark.span)
    }

    /// Says whether the value could not be made out, which has been reported.
    pub(crate) fn is_unknown(&self) -> bool {
        self.mark.is_some_and(|mark| mark.origin == Origin::Unknown)
    }
}

/// Returns the mark of the entry called `name`, and of its key.
pub(crate) fn entry<'a>(value: &'a Value, mark: Option<&'a Mark>, name: &str) -> Option<(Span, &'a Mark)> {
    let index = value.as_object()?.keys().position(|key| key == name)?;
    mark?.entry(index)
}
