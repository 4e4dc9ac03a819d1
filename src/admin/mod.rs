//! What operators and their tools talk to.
//!
//! A request of the Admin API goes `guard → endpoint → (entities, …) → door`: who may come in, what the path
//! means, what is to be changed; the change itself goes through [`crate::control`], as those of files do. How
//! bodies, answers and errors look is in `wire`. The status address is apart: it only reads, and everybody
//! who reaches it may.

mod address;
mod api;
mod audit;
mod configuration;
mod endpoint;
mod entities;
mod explain;
mod forward;
mod gate;
mod groups;
mod guard;
mod information;
mod intake;
mod listing;
mod names;
mod status;
mod upstreams;
pub(crate) mod wire;
mod write;

pub use api::{AdminService, TokenError};
pub use forward::{Forward, forward_pair};
pub use gate::{Gate, Hold};
pub use status::StatusService;
