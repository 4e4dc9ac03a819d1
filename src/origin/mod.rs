//! Connections to origins by plain HTTP/1: how a try gets one, and where they are kept between two tries.
//!
//! Pingora gives a connection that it keeps a task of its own with each answer, wakes it to let go with the next
//! request, and asks the system for its address before it uses it again. Those that need neither TLS nor
//! HTTP/2 are kept here instead: in a worker's [`Pool`], looked at once a second, without a task.
//!
//! A [`Link`] is what Pingora connects by, and its socket what Pingora takes for a new connection each
//! time. After an answer Pingora asks it by a read whether it may be kept. It says that it has ended, Pingora drops it,
//! and the connection below goes back to the pool.

mod link;
mod pool;
mod socket;

pub use link::{Link, Timeouts, Writing};
pub use pool::{KEPT_FOR, Pool, PoolKey};
