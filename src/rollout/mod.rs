//! A release in time: how far a ramp has come, and what outlives a snapshot of it.
//!
//! What a ramp's share is at an instant is a pure function (`schedule`) of a guarded time
//! (`effective`). One task (`ramps`) moves every ramp on and leaves the share where requests read it: a
//! request costs no look at a clock.

mod effective;
mod progress;
mod ramps;
pub mod schedule;

pub use effective::{EffectiveTime, Jump};
pub use progress::{ReleaseState, Releases};
pub use ramps::run;
