//! Which Targets may be chosen; outlives snapshots.

mod dns;

pub use dns::{Names, system_resolver};
