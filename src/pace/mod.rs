//! How a worker goes through its requests: how many are under way at once.

mod limit;

pub use limit::{Pace, UnderWay};
