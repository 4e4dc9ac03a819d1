//! Documents to rows: every entity of every file in one flat list, with its parent.
//!
//! Nesting (`services[].routes[]`) and top-level lists say the same thing; after this step there is no
//! difference left. Each row has been checked by itself. Names, ids and references, which concern several
//! rows and perhaps several files, are for `identity`.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::at::{At, Path, entry};
use super::block::{self, Block};
use super::check::Checker;
use super::mark::{Inside, Mark, Span};
use super::schema::{Child, ENTITIES, Entity, KONG_ONLY, TOP_LEVEL};
use super::suggest::nearest;
use super::yaml::Document;
use crate::entity;
use crate::priority::patiently;

/// The version of Kong's format that Serin reads.
const FORMAT_VERSION: &str = "3.0";

/// One entity of one file.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) entity: &'static Entity,
    /// As written, without the rows nested in it.
    pub(crate) written: Value,
    pub(crate) mark: Mark,
    /// Where it is in its document.
    pub(crate) path: String,
    /// What is right in it, with defaults.
    pub(crate) values: Arc<Map<String, Value>>,
    /// The row it is nested in.
    pub(crate) parent: Option<usize>,
    /// Its document's `_transform`: passwords in it are not hashed yet.
    pub(crate) is_transformed: bool,
    /// The entities that were made of it; none before that.
    pub(crate) made: Vec<Arc<entity::Entity>>,
}

impl Row {
    /// Returns the text of a field as written, even where it is wrong, so that one mistake in a name is
    /// not also reported as a missing entity wherever it is referred to.
    pub(crate) fn written_text(&self, name: &str) -> Option<&str> {
        self.written.get(name).and_then(Value::as_str)
    }

    /// Returns the place of an item of a field's list, or that of the row.
    pub(crate) fn item_span(&self, name: &str, index: usize) -> Option<Span> {
        let list = self.entry(name).map(|(_, mark)| mark);
        list.map(|list| list.item(index).unwrap_or(list).span)
            .or(self.span_of(name))
    }

    /// Returns the place of a field of a record that is a field's value, or the nearest there is.
    pub(crate) fn inner_span(&self, name: &str, inner: &str) -> Option<Span> {
        let record = self.entry(name).map(|(_, mark)| mark);
        let found = self
            .written
            .get(name)
            .and_then(|value| entry(value, record, inner));
        found.map(|(_, mark)| mark.span).or(self.span_of(name))
    }

    /// Returns the place of a field's value, or that of the row.
    pub(crate) fn span_of(&self, name: &str) -> Option<Span> {
        let value = self.entry(name).map(|(_, mark)| mark);
        Some(value.unwrap_or(&self.mark).span)
    }

    fn entry(&self, name: &str) -> Option<(Span, &Mark)> {
        entry(&self.written, Some(&self.mark), name)
    }
}

/// All that the documents hold.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// The top-level lists whose items can be told apart by their lines.
    pub(crate) blocks: Vec<Block>,
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
pub(crate) fn collect(documents: Vec<Document>, checker: &mut Checker<'_>) -> Rows {
    let mut rows = Rows::default();
    let mut has_version = false;
    let first = documents.first().map(|document| document.mark.span);
    for document in documents {
        has_version |= rows.document(document, checker);
    }
    if let (Some(first), false) = (first, has_version) {
        let hint = format!("add the line: _format_version: \"{FORMAT_VERSION}\"");
        checker.error(
            Some(first),
            "_format_version",
            "required field missing",
            Some(hint),
        );
    }
    rows
}

