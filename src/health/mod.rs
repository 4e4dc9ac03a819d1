//! Which Targets may be chosen, and what else is known of them; outlives snapshots.
//!
//! Probes (`probe`, in time by `schedule`) and clients' requests (`passive`) are reported to the
//! state of an address (`machine`, `state`). When one flips, the health thread (`service`,
//! `watch`) compiles the Upstream's addresses anew, so that the next request finds the others. What
//! goes on at Targets out of rotation is told by `drain`, and ended by `deadline` where that is wanted.

mod announce;
mod deadline;
pub mod dns;
mod drain;
mod first_pass;
mod job;
mod machine;
mod manual;
mod names;
pub mod passive;
mod probe;
mod ramp;
mod report;
mod schedule;
mod service;
mod state;
#[cfg(test)]
mod testbed;
mod under_way;
mod watch;

pub use drain::{DrainReport, Rotation, TargetDrain, addresses_of, drain, drain_of_all};
pub use machine::{Level, MEMORY, Machine, Report};
pub use manual::{ManualError, set_manual};
pub use names::{Names, Resolved};
pub use ramp::ramped_weights;
pub use report::{AddressHealth, Health, TargetHealth, UpstreamHealth, report};
pub use service::HealthService;
pub use state::{Cause, Registry, RetryPermit, TargetState, UpstreamState};

use crate::rollout::Releases;

/// What outlives snapshots and is handed to every build of one.
#[derive(Debug, Default)]
pub struct Observed {
    /// What names resolve to.
    pub names: Names,
    /// Positions, loads and health, by Upstream and address.
    pub registry: Registry,
    /// How far releases have come, by plugin.
    pub releases: Releases,
}
