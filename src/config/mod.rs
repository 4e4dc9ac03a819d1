//! How a change comes in: files to a checked configuration, all problems at once.
//!
//! The pipeline is [`load`]: `source` reads files, `yaml` makes documents with positions, `rows` flattens
//! them while `check` judges every value by the one table in `schema`, `identity` finds out which row is
//! which, `build` makes the model. No step stops the others: whatever is wrong anywhere is in one
//! [`Report`], and a configuration comes out only if nothing is.
//!
//! Left to others: what the configuration means for requests (`snapshot`), and when to load again
//! (`reload`).

mod build;
pub(crate) mod check;
mod document;
mod environment;
mod identity;
mod mark;
mod overrides;
mod problem;
pub mod reload;
mod rows;
pub(crate) mod schema;
pub mod secret;
mod source;
mod suggest;
mod yaml;

use std::path::PathBuf;

use serde_json::{Map, Value};

pub use self::overrides::Overrides;
pub(crate) use self::problem::count;
pub use self::problem::{
    Excerpt, Place, Position, Problem, Report, Severity, count_problems, problems_to_json,
};
pub use self::schema::json::json_schema;

use self::check::{At, Checker, Path as DocumentPath};
use self::identity::Identities;
use self::mark::{Inside, Mark, Sources, Span};
use self::rows::{Row, Rows};
use self::source::{Files, Source};
use crate::model::Configuration;

/// A configuration that may be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub configuration: Configuration,
    /// What its author should know.
    pub warnings: Vec<Problem>,
    /// Hash of the names and bytes of all files.
    pub hash: u64,
    /// The files, in the order they were read.
    pub files: Vec<PathBuf>,
}

/// Loads files and directories of files, with settings from flags and the environment laid over them.
///
/// # Errors
/// All problems of all files, when at least one of them is an error.
pub fn load(paths: &[PathBuf], overrides: &Overrides) -> Result<Loaded, Report> {
    let mut problems = Vec::new();
    let files = source::read(paths, &mut problems);
    check_and_build(files, overrides, problems)
}

/// Loads one text as [`load`] does a file; `name` is what problems call it.
///
/// # Errors
/// All problems, when at least one of them is an error.
pub fn load_text(name: &str, text: &str, overrides: &Overrides) -> Result<Loaded, Report> {
    let files = Files {
        sources: vec![Source::file(name, text)],
        paths: vec![PathBuf::from(name)],
        hash: 0,
    };
    check_and_build(files, overrides, Vec::new())
}

/// Returns the hash that [`load`] would give, without looking into the files.
pub fn content_hash(paths: &[PathBuf]) -> u64 {
    source::read(paths, &mut Vec::new()).hash
}

fn check_and_build(
    files: Files,
    overrides: &Overrides,
    mut problems: Vec<Problem>,
) -> Result<Loaded, Report> {
    let Files { sources, paths, hash } = files;
    let mut documents = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        documents.extend(yaml::parse(source, index, &overrides.environment, &mut problems));
    }
    // A file that could not be read is no reason to call its entities missing.
    let is_complete = problems.iter().all(|problem| !problem.is_error());
    let mut sources = Sources(sources);
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
    overrides.apply(&mut given.0, &mut given.1, &mut sources, &mut problems);

    let mut checker = Checker::new(&sources, problems);
    let rows = rows::collect(&documents, &mut checker);
    let server = check_server(&given.0, &given.1, &mut checker);
    let identities = identity::resolve(&rows.rows, is_complete, &mut checker);
    warn(&rows, &identities, &mut checker);
    let mut configuration = None;
    if !checker.has_errors()
        && let Some(server) = server
    {
        configuration = Some(build::build(&rows.rows, &identities, server, &mut checker));
    }
    let mut problems = checker.finish();
    sort(&mut problems, &sources);
    match configuration {
        Some(configuration) if problems.iter().all(|problem| !problem.is_error()) => Ok(Loaded {
            configuration,
            warnings: problems,
            hash,
            files: paths,
        }),
        _ => Err(Report { problems }),
    }
}

fn check_server(value: &Value, mark: &Mark, checker: &mut Checker<'_>) -> Option<Map<String, Value>> {
    let empty = Value::Object(Map::new());
    let value = if value.is_null() { &empty } else { value };
    let at = At {
        value,
        mark: Some(mark),
        path: DocumentPath::ROOT.key("server"),
    };
    checker
        .record(&schema::server::SERVER, at)
        .map(|checked| checked.values)
}

/// Warns of what is allowed and hardly meant.
fn warn(rows: &Rows<'_>, identities: &Identities, checker: &mut Checker<'_>) {
    let mut weights: Vec<Vec<u64>> = vec![Vec::new(); rows.rows.len()];
    for (row, reference) in rows.rows.iter().zip(&identities.references) {
        if let (Some(upstream), "targets") = (reference, row.entity.name) {
            // A weight that is wrong has its own message, and counts as one.
            weights[*upstream].push(row.values.get("weight").and_then(Value::as_u64).unwrap_or(1));
        }
    }
    for (row, weights) in rows.rows.iter().zip(weights) {
        match row.entity.name {
            "upstreams" if weights.is_empty() => warn_at(
                row,
                "name",
                "has no targets: requests to it are answered 503",
                checker,
            ),
            "upstreams" if weights.iter().all(|weight| *weight == 0) => {
                warn_at(
                    row,
                    "name",
                    "all targets have weight 0: requests to it are answered 503",
                    checker,
                );
            }
            "routes" if row.parent.is_none() && row.written.get("service").is_none_or(Value::is_null) => {
                warn_at(
                    row,
                    "name",
                    "has no service: requests that match it are answered 503",
                    checker,
                );
            }
            _ => {}
        }
    }
}

fn warn_at(row: &Row<'_>, field: &str, message: &str, checker: &mut Checker<'_>) {
    checker.warn(row.span_of(field), &row.path, message, None);
}

/// Puts problems in the order in which one reads the files.
fn sort(problems: &mut [Problem], sources: &Sources) {
    let order: std::collections::HashMap<&str, usize> = sources
        .0
        .iter()
        .enumerate()
        .map(|(index, source)| (source.name.as_str(), index))
        .collect();
    problems.sort_by_key(|problem| {
        let file = order.get(problem.place.file.as_str()).copied();
        (file.is_none(), file, problem.place.position)
    });
}
