//! Top-level lists whose items can be told apart by their lines.
//!
//! In `services:` and lines that begin with `- `, an item is the lines from its dash to the next one. Lists in
//! brackets, and items that begin behind their dash's line, are none of these.

use std::collections::HashMap;
use std::ops::Range;

use super::mark::{Inside, Mark, Shift, Sources, Span, narrow};
use super::rows::Row;
use super::schema::Entity;
use super::source::Source;

/// Such a list.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) entity: &'static Entity,
    lines: Lines,
    /// The first row of each item, and the end of the rows of the last.
    rows: Vec<usize>,
}

/// The lines of such a list.
#[derive(Debug)]
pub(crate) struct Lines {
    source: u32,
    /// Where the dashes stand, in bytes from the start of the line.
    indent: usize,
    /// Of the dash of each item, and the line behind the last item.
    starts: Vec<u32>,
}

/// One item of a block.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) index: usize,
    pub(crate) lines: Range<u32>,
    pub(crate) rows: Range<usize>,
}

/// Finds the blocks of a document, by the line of their key.
pub(crate) fn find(document: &Mark, sources: &Sources) -> HashMap<u32, Lines> {
    let source = sources.0.get(document.span.source as usize);
    let Some(source) = source.filter(|source| !source.has_lone_returns()) else {
        return HashMap::new();
    };
    let Inside::Map(entries) = &document.inside else {
        return HashMap::new();
    };
    let mut keys: Vec<u32> = entries.iter().map(|(key, _)| key.line).collect();
    keys.push(narrow(source.line_count() + 1));
    keys.sort_unstable();
    let end_of = |key: &Span| keys.iter().copied().find(|line| *line > key.line);
    entries
        .iter()
        .filter_map(|(key, list)| Some((key.line, Lines::of(list, end_of(key)?, source)?)))
        .collect()
}

impl Lines {
    /// Returns the lines of a list that ends before a line.
    pub(crate) fn of(list: &Mark, end: u32, source: &Source) -> Option<Self> {
        let Inside::List(items) = &list.inside else {
            return None;
        };
        let indent = indent_of(items.first()?.span, source)?;
        let mut starts: Vec<u32> = items.iter().map(|item| item.span.line).collect();
        starts.push(end);
        let is_block = items
            .iter()
            .all(|item| indent_of(item.span, source) == Some(indent));
        let lines = Self {
            source: list.span.source,
            indent,
            starts,
        };
        (is_block && lines.starts.is_sorted_by(|one, next| one < next)).then_some(lines)
    }

    /// Says whether these are the lines of one item, from the second line on, whose dash stands where those of
    /// `block` do.
    pub(crate) fn are_one_item_of(&self, block: &Block) -> bool {
        self.indent == block.lines.indent && self.starts.len() == 2 && self.starts[0] == 2
    }
}

/// Returns what stands before the dash of an item that begins on its dash's line.
fn indent_of(item: Span, source: &Source) -> Option<usize> {
    let before = source.line(item.line as usize).get(..item.column as usize - 1)?;
    let dash = before.find('-')?;
    let (indent, behind) = (&before[..dash], &before[dash + 1..]);
    let behind = behind.trim_end_matches(' ');
    let behind = behind.strip_suffix('{').unwrap_or(behind);
    let is_blank = |text: &str| text.bytes().all(|byte| byte == b' ');
    (is_blank(indent) && is_blank(behind)).then_some(dash)
}

impl Block {
    /// Puts a list together with the rows that were made of it, which begin at `first`; `None` if there is an item
    /// of which none was made.
    pub(crate) fn new(entity: &'static Entity, lines: Lines, first: usize, rows: &[Row]) -> Option<Self> {
        let heads = rows.iter().enumerate().filter(|(_, row)| row.parent.is_none());
        let mut starts: Vec<usize> = heads.map(|(index, _)| first + index).collect();
        starts.push(first + rows.len());
        (starts.len() == lines.starts.len()).then_some(Self {
            entity,
            lines,
            rows: starts,
        })
    }

    /// Returns the item to which a line of a source belongs.
    pub(crate) fn item_at(&self, source: u32, line: u32) -> Option<Item> {
        let starts = &self.lines.starts;
        let behind = starts.partition_point(|start| *start <= line);
        let index = behind.checked_sub(1)?;
        let is_here = self.lines.source == source && behind < starts.len();
        is_here.then(|| Item {
            index,
            lines: starts[index]..starts[behind],
            rows: self.rows[index]..self.rows[behind],
        })
    }

    /// Moves what stands in `source` at `line` or behind it.
    pub(crate) fn shift(&mut self, source: u32, line: u32, shift: Shift) {
        if self.lines.source == source {
            let starts = self.lines.starts.iter_mut();
            starts
                .filter(|start| **start >= line)
                .for_each(|start| *start = shift.of(*start));
        }
    }
}
