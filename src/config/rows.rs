//! Documents to rows: every entity of every file in one flat list, with its parent.
//!
//! Nesting (`services[].routes[]`) and top-level lists say the same thing; after this step there is no
//! difference left. Each row has been checked by itself. Names, ids and references, which concern several
//! rows and perhaps several files, are for `identity`.

use serde_json::{Map, Value};

use super::at::{At, Path, entry};
use super::check::Checker;
use super::mark::{Mark, Span};
use super::schema::{Child, ENTITIES, Entity, KONG_ONLY, TOP_LEVEL};
use super::suggest::nearest;
use super::yaml::Document;
use crate::priority::patiently;

/// The version of Kong's format that Serin reads.
const FORMAT_VERSION: &str = "3.0";

/// One entity of one file.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) entity: &'static Entity,
    /// As written.
    pub(crate) written: &'a Value,
    pub(crate) mark: Option<&'a Mark>,
    /// Where it is in its document.
    pub(crate) path: String,
    /// What is right in it, with defaults.
    pub(crate) values: Map<String, Value>,
    /// The row it is nested in.
    pub(crate) parent: Option<usize>,
    /// Its document's `_transform`: passwords in it are not hashed yet.
    pub(crate) is_transformed: bool,
}

impl Row<'_> {
    /// Returns the text of a field as written, even where it is wrong, so that one mistake in a name is
    /// not also reported as a missing entity wherever it is referred to.
    pub(crate) fn written_text(&self, name: &str) -> Option<&str> {
        self.written.get(name).and_then(Value::as_str)
    }

    /// Returns the place of an item of a field's list, or that of the row.
    pub(crate) fn item_span(&self, name: &str, index: usize) -> Option<Span> {
        let list = entry(self.written, self.mark, name).map(|(_, mark)| mark);
        list.map(|list| list.item(index).unwrap_or(list).span)
            .or(self.span_of(name))
    }

    /// Returns the place of a field of a record that is a field's value, or the nearest there is.
    pub(crate) fn inner_span(&self, name: &str, inner: &str) -> Option<Span> {
        let record = entry(self.written, self.mark, name).map(|(_, mark)| mark);
        let found = self
            .written
            .get(name)
            .and_then(|value| entry(value, record, inner));
        found.map(|(_, mark)| mark.span).or(self.span_of(name))
    }

    /// Returns the place of a field's value, or that of the row.
    pub(crate) fn span_of(&self, name: &str) -> Option<Span> {
        entry(self.written, self.mark, name)
            .map(|(_, mark)| mark.span)
            .or(self.mark.map(|mark| mark.span))
    }
}

/// All that the documents hold.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    pub(crate) rows: Vec<Row<'a>>,
    /// Where the `server` key is, if any file has one.
    server: Option<Span>,
    /// `_transform` of the document at hand.
    is_transformed: bool,
}

/// Returns the `server` key of the first document that has one, and its mark.
pub(crate) fn server_of(documents: &[Document]) -> Option<(&Value, &Mark)> {
    documents.iter().find_map(|document| {
        let index = document
            .value
            .as_object()?
            .keys()
            .position(|key| key == "server")?;
        Some((document.value.get("server")?, document.mark.entry(index)?.1))
    })
}

/// Flattens the documents.
pub(crate) fn collect<'a>(documents: &'a [Document], checker: &mut Checker<'_>) -> Rows<'a> {
    let mut rows = Rows::default();
    let mut has_version = false;
    for document in documents {
        has_version |= rows.document(document, checker);
    }
    if let (Some(first), false) = (documents.first(), has_version) {
        let hint = format!("add the line: _format_version: \"{FORMAT_VERSION}\"");
        checker.error(
            Some(first.mark.span),
            "_format_version",
            "required field missing",
            Some(hint),
        );
    }
    rows
}

