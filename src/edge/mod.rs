//! What stands before a request: sockets and connections.

mod accept;
mod admission;
mod app;
mod listeners;
mod proxy_protocol;
mod spread;
mod worker;

pub use admission::Admission;
pub use listeners::{BindError, Listener};
pub use spread::Spread;
pub use worker::{Shared, Worker};
