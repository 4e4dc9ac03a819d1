//! How a worker goes through its requests: how many are under way at once, and in which order.

mod limit;
mod stage;

pub use limit::{Pace, UnderWay};