impl<'a> Rows<'a> {
    /// Takes one document; says whether it has a version or is past asking for one.
    fn document(&mut self, document: &'a Document, checker: &mut Checker<'_>) -> bool {
        let Value::Object(map) = &document.value else {
            let hint = format!("a mapping, such as: _format_version: \"{FORMAT_VERSION}\"");
            checker.error(Some(document.mark.span), "", "expected an object", Some(hint));
            return true;
        };
        self.is_transformed = map.get("_transform") != Some(&Value::Bool(false));
        let mut has_version = false;
        for (index, (key, value)) in map.iter().enumerate() {
            let (key_span, mark) = document
                .mark
                .entry(index)
                .unwrap_or((document.mark.span, &document.mark));
            let at = At {
                value,
                mark: Some(mark),
                path: Path::ROOT.key(key),
            };
            if let Some(entity) = ENTITIES.into_iter().find(|entity| entity.name == key) {
                self.list(
                    entity,
                    None,
                    Written {
                        value,
                        mark: Some(mark),
                    },
                    at.path,
                    checker,
                );
            } else if key == "server" {
                self.server(key_span, checker);
            } else if let Some(field) = TOP_LEVEL.iter().find(|field| field.name == key) {
                has_version |= key == "_format_version";
                let checked = if value.is_null() && !field.is_required {
                    None
                } else {
                    checker.field(field, at)
                };
                if let (Some(Value::String(version)), "_format_version") = (checked, field.name) {
                    check_version(&version, mark.span, checker);
                }
            } else {
                checker.error(Some(key_span), key, "unknown field", Some(unknown_key_hint(key)));
            }
        }
        has_version
    }

    fn server(&mut self, key: Span, checker: &mut Checker<'_>) {
        let Some(first) = self.server else {
            self.server = Some(key);
            return;
        };
        let place = checker
            .sources
            .place(first)
            .map(|place| place.to_string())
            .unwrap_or_default();
        let hint = format!("first given at {place}; keep all settings in one file");
        checker.error(Some(key), "server", "given in two files", Some(hint));
    }

    fn list(
        &mut self,
        entity: &'static Entity,
        parent: Option<(usize, &'static Child)>,
        list: Written<'a>,
        path: Path<'_>,
        checker: &mut Checker<'_>,
    ) {
        let items = match list.value {
            Value::Array(items) => items,
            // A list whose items are all commented out.
            Value::Null => return,
            _ => {
                if entity.fields.iter().any(|field| field.is_secret) {
                    checker.hide(list.mark.map(|mark| mark.span));
                }
                let hint = format!("a list: each of the {} starts with '- '", entity.name);
                checker.error(
                    list.mark.map(|mark| mark.span),
                    path,
                    "expected an array",
                    Some(hint),
                );
                return;
            }
        };
        for (index, written) in patiently(items).enumerate() {
            let mark = list.mark.and_then(|mark| mark.item(index)).or(list.mark);
            let path = path.index(index);
            let at = At {
                value: written,
                mark,
                path,
            };
            let Some(checked) = checker.entity(entity, parent.map(|(_, child)| child), at) else {
                continue;
            };
            let row = self.rows.len();
            let parent = parent.map(|(row, _)| row);
            self.rows.push(Row {
                entity,
                written,
                mark,
                path: path.to_string(),
                values: checked.values,
                parent,
                is_transformed: self.is_transformed,
            });
            for child in entity.children {
                if let Some(value) = written.get(child.entity.name) {
                    let mark = entry(written, mark, child.entity.name)
                        .map(|(_, mark)| mark)
                        .or(mark);
                    self.list(
                        child.entity,
                        Some((row, child)),
                        Written { value, mark },
                        path.key(child.entity.name),
                        checker,
                    );
                }
            }
        }
    }
}

/// A value as it stands in its document.
#[derive(Debug, Clone, Copy)]
struct Written<'a> {
    value: &'a Value,
    mark: Option<&'a Mark>,
}

fn check_version(version: &str, span: Span, checker: &mut Checker<'_>) {
    if version == FORMAT_VERSION {
        return;
    }
    let hint = if ["1.1", "2.1"].contains(&version) {
        format!("write \"{FORMAT_VERSION}\", and put '~' before those paths that are regular expressions")
    } else {
        format!("write \"{FORMAT_VERSION}\"")
    };
    checker.error(
        Some(span),
        "_format_version",
        format!("expected one of: {FORMAT_VERSION}"),
        Some(hint),
    );
}

fn unknown_key_hint(key: &str) -> String {
    let known: Vec<&str> = (ENTITIES.iter().map(|entity| entity.name))
        .chain(
            TOP_LEVEL
                .iter()
                .map(|field| field.name)
                .filter(|name| !name.starts_with('_')),
        )
        .collect();
    let all = known.join(", ");
    if KONG_ONLY.contains(&key) {
        return format!("'{key}' are Kong's, but Serin does not have them yet; it has {all}");
    }
    match nearest(
        key,
        known.into_iter().chain(TOP_LEVEL.iter().map(|field| field.name)),
    ) {
        Some(candidate) => format!("did you mean '{candidate}'?"),
        None => format!("known fields: {all}"),
    }
}
