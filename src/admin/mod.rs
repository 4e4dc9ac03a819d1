//! What operators and their tools talk to.

mod status;
mod upstreams;
pub(crate) mod wire;

pub use status::StatusService;
