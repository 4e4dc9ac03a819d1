//! The time that a ramp goes by: the wall clock, without its jumps.
//!
//! A wall clock is set back and forth by people and daemons. Set back, it must not take the canary from
//! those who have it; set forward, it must not give it to everybody at once. So a ramp goes by an
//! effective time of its own, which never goes back and catches up with a clock that jumped at no more
//! than twice its pace, or a step a second where steps are longer than two seconds.

use std::time::Duration;

/// A difference that is a jump and not the jitter of two clocks read one after the other.
const JUMP: Duration = Duration::from_secs(2);

/// The time of a ramp. Both clocks are handed in.
#[derive(Debug, Clone, Copy)]
pub struct EffectiveTime {
    /// Since 1970.
    now: Duration,
    /// Monotonic clock when it was.
    monotonic: Duration,
    /// The jump that was told last, so that each is told once.
    told: Option<Jump>,
}

/// A wall clock that is not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// It was set back; effective time stands until it has caught up.
    Back,
    /// It was set forward; effective time follows slowly.
    Forward,
}

impl EffectiveTime {
    /// Starts where the wall clock is: what was before is not known.
    pub fn starting(wall: Duration, monotonic: Duration) -> Self {
        Self {
            now: wall,
            monotonic,
            told: None,
        }
    }

    /// Goes on from where it stood when the process was last seen, or from the wall clock if that is
    /// further: what has passed meanwhile has passed.
    pub fn resuming(stood_at: Duration, wall: Duration, monotonic: Duration) -> Self {
        Self::starting(wall.max(stood_at), monotonic)
    }

    /// Returns where it stands, since 1970.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Moves on to the present and says whether the wall clock has jumped, once for each jump.
    ///
    /// `step` is how long a step of the ramp takes.
    pub fn advance(&mut self, wall: Duration, monotonic: Duration, step: Duration) -> Option<Jump> {
        let passed = monotonic.saturating_sub(self.monotonic);
        let expected = self.now + passed;
        let jump = if wall + JUMP < expected {
            Some(Jump::Back)
        } else if wall > expected + JUMP {
            Some(Jump::Forward)
        } else {
            None
        };
        let pace = step.as_secs_f64().max(2.0);
        let most = self.now + passed.mul_f64(pace);
        self.now = self.now.max(wall.min(most));
        self.monotonic = monotonic;
        let is_news = jump.is_some() && jump != self.told;
        self.told = jump;
        jump.filter(|_| is_news)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_follows_a_clock_that_goes_right() {
        let mut time = EffectiveTime::starting(seconds(1000), seconds(5));
        for second in 1..100 {
            assert_eq!(
                time.advance(seconds(1000 + second), seconds(5 + second), seconds(1)),
                None
            );
            assert_eq!(time.now(), seconds(1000 + second));
        }
    }

    #[test]
    fn it_stands_while_the_clock_is_behind_and_tells_once() {
        let mut time = EffectiveTime::starting(seconds(1000), seconds(0));
        assert_eq!(
            time.advance(seconds(400), seconds(1), seconds(1)),
            Some(Jump::Back)
        );
        assert_eq!(time.advance(seconds(401), seconds(2), seconds(1)), None);
        assert_eq!(time.now(), seconds(1000));
        assert_eq!(time.advance(seconds(1001), seconds(602), seconds(1)), None);
        assert_eq!(time.now(), seconds(1001));
    }

    #[test]
    fn it_follows_a_jump_forward_at_twice_its_pace_or_a_step_a_second() {
        let mut time = EffectiveTime::starting(seconds(1000), seconds(0));
        assert_eq!(
            time.advance(seconds(5001), seconds(1), seconds(1)),
            Some(Jump::Forward)
        );
        assert_eq!(time.now(), seconds(1002));
        assert_eq!(time.advance(seconds(5002), seconds(2), seconds(1)), None);
        assert_eq!(time.now(), seconds(1004));
        let mut time = EffectiveTime::starting(seconds(1000), seconds(0));
        time.advance(seconds(9001), seconds(1), seconds(60));
        assert_eq!(time.now(), seconds(1060), "one step of a minute in a second");
    }

    #[test]
    fn it_arrives_after_a_jump_forward() {
        let mut time = EffectiveTime::starting(seconds(1000), seconds(0));
        for second in 1..=100 {
            time.advance(seconds(1100 + second), seconds(second), seconds(1));
        }
        assert_eq!(time.now(), seconds(1200));
    }

    proptest! {
        #[test]
        fn it_never_goes_back(walls in prop::collection::vec(0..1_000_000u64, 1..50), step in 0..1000u64) {
            let mut time = EffectiveTime::starting(seconds(500_000), seconds(0));
            let mut last = time.now();
            for (second, wall) in walls.into_iter().enumerate() {
                time.advance(seconds(wall), seconds(second as u64), seconds(step));
                prop_assert!(time.now() >= last);
                last = time.now();
            }
        }
    }
}
