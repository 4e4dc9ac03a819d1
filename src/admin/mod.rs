//! What operators and their tools talk to.

mod status;
mod upstreams;

pub use status::StatusService;
