//! What operators and their tools talk to.

mod status;

pub use status::StatusService;
