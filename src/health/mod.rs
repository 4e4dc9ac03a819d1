//! Which Targets may be chosen, and what else is known of them; outlives snapshots.

pub mod dns;
mod names;
mod state;

pub use names::{Names, Resolved};
pub use state::{Registry, RetryPermit, TargetState, UpstreamState};

/// What was observed of Upstreams and names: handed to every build of a snapshot.
#[derive(Debug, Default)]
pub struct Observed {
    /// What names resolve to.
    pub names: Names,
    /// Positions, loads and health, by Upstream and address.
    pub registry: Registry,
}
