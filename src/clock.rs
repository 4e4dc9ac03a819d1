//! The only reader of time.
//!
//! Everything else is handed an instant, so that tests choose it and no request reads the clock
//! twice for one event. A lint bans `now` outside this file.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns a point on the monotonic clock, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Returns the time since the Unix epoch, for people and for Prometheus.
///
/// A clock set before 1970 reads as 0.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
