//! The positions of a YAML text, built from saphyr's events.
//!
//! Nodes live in one list and refer to each other by index, so an alias is the index of what it
//! repeats and costs nothing until it is expanded; how large the expansion will be is counted here,
//! before anything is expanded. No recursion: nesting is refused before it can exhaust a stack.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::super::mark::{Span, narrow};
use super::super::problem::{MAX_PROBLEMS, Problem};
use super::super::source::Source;
use super::syntax;
use crate::priority::patiently;

/// Deepest nesting; a complete configuration has about ten levels.
pub(super) const MAX_DEPTH: usize = 64;
/// Values that aliases may add to a document. Larger than any use of anchors for shared settings, and
/// small enough that a document made of nothing else is still checked at once.
const MAX_ALIASED: u64 = 100_000;
/// Text of this length counts as one value more, so that few aliases of a long text are bounded too.
const BYTES_OF_A_VALUE: usize = 32;

/// The nodes of one document.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
    /// What is wrong although the text could be parsed.
    pub(super) problems: Vec<Problem>,
    /// Whether something is given a name (`&name`), by which it may be repeated elsewhere.
    pub(super) has_anchors: bool,
}

/// One value or key.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
    /// Values in it, itself and all aliases included; 0 while it is still open.
    size: u64,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar {
        text: String,
        is_plain: bool,
    },
    /// `<<`, written plain.
    MergeKey,
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
}

/// A list or mapping that is not closed yet.
struct Open {
    node: usize,
    children: Vec<usize>,
    /// Keys seen and the node of each; empty for a list.
    keys: Option<HashMap<String, usize>>,
}

/// Builds the tree.
///
/// # Errors
/// The one problem that keeps the text from being parsed.
pub(super) fn build(source: &Source, index: usize) -> Result<Tree, Box<Problem>> {
    let mut builder = Builder {
        source,
        index,
        tree: Tree {
            nodes: Vec::new(),
            root: 0,
            problems: Vec::new(),
            has_anchors: false,
        },
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        has_root: false,
    };
    let mut documents = 0;
    for event in patiently(Parser::new_from_str(&source.text)) {
        let (event, span) = event.map_err(|error| Box::new(syntax::from_scanner(source, &error)))?;
        match event {
            Event::DocumentStart(_) if documents > 0 => {
                return Err(Box::new(
                    source
                        .problem(builder.span(span).position(), 3, "a second document starts here")
                        .with_hint("a file holds one document; a directory of files is merged"),
                ));
            }
            Event::DocumentStart(_) => documents += 1,
            event => builder.event(event, builder.span(span))?,
        }
    }
    let is_null = |node: &Node| matches!(&node.kind, Kind::Scalar { text, is_plain: true } if text.is_empty() || text == "~" || text == "null");
    if !builder.has_root || builder.tree.nodes.get(builder.tree.root).is_some_and(is_null) {
        return Err(Box::new(
            Problem::about(&source.name, "file is empty")
                .with_hint("the shortest configuration is: _format_version: \"3.0\""),
        ));
    }
    builder.tree.has_anchors = !builder.anchors.is_empty();
    Ok(builder.tree)
}

struct Builder<'a> {
    source: &'a Source,
    index: usize,
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
    /// Values that aliases have added so far.
    aliased: u64,
    has_root: bool,
}

