//! What files say, as far as it can be told without rules over several entities: rows that have been checked
//! each by itself, and which of them is which.

use serde_json::{Map, Value};

use super::block::Block;
use super::check::{Checker, Found};
use super::identity::{self, Identities};
use super::mark::{Inside, Mark, Sources, Span};
use super::overrides::Overrides;
use super::problem::Problem;
use super::rows::{self, Row};
use super::source::Source;
use super::yaml;

/// What was read. It serves the next load too, which takes over what did not change (`edit`).
#[derive(Debug)]
pub(super) struct Reading {
    /// The files, then what settings came from.
    pub(super) sources: Sources,
    /// How many of them are files.
    pub(super) files: usize,
    /// The `server` key with settings laid over it, as written.
    pub(super) given: (Value, Mark),
    pub(super) rows: Vec<Row>,
    pub(super) blocks: Vec<Block>,
    pub(super) identities: Identities,
    /// What is wrong, or not of use, so far.
    pub(super) found: Found,
}

impl Reading {
    /// Reads files, and adds to the problems that are known of them.
    pub(super) fn new(files: Vec<Source>, overrides: &Overrides, mut problems: Vec<Problem>) -> Self {
        let mut documents = Vec::with_capacity(files.len());
        for (index, source) in files.iter().enumerate() {
            documents.extend(yaml::parse(source, index, &overrides.environment, &mut problems));
        }
        // A file that could not be read is no reason to call its entities missing.
        let is_complete = problems.iter().all(|problem| !problem.is_error());
        let mut given = (
            Value::Object(Map::new()),
            Mark {
                inside: Inside::Map(Vec::new()),
                ..Mark::at(Span::start_of(0))
            },
        );
        if let Some((value, mark)) = rows::server_of(&documents) {
            given = (value.clone(), mark.clone());
        }
        let count = files.len();
        let mut sources = Sources(files);
        overrides.apply(&mut given.0, &mut given.1, &mut sources, &mut problems);

        let mut checker = Checker::new(&sources, problems);
        let rows::Rows { rows, blocks, .. } = rows::collect(documents, &mut checker);
        let identities = identity::resolve(&rows, is_complete, &mut checker);
        let found = checker.into_found();
        Self {
            sources,
            files: count,
            given,
            rows,
            blocks,
            identities,
            found,
        }
    }
}
