//! Serin: an edge proxy and API gateway that makes a release safe.

pub mod model;