impl Builder<'_> {
    /// Takes saphyr's span; one that runs over lines is cut at the end of its first.
    fn span(&self, span: saphyr_parser::Span) -> Span {
        let column = span.start.col();
        // The length of a line is only asked for where a value goes on behind it: once for each line.
        let end = if span.end.line() == span.start.line() {
            span.end.col()
        } else {
            self.source.line(span.start.line()).chars().count()
        };
        Span {
            source: narrow(self.index),
            line: narrow(span.start.line().max(1)),
            column: narrow(column + 1),
            width: narrow(end.saturating_sub(column).max(1)),
        }
    }

    fn report(&mut self, problem: Problem) {
        if self.tree.problems.len() < MAX_PROBLEMS {
            self.tree.problems.push(problem);
        }
    }

    fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        self.source.problem(span.position(), span.width as usize, message)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Problem>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let length = text.len();
                let is_plain = style == ScalarStyle::Plain;
                let kind = match &*text {
                    "<<" if is_plain && self.expects_key() => Kind::MergeKey,
                    _ => Kind::Scalar {
                        text: text.into_owned(),
                        is_plain,
                    },
                };
                let size = 1 + (length / BYTES_OF_A_VALUE) as u64;
                let node = self.add(span, kind, size, anchor);
                self.attach(node, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.open(span, Kind::List(Vec::new()), anchor)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.open(span, Kind::Map(Vec::new()), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span)?,
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&saphyr_parser::Tag>, span: Span) {
        if let Some(tag) = tag {
            let shown = if tag.is_yaml_core_schema() {
                format!("!!{}", tag.suffix)
            } else {
                tag.to_string()
            };
            let problem = self
                .problem(span, format!("tags such as '{shown}' are not supported"))
                .with_hint("a value's type follows from how it is written: 80 is a number, \"80\" is text");
            self.report(problem);
        }
    }

    fn expects_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.keys.is_some() && open.children.len().is_multiple_of(2))
    }

    fn add(&mut self, span: Span, kind: Kind, size: u64, anchor: usize) -> usize {
        let node = self.tree.nodes.len();
        self.tree.nodes.push(Node { span, kind, size });
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        node
    }

    fn open(&mut self, span: Span, kind: Kind, anchor: usize) -> Result<(), Box<Problem>> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Box::new(
                self.problem(span, format!("nested deeper than {MAX_DEPTH} levels")),
            ));
        }
        let keys = matches!(kind, Kind::Map(_)).then(HashMap::new);
        // A block mapping or list begins where its first key or item does, which is not known yet.
        let node = self.add(span, kind, 0, anchor);
        self.open.push(Open {
            node,
            children: Vec::new(),
            keys,
        });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { node, children, keys }) = self.open.pop() else {
            return;
        };
        let size = children.iter().fold(1_u64, |sum, child| {
            sum.saturating_add(self.tree.nodes[*child].size)
        });
        let first = children.first().map(|child| self.tree.nodes[*child].span);
        let is_map = keys.is_some();
        let closed = &mut self.tree.nodes[node];
        closed.size = size;
        closed.kind = if is_map {
            Kind::Map(children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
        } else {
            Kind::List(children)
        };
        if let Some(first) = first.filter(|_| is_map) {
            closed.span = first;
        }
        let span = closed.span;
        self.attach(node, span);
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Box<Problem>> {
        let Some(&node) = self.anchors.get(&anchor) else {
            return Err(Box::new(
                self.problem(span, "this alias repeats nothing: no such anchor before it"),
            ));
        };
        let size = self.tree.nodes[node].size;
        if size == 0 {
            return Err(Box::new(
                self.problem(span, "an alias stands inside what it repeats")
                    .with_hint("write the value out instead"),
            ));
        }
        self.aliased = self.aliased.saturating_add(size);
        if self.aliased > MAX_ALIASED {
            return Err(Box::new(
                self.problem(span, format!("aliases expand to more than {MAX_ALIASED} values"))
                    .with_hint("an alias (*name) repeats all that its anchor (&name) holds; do not alias lists of aliases"),
            ));
        }
        self.attach(node, span);
        Ok(())
    }

    /// Puts a finished node into the innermost open list or mapping.
    fn attach(&mut self, node: usize, span: Span) {
        let is_key = self.expects_key();
        let Some(open) = self.open.last_mut() else {
            self.tree.root = node;
            self.has_root = true;
            return;
        };
        open.children.push(node);
        if !is_key {
            return;
        }
        let text = match &self.tree.nodes[node].kind {
            Kind::Scalar { text, .. } => text.clone(),
            Kind::MergeKey => "<<".to_owned(),
            _ => {
                let problem = self.problem(span, "keys must be plain text");
                self.report(problem);
                return;
            }
        };
        let previous = open
            .keys
            .as_mut()
            .and_then(|keys| keys.insert(text.clone(), node));
        if let Some(first) = previous {
            let place = self.source.place(self.tree.nodes[first].span.position());
            let problem = self
                .problem(span, format!("duplicate key '{text}'"))
                .with_hint(format!("first given at {place}"));
            self.report(problem);
        }
    }
}
