//! What comes out of a merge has to fit together.

use std::collections::HashSet;

use super::merge::Merged;
use super::refused::RefusedError;
use crate::config::check::check_entity;
use crate::config::{Place, Problem, Report};
use crate::entity::{Change, Kind, State};

/// Insists that what comes out of a merge, the draft, still is what the table allows, and that no two are the same.
pub(super) fn check(merged: &Merged, live: &State, draft: &State, file: &State) -> Result<(), RefusedError> {
    let mut problems = Vec::new();
    for entity in &merged.mixed {
        if let Err(found) = check_entity(entity.kind, &entity.fields()) {
            let about = format!("{} {}", entity.kind.name(), entity.label());
            problems.extend(found.into_iter().filter(Problem::is_error).map(|problem| Problem {
                place: Place { file: about.clone(), position: None },
                ..problem.with_hint("the file and the Admin API have both changed it, and both changes do not go together: change the file, or this entity through the Admin API")
            }));
        }
    }
    // What holds nothing new cannot be the same as another.
    let claims = |change: &&Change| matches!(change, Change::Put(entity) if live.is_claim(entity));
    let changed: HashSet<_> = merged
        .changes
        .iter()
        .filter(claims)
        .map(Change::subject)
        .collect();
    for kind in Kind::all().filter(|kind| changed.iter().any(|(changed, _)| changed == kind)) {
        for entity in draft.entities(kind) {
            let Some((unique, other)) = draft.duplicate_of(entity) else {
                continue;
            };
            // Of the two it is the one that the file has just changed whose author reads this.
            let (about, other) = match draft.get(kind, other) {
                Some(holder) if changed.contains(&(kind, other)) => (holder, entity.id),
                _ => (entity, other),
            };
            let fields = unique.fields.join(", ");
            let message = format!("through the Admin API, the entity {other} was given the same {fields}");
            let hint = match file.get(kind, other) {
                Some(_) => {
                    "change one of them: this one in the file, or that one through the Admin API".to_owned()
                }
                None => format!(
                    "give this one that id in the file ('id: {other}'), or change or delete that one through the Admin API"
                ),
            };
            let about = format!("{} {}", kind.name(), about.label());
            problems.push(Problem::about(about, message).with_hint(hint));
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(RefusedError::Problems(Report { problems })),
    }
}
