//! What stands before a request: sockets and connections.

mod app;
mod listeners;
mod worker;

pub use app::Edge;
pub use listeners::{BindError, Listener};
pub use worker::Worker;
