//! Serin: an edge proxy and API gateway on Pingora that makes a release safe.
//!
//! A *serin* is the finch that the canary was bred from.
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the verbs: run, check, explain, schema, demo, healthcheck; of a running proxy status, get, patch, switch, targets, export, diff |
//! | [`server`] | builds the parts, starts and ends them in order |
//! | [`model`] | what an operator names, as checked values |
//! | [`config`] | what files say, judged by one table |
//! | [`entity`] | what is kept, in one form |
//! | [`store`] | where it outlives the process |
//! | [`control`] | how a change takes effect: the one door |
//! | [`snapshot`] | what requests read: compiled, immutable, numbered |
//! | [`connection`] | a client's connection as others see it |
//! | [`edge`] | what stands before a request: sockets, connections |
//! | [`pace`] | how a worker goes through its requests |
//! | [`proxy`] | how a request goes through |
//! | [`origin`] | connections to origins, kept between two tries |
//! | [`balance`] | choosing among Targets |
//! | [`health`] | which Targets may be chosen; outlives snapshots |
//! | [`rollout`] | a release in time |
//! | [`upgrade`] | one process takes over from another |
//! | [`admin`] | what operators and their tools talk to |
//!
//! # The two flows
//!
//! - A request: `limits → client → route → select → forward → respond → record`, all reading the
//!   one [`snapshot::Snapshot`] that it took when it began.
//! - A change: `source → yaml → check → entities` of a file, or a body → `check` of the Admin API; then
//!   `plan → merge → build → commit → publish`, in [`control`]. A change that cannot be built, or that the
//!   store does not take, changes nothing.

pub mod cli;
pub mod server;

pub mod clock;
pub mod descriptors;
pub mod lifecycle;
pub mod metrics;
pub mod notify;
pub mod priority;
pub mod supervise;
pub mod upgrade;
pub mod wait_timer;

pub mod model;

pub mod config;
pub mod entity;

pub mod control;
pub mod store;

pub mod snapshot;

pub mod connection;
pub mod edge;
pub mod pace;
pub mod tls;

pub mod proxy;

pub mod origin;

pub mod balance;

pub mod health;

pub mod kept;
pub mod rollout;

pub mod access_log;
pub mod admin;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
