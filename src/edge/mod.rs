//! What stands before a request: sockets and connections.

mod admission;
mod app;
mod listeners;
mod worker;

pub use admission::Admission;
pub use listeners::{BindError, Listener};
pub use worker::{Shared, Worker};
