//! What stands before a request: sockets and connections.

mod admission;
mod app;
mod listeners;
mod proxy_protocol;
mod worker;

pub use admission::Admission;
pub use listeners::{BindError, Listener};
pub use worker::{Shared, Worker};
