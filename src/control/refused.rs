//! Why a change was not put in force.

use crate::config::secret::SecretError;
use crate::config::{Report, build::Finding};
use crate::entity::Kind;
use crate::store::{CommitError, StoreError};
use uuid::Uuid;

/// A change could not be put in force; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// The files have problems; prints as `serin check` does.
    #[error("{0}")]
    Problems(Report),
    /// What is kept cannot be built.
    #[error("{}", .0)]
    Entity(Unbuildable),
    /// A secret is needed and there is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] crate::access_log::OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not take it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The process is about to end.
    #[error("the proxy is shutting down")]
    ShuttingDown,
}

/// An entity that only trying shows to be wrong, such as a regular expression that is too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbuildable {
    /// What it is.
    pub kind: Kind,
    /// Identity.
    pub id: Uuid,
    /// The path within it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// A way out.
    pub hint: Option<String>,
}

impl std::fmt::Display for Unbuildable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}: {}: {}",
            self.kind.name(),
            self.id,
            self.path,
            self.message
        )?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl From<&Finding> for RefusedError {
    fn from(finding: &Finding) -> Self {
        Self::Entity(Unbuildable {
            kind: finding.kind,
            id: finding.id,
            path: finding.path.clone(),
            message: finding.message.clone(),
            hint: finding.hint.clone(),
        })
    }
}