impl Rows {
    /// Takes one document; says whether it has a version or is past asking for one.
    fn document(&mut self, document: Document, checker: &mut Checker<'_>) -> bool {
        let Document {
            value,
            mark,
            has_anchors,
        } = document;
        let Value::Object(map) = value else {
            let hint = format!("a mapping, such as: _format_version: \"{FORMAT_VERSION}\"");
            checker.error(Some(mark.span), "", "expected an object", Some(hint));
            return true;
        };
        self.is_transformed = map.get("_transform") != Some(&Value::Bool(false));
        let mut has_version = false;
        let mut blocks = match has_anchors {
            true => HashMap::new(),
            false => block::find(&mark, checker.sources),
        };
        for ((key, value), (key_span, mark)) in map.into_iter().zip(mark.into_entries()) {
            let path = Path::ROOT.key(&key);
            if let Some(entity) = ENTITIES.into_iter().find(|entity| entity.name == key) {
                let first = self.rows.len();
                self.list(entity, None, Written { value, mark }, path, checker);
                if let Some(lines) = blocks.remove(&key_span.line) {
                    let rows = &self.rows[first..];
                    self.blocks.extend(Block::new(entity, lines, first, rows));
                }
            } else if key == "server" {
                self.server(key_span, checker);
            } else if let Some(field) = TOP_LEVEL.iter().find(|field| field.name == key) {
                has_version |= key == "_format_version";
                let at = At {
                    value: &value,
                    mark: Some(&mark),
                    path,
                };
                let checked = if value.is_null() && !field.is_required {
                    None
                } else {
                    checker.field(field, at)
                };
                if let (Some(Value::String(version)), "_format_version") = (checked, field.name) {
                    check_version(&version, mark.span, checker);
                }
            } else {
                let hint = unknown_key_hint(&key);
                checker.error(Some(key_span), key, "unknown field", Some(hint));
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
        list: Written,
        path: Path<'_>,
        checker: &mut Checker<'_>,
    ) {
        let span = list.mark.span;
        let items = match list.value {
            Value::Array(items) => items,
            // A list whose items are all commented out.
            Value::Null => return,
            _ => {
                if entity.fields.iter().any(|field| field.is_secret) {
                    checker.hide(Some(span));
                }
                let hint = format!("a list: each of the {} starts with '- '", entity.name);
                checker.error(Some(span), path, "expected an array", Some(hint));
                return;
            }
        };
        let items = items.into_iter().zip(list.mark.into_items());
        for (index, (value, mark)) in patiently(items).enumerate() {
            self.item(
                entity,
                parent,
                Written { value, mark },
                path.index(index),
                checker,
            );
        }
    }

    fn item(
        &mut self,
        entity: &'static Entity,
        parent: Option<(usize, &'static Child)>,
        item: Written,
        path: Path<'_>,
        checker: &mut Checker<'_>,
    ) {
        let Written {
            value: mut written,
            mut mark,
        } = item;
        let at = At {
            value: &written,
            mark: Some(&mark),
            path,
        };
        let Some(checked) = checker.entity(entity, parent.map(|(_, child)| child), at) else {
            return;
        };
        let nested: Vec<_> = (entity.children.iter())
            .filter_map(|child| Some((child, take(&mut written, &mut mark, child.entity.name)?)))
            .collect();
        let row = self.rows.len();
        self.rows.push(Row {
            entity,
            written,
            mark,
            path: path.to_string(),
            values: Arc::new(checked.values),
            parent: parent.map(|(row, _)| row),
            is_transformed: self.is_transformed,
            made: Vec::new(),
        });
        for (child, list) in nested {
            let path = path.key(child.entity.name);
            self.list(child.entity, Some((row, child)), list, path, checker);
        }
    }
}

/// Looks at one item of a top-level list, the `index`th, by itself.
pub(crate) fn collect_item(
    entity: &'static Entity,
    index: usize,
    item: Written,
    is_transformed: bool,
    checker: &mut Checker<'_>,
) -> Vec<Row> {
    let mut rows = Rows {
        is_transformed,
        ..Rows::default()
    };
    let list = Path::ROOT.key(entity.name);
    rows.item(entity, None, item, list.index(index), checker);
    rows.rows
}

/// A value as it stands in its document.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

/// Takes an entry's value out of a mapping.
fn take(written: &mut Value, mark: &mut Mark, name: &str) -> Option<Written> {
    let map = written.as_object_mut()?;
    let index = map.keys().position(|key| key == name)?;
    let value = map.get_mut(name)?.take();
    let mark = match &mut mark.inside {
        Inside::Map(entries) => entries.get_mut(index).map(|(_, mark)| mark.take()),
        Inside::Nothing | Inside::List(_) => None,
    }
    .unwrap_or_else(|| Mark::at(mark.span));
    Some(Written { value, mark })
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
