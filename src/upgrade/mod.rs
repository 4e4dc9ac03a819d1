//! Another binary, or another number of threads, without a request lost: the listening sockets go from the
//! running process to a new one, and the running one drains when the new one serves.
//!
//! The new process (`successor`) knocks at a Unix socket (`place`) and talks to the running one
//! (`predecessor`) over a `channel`, in the words of `message`. In this order:
//!
//! 1. The running process holds writes of the Admin API, reloads and ramps' marks up, and lends the store.
//! 2. It sends duplicates of its sockets (`sockets`). It goes on accepting.
//! 3. The new one opens the store, claims the sockets of addresses that it is to listen on, binds the others,
//!    starts its workers, and says that it is ready. For a moment both accept.
//! 4. The running one says that everything is the new one's, passes on the writes that it held, and drains.
//!
//! Whatever goes wrong before step 4 (an error, an exit, a deadline) leaves the running process as it was: it
//! takes the store back, finishes the writes that it held, and has never stopped accepting.
//!
//! Pingora's own hand-over is not used: it cuts what is more than 32 sockets or 2,048 bytes of addresses, and
//! its old process ends whether or not the new one has come up.

mod channel;
mod launch;
mod message;
mod place;
mod predecessor;
mod service;
mod sockets;
mod successor;

pub use launch::Launch;
pub use message::Role;
pub use place::PlaceError;
pub use predecessor::Estate;
pub use service::{Start, UpgradeService};
pub use sockets::{Held, Inherited};
pub use successor::{TakeOverError, Takeover};
