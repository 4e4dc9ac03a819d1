//! What is known of releases beside any snapshot, by the plugin's id.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::effective::{EffectiveTime, Jump};
use super::schedule::{share_at, step_length};
use crate::kept::Kept;
use crate::model::{Ramp, Share};

/// The states of all releases.
#[derive(Debug, Default)]
pub struct Releases(Kept<Uuid, ReleaseState>);

/// The state of one release.
#[derive(Debug, Default)]
pub struct ReleaseState {
    position: AtomicU64,
    /// Locked by the control thread alone.
    progress: Mutex<Option<Progress>>,
}

/// How far a ramp has come.
#[derive(Debug, Clone, Copy)]
struct Progress {
    ramp: Ramp,
    time: EffectiveTime,
    share: Share,
}

impl Releases {
    /// Returns the state of a release, new when it was never seen.
    pub fn release(&self, plugin: Uuid) -> Arc<ReleaseState> {
        self.0.get_or(&plugin, ReleaseState::default)
    }

    /// Forgets releases that nothing has used for [`crate::kept::KEPT_FOR`].
    pub fn tidy(&self, now: Instant) {
        self.0.tidy(now);
    }
}

impl ReleaseState {
    /// Takes the next position for requests that are dealt in turn: shared by all workers and carried
    /// over every rebuild. Relaxed: numbers must be distinct, not ordered.
    pub fn next_position(&self) -> u64 {
        self.position.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the share that a ramp has at this moment, for a snapshot that is being built and may
    /// never be published: nothing is noted.
    pub fn share_of(&self, ramp: &Ramp, wall: Duration, monotonic: Duration) -> Share {
        moved_on(*self.lock(), ramp, wall, monotonic).0.share
    }

    /// Moves a ramp on to this moment. Returns its share, the effective time and a jump of the clock
    /// that was not told yet.
    pub(super) fn advance(
        &self,
        ramp: &Ramp,
        wall: Duration,
        monotonic: Duration,
    ) -> (Share, Duration, Option<Jump>) {
        let mut progress = self.lock();
        let (next, jump) = moved_on(*progress, ramp, wall, monotonic);
        *progress = Some(next);
        (next.share, next.time.now(), jump)
    }

    /// A panic leaves the last whole value.
    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ramp whose start and duration stay is the same ramp: other steps round its share to other values,
/// but never to a lower one than it has reached, which would take the canary from people again.
fn moved_on(
    before: Option<Progress>,
    ramp: &Ramp,
    wall: Duration,
    monotonic: Duration,
) -> (Progress, Option<Jump>) {
    let mut time = before.map_or_else(|| EffectiveTime::starting(wall, monotonic), |before| before.time);
    let jump = time.advance(wall, monotonic, step_length(ramp));
    let is_same =
        |before: &Progress| (before.ramp.start, before.ramp.duration) == (ramp.start, ramp.duration);
    let reached = before.filter(is_same).map_or(Share::NONE, |before| before.share);
    let next = Progress {
        ramp: *ramp,
        time,
        share: share_at(ramp, time.now()).max(reached),
    };
    (next, jump)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn ramp(start: u64, duration: u64, steps: u32) -> Ramp {
        Ramp {
            start: Duration::from_secs(start),
            duration: Duration::from_secs(duration),
            step_count: NonZeroU32::new(steps).unwrap(),
        }
    }

    /// Moves on to a second of both clocks and insists on the share.
    fn check(state: &ReleaseState, ramp: &Ramp, second: u64, basis_points: u16) {
        let now = Duration::from_secs(second);
        assert_eq!(
            state.share_of(ramp, now, now).basis_points(),
            basis_points,
            "at {second}"
        );
        assert_eq!(
            state.advance(ramp, now, now).0.basis_points(),
            basis_points,
            "at {second}"
        );
    }

    #[test]
    fn other_steps_take_the_canary_from_nobody() {
        let state = ReleaseState::default();
        check(&state, &ramp(0, 100, 10), 55, 5000);
        check(&state, &ramp(0, 100, 3), 56, 5000);
        check(&state, &ramp(0, 100, 3), 67, 6666);
        check(&state, &ramp(0, 100, 100), 68, 6800);
    }

    #[test]
    fn another_start_is_another_ramp() {
        let state = ReleaseState::default();
        check(&state, &ramp(0, 100, 10), 55, 5000);
        check(&state, &ramp(50, 100, 10), 60, 1000);
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_canary_from_nobody() {
        let state = ReleaseState::default();
        let ramp = ramp(0, 100, 10);
        check(&state, &ramp, 55, 5000);
        let (wall, monotonic) = (Duration::from_secs(5), Duration::from_secs(56));
        let (share, _, jump) = state.advance(&ramp, wall, monotonic);
        assert_eq!((share.basis_points(), jump), (5000, Some(Jump::Back)));
    }

    #[test]
    fn looking_changes_nothing() {
        let state = ReleaseState::default();
        let at = Duration::from_secs(90);
        assert_eq!(state.share_of(&ramp(0, 100, 10), at, at).basis_points(), 9000);
        check(&state, &ramp(0, 100, 10), 10, 1000);
    }

    #[test]
    fn positions_are_distinct() {
        let state = ReleaseState::default();
        assert_eq!([state.next_position(), state.next_position()], [0, 1]);
    }
}
