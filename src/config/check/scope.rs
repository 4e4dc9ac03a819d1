//! What a rule over several fields sees of its record.

use serde_json::Value;

use super::{Checked, Checker};
use crate::config::at::{At, entry};
use crate::config::mark::Span;

/// A record while its own rules look at it.
#[derive(Debug)]
pub(crate) struct Scope<'c, 's> {
    checker: &'c mut Checker<'s>,
    at: At<'c>,
    checked: &'c mut Checked,
}

impl<'c, 's> Scope<'c, 's> {
    /// Opens a record to its rules.
    pub(super) fn new(checker: &'c mut Checker<'s>, at: At<'c>, checked: &'c mut Checked) -> Self {
        Self { checker, at, checked }
    }

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

    /// Returns the place of a field of an item of a field's list in words.
    pub(crate) fn place_of_item(&self, name: &str, index: usize, inner: &str) -> String {
        self.show_place(self.item_span(name, index, inner))
    }

    /// Reports a field's value; one that was not given is reported at the record.
    pub(crate) fn error(&mut self, name: &'static str, message: impl Into<String>, hint: Option<String>) {
        let span = self.span_of(name).or(self.at.span());
        self.checker.error(span, self.at.path.key(name), message, hint);
        self.checked.wrong.push(name);
    }

    /// Reports a field's value that is allowed and hardly meant.
    pub(crate) fn warn(&mut self, name: &'static str, message: &str, hint: &str) {
        let span = self.span_of(name).or(self.at.span());
        let path = self.at.path.key(name);
        self.checker.warn(span, path, message, Some(hint.to_owned()));
    }

    /// Reports a field of an item of a field's list.
    pub(crate) fn error_item(
        &mut self,
        name: &'static str,
        index: usize,
        inner: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let span = self.item_span(name, index, inner).or(self.at.span());
        self.checker.error(
            span,
            self.at.path.key(name).index(index).key(inner),
            message,
            hint,
        );
        self.checked.wrong.push(name);
    }

    /// Reports that a field is missing because of another, where that other stands.
    pub(crate) fn error_missing(
        &mut self,
        name: &'static str,
        because_of: &str,
        message: impl Into<String>,
        hint: String,
    ) {
        let span = self.span_of(because_of).or(self.at.span());
        self.checker
            .error(span, self.at.path.key(name), message, Some(hint));
        self.checked.wrong.push(name);
    }

    /// Reports the record as a whole.
    pub(crate) fn error_here(&mut self, message: impl Into<String>, hint: Option<String>) {
        self.checker.error(self.at.span(), self.at.path, message, hint);
    }

    fn span_of(&self, name: &str) -> Option<Span> {
        entry(self.at.value, self.at.mark, name).map(|(_, mark)| mark.span)
    }

    fn item_span(&self, name: &str, index: usize, inner: &str) -> Option<Span> {
        let (_, list) = entry(self.at.value, self.at.mark, name)?;
        let item = list.item(index).unwrap_or(list);
        let value = self.at.value.get(name)?.get(index)?;
        Some(entry(value, Some(item), inner).map_or(item.span, |(_, mark)| mark.span))
    }

    fn show_place(&self, span: Option<Span>) -> String {
        span.and_then(|span| self.checker.sources.place(span))
            .map_or_else(|| "the default".to_owned(), |place| place.to_string())
    }
}
