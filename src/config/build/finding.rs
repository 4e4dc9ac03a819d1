//! What building finds out.

use uuid::Uuid;

use crate::config::problem::Severity;
use crate::entity::{Entity, Kind};

/// Something about one entity.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    pub(crate) severity: Severity,
    /// The field that is shown, and the item of its list.
    pub(crate) field: (&'static str, Option<usize>),
    /// Path within the entity.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// Returns the first reason why the model is not to be used.
    pub(crate) fn first_error(&self) -> Option<&Finding> {
        self.0.iter().find(|finding| finding.severity == Severity::Error)
    }

    pub(in crate::config) fn error(
        &mut self,
        entity: &Entity,
        field: (&'static str, Option<usize>),
        path: String,
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        self.add(Severity::Error, entity, field, path, message.into(), hint);
    }

    pub(in crate::config) fn warn(
        &mut self,
        entity: &Entity,
        field: &'static str,
        path: String,
        message: &str,
        hint: &str,
    ) {
        self.add(
            Severity::Warning,
            entity,
            (field, None),
            path,
            message.to_owned(),
            Some(hint),
        );
    }

    fn add(
        &mut self,
        severity: Severity,
        entity: &Entity,
        field: (&'static str, Option<usize>),
        path: String,
        message: String,
        hint: Option<&str>,
    ) {
        self.0.push(Finding {
            kind: entity.kind,
            id: entity.id,
            severity,
            field,
            path,
            message,
            hint: hint.map(str::to_owned),
        });
    }
}
