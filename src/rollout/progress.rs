//! What is known of releases beside any snapshot, by the plugin's id.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    /// What was kept before the process began.
    mark: Mutex<Option<Mark>>,
}

/// How far a ramp had come: what is kept of it beyond the process, so that neither a clock that was set
/// back meanwhile nor other steps take the canary from anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    start: Duration,
    duration: Duration,
    effective: Duration,
    /// In basis points.
    share: u16,
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

    /// Takes over how far ramps had come, as [`Releases::marks`] gave it. What cannot be read is of another
    /// version and counts for nothing.
    pub fn remember(&self, marks: Vec<(Uuid, Value)>) {
        for (plugin, mark) in marks {
            let release = self.release(plugin);
            *release.mark.lock().unwrap_or_else(PoisonError::into_inner) = serde_json::from_value(mark).ok();
        }
    }

    /// Returns how far each ramp has come, to be kept.
    pub fn marks(&self) -> Vec<(Uuid, Value)> {
        let marks = (self.0.all().into_iter()).filter_map(|(plugin, release)| {
            let progress = (*release.lock())?;
            let mark = Mark {
                start: progress.ramp.start,
                duration: progress.ramp.duration,
                effective: progress.time.now(),
                share: progress.share.basis_points(),
            };
            Some((plugin, serde_json::to_value(mark).ok()?))
        });
        marks.collect()
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
        moved_on(self.progress(ramp, wall, monotonic), ramp, wall, monotonic)
            .0
            .share
    }

    /// Moves a ramp on to this moment. Returns its share, the effective time and a jump of the clock
    /// that was not told yet.
    pub(super) fn advance(
        &self,
        ramp: &Ramp,
        wall: Duration,
        monotonic: Duration,
    ) -> (Share, Duration, Option<Jump>) {
        let before = self.progress(ramp, wall, monotonic);
        let (next, jump) = moved_on(before, ramp, wall, monotonic);
        *self.lock() = Some(next);
        (next.share, next.time.now(), jump)
    }

    /// Returns how far the ramp has come in this process, or else in the one before.
    fn progress(&self, ramp: &Ramp, wall: Duration, monotonic: Duration) -> Option<Progress> {
        let mark = || {
            let mark = (*self.mark.lock().unwrap_or_else(PoisonError::into_inner))?;
            Some(Progress {
                ramp: Ramp {
                    start: mark.start,
                    duration: mark.duration,
                    ..*ramp
                },
                time: EffectiveTime::resuming(mark.effective, wall, monotonic),
                share: Share::new(mark.share)?,
            })
        };
        (*self.lock()).or_else(mark)
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

    #[test]
    fn a_ramp_goes_on_where_it_stood_when_the_process_ended() {
        let now = Duration::from_secs;
        let plugin = Uuid::from_u128(1);
        let before = Releases::default();
        // Eleven of twenty steps by second 1055.
        before
            .release(plugin)
            .advance(&ramp(1000, 100, 20), now(1055), now(5));
        let after = Releases::default();
        after.remember(before.marks());
        let release = after.release(plugin);
        // The clock was set back by 50 s meanwhile; other steps round the share down.
        assert_eq!(
            release
                .share_of(&ramp(1000, 100, 20), now(1005), now(0))
                .basis_points(),
            5500
        );
        assert_eq!(
            release
                .advance(&ramp(1000, 100, 2), now(1005), now(0))
                .0
                .basis_points(),
            5500
        );
        assert_eq!(after.marks(), before.marks());
        // Another start is another ramp.
        let other = after
            .release(plugin)
            .share_of(&ramp(2000, 100, 20), now(1005), now(0));
        assert_eq!(other.basis_points(), 0);
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
