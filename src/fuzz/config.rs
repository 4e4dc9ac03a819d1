//! A configuration file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::export::export;
use crate::config::{Loaded, Overrides, Position, Problem, Report, load_text};
use crate::entity::{Entity, State};

const NAME: &str = "fuzz.yaml";

/// A file that is refused has an error, every problem has a place in it and prints as plain text; what an accepted
/// one says is said by its export too, which is its own export.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A setting may name a file, and reading some ends when somebody types.
    if ["/dev", "/proc", "/sys"].iter().any(|place| text.contains(place)) {
        return;
    }
    let loaded = match load(text) {
        Ok(loaded) => loaded,
        Err(report) => {
            assert!(report.error_count() > 0, "refused for nothing: {text:?}");
            check_problems(&report.problems, text);
            return;
        }
    };
    assert!(
        loaded.warnings.iter().all(|warning| !warning.is_error()),
        "{text:?}"
    );
    check_problems(&loaded.warnings, text);
    let exported = export(&State::of(loaded.entities.iter().cloned()));
    let again = match load(&exported) {
        Ok(again) => again,
        Err(report) => panic!("{text:?} is exported as\n{exported}which is refused:\n{report}"),
    };
    assert_eq!(
        said(&loaded.entities),
        said(&again.entities),
        "{text:?} is exported as\n{exported}"
    );
    let twice = export(&State::of(again.entities));
    assert_eq!(twice, exported, "{text:?}");
}

fn load(text: &str) -> Result<Loaded, Report> {
    load_text(NAME, text, &Overrides::default())
}

fn check_problems(problems: &[Problem], text: &str) {
    // A line of YAML may end in CR alone.
    // What is left out at the end, such as the key of `?`, stands on the line behind it.
    let lines = text.split(['\n', '\r']).count() + 1;
    for problem in problems {
        let shown = problem.to_string();
        assert_eq!(problem.place.file, NAME, "{text:?}: {shown}");
        match problem.place.position {
            Some(Position { line, column }) => {
                assert!((1..=lines).contains(&line) && column > 0, "{text:?}: {shown}");
            }
            // About the file as a whole.
            None => assert!(problem.path.is_empty(), "{text:?}: {shown}"),
        }
        assert!(!problem.message.is_empty(), "{text:?}: {shown}");
        let is_plain = shown.chars().all(|char| char == '\n' || !char.is_control());
        assert!(is_plain, "{text:?}: {shown:?}");
    }
}

/// What entities say, whatever their order.
fn said(entities: &[Arc<Entity>]) -> BTreeMap<(&'static str, Uuid), Arc<Map<String, Value>>> {
    let said = |entity: &Arc<Entity>| ((entity.kind.name(), entity.id), entity.values.clone());
    entities.iter().map(said).collect()
}
