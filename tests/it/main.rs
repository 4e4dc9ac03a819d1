//! The whole program from outside: the real binary between a client and origins of our own.
//!
//! A module per feature; what they stand on is in `harness`. Ports are chosen by the system, counts
//! are exact, and nobody sleeps: see `harness` for how tests wait.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, in its helpers too"
)]

mod harness;

mod bad;
mod cli;
mod start;
mod switch;

mod direct;
mod dns;
mod forwarding;
mod grpc;
mod path_handling;
mod router_model;
mod routing;

mod canary;
mod explain;
mod ramp;
mod visitors;

mod admin;
mod algorithms;
mod hashing;
mod health;
mod health_https;
mod retries;
mod weighted;

mod auth;
mod errors;
mod limits;
mod strict;

mod blue_green;
mod descriptors;
mod drain;
mod durable;
mod edge;
mod http2;
mod notify;
mod origins;
mod panics;
mod reload;
mod spread;
mod status;
mod store;
mod streams;
mod tls;
mod upgrade;
mod upstream_tls;
