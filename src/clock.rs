//! The only reader of time.
//!
//! Everything else is handed an instant, so that tests choose it and no request reads the clock
//! twice for one event. A lint bans `now` outside this file.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Returns a point on the monotonic clock, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Returns how far an instant is from the first one that was asked about: a number for atomics,
/// the same for all threads.
pub fn elapsed_at(instant: Instant) -> Duration {
    static FIRST: LazyLock<Instant> = LazyLock::new(monotonic);
    instant.saturating_duration_since(*FIRST)
}

/// Returns both clocks at once: the time since the Unix epoch, and that of [`elapsed_at`], which no
/// daemon sets.
pub fn now() -> (Duration, Duration) {
    (unix(), elapsed_at(monotonic()))
}

/// Returns the CPU time that the calling thread has taken.
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time begins at 0")
}

/// Returns the time since the Unix epoch, for people and for Prometheus.
///
/// A clock set before 1970 reads as 0.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of a runtime whose time stands still but for sleeps, for the tests of what waits.
#[cfg(test)]
pub(crate) mod paused {
    use tokio::time::Instant;

    /// Returns the runtime's time.
    #[expect(clippy::disallowed_methods, reason = "it is not the system's")]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}
