//! The health of one address as a state machine: (state, report, time) → state.
//!
//! Kong's rules (lua-resty-healthcheck): a success sets the three failure counters back, a failure
//! only the success counter; the counter that reaches its threshold decides; a threshold of 0
//! switches its counter off, so that its reports change nothing at all; a report that agrees with a
//! settled state is dropped. In between, a healthy address with failures stays healthy, and one that
//! recovers stays out.
//!
//! One rule is ours. Where successes are not counted (`successes: 0`, Kong's default) nothing ever
//! sets the failure counters back in Kong, and three failures in a month trip a threshold of three.
//! Here failures are forgotten as a whole once the first of them is older than a given time.
//!
//! A state fits a `u64`, so that workers can change it by compare-and-swap.

use std::time::Duration;

use crate::model::Thresholds;

/// How long failures are remembered at least.
///
/// Long, because a Target that hangs is reported only after `read_timeout` (60 s by default): ten
/// minutes see ten such timeouts of a client that sends one request after the other. Short, because
/// a handful of failures must not add up over a day.
pub const MEMORY: Duration = Duration::from_secs(600);

/// What happened at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It answered as it should.
    Success,
    /// It answered with a failing status.
    HttpFailure,
    /// It could not be connected to, or the connection broke before an answer.
    TcpFailure,
    /// It took too long.
    Timeout,
}

/// Where an address stands. The two in the middle count as healthy and unhealthy like their
/// neighbours; they only say that a counter has begun to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing speaks against it; how every address begins.
    #[default]
    Healthy,
    /// In, with failures or successes counted since.
    MostlyHealthy,
    /// Out, with successes or failures counted since.
    MostlyUnhealthy,
    /// Out.
    Unhealthy,
}

/// The state of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    level: Level,
    counts: Counts,
    /// When the first of the failures that are counted happened, in whole seconds of the caller's
    /// clock; 30 bits, which is 34 years.
    failing_since: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    successes: u8,
    http_failures: u8,
    tcp_failures: u8,
    timeouts: u8,
}

/// Bits for the time of the first failure.
const TIME_BITS: u32 = 30;

impl Machine {
    /// A settled state: what an operator sets. All counters begin anew.
    pub fn settled(is_healthy: bool) -> Self {
        Self {
            level: match is_healthy {
                true => Level::Healthy,
                false => Level::Unhealthy,
            },
            ..Self::default()
        }
    }

    /// Returns where the address stands.
    pub fn level(self) -> Level {
        self.level
    }

    /// Says whether the address may be chosen.
    pub fn is_healthy(self) -> bool {
        matches!(self.level, Level::Healthy | Level::MostlyHealthy)
    }

    /// Returns the state after a report. `now` is the time since any fixed instant; failures are
    /// forgotten when the first of them is older than `memory`.
    #[must_use]
    pub fn on(self, report: Report, thresholds: &Thresholds, memory: Duration, now: Duration) -> Self {
        let threshold = match report {
            Report::Success => thresholds.successes,
            Report::HttpFailure => thresholds.http_failures,
            Report::TcpFailure => thresholds.tcp_failures,
            Report::Timeout => thresholds.timeouts,
        };
        let is_success = report == Report::Success;
        let is_settled = match self.level {
            Level::Healthy => is_success,
            Level::Unhealthy => !is_success,
            Level::MostlyHealthy | Level::MostlyUnhealthy => false,
        };
        if threshold == 0 || is_settled {
            return self;
        }
        let mut next = self;
        if is_success {
            next.counts = Counts {
                successes: self.counts.successes,
                ..Counts::default()
            };
        } else {
            let now = u32::try_from(now.as_secs())
                .unwrap_or(u32::MAX)
                .min((1 << TIME_BITS) - 1);
            let age = u64::from(now.saturating_sub(self.failing_since));
            if self.counts.failures() == 0 || age > memory.as_secs() {
                next.counts = Counts::default();
                next.failing_since = now;
            }
            next.counts.successes = 0;
        }
        let counter = match report {
            Report::Success => &mut next.counts.successes,
            Report::HttpFailure => &mut next.counts.http_failures,
            Report::TcpFailure => &mut next.counts.tcp_failures,
            Report::Timeout => &mut next.counts.timeouts,
        };
        *counter = counter.saturating_add(1);
        if *counter >= threshold {
            return Self::settled(is_success);
        }
        next.level = match self.level {
            Level::Healthy => Level::MostlyHealthy,
            Level::Unhealthy => Level::MostlyUnhealthy,
            between => between,
        };
        next
    }

    /// Packs the state.
    pub fn to_bits(self) -> u64 {
        let Counts {
            successes,
            http_failures,
            tcp_failures,
            timeouts,
        } = self.counts;
        let counts = u32::from_le_bytes([successes, http_failures, tcp_failures, timeouts]);
        let level = match self.level {
            Level::Healthy => 0,
            Level::MostlyHealthy => 1,
            Level::MostlyUnhealthy => 2,
            Level::Unhealthy => 3,
        };
        u64::from(counts) | u64::from(self.failing_since) << 32 | level << (32 + TIME_BITS)
    }

    /// Unpacks a state; every number is one.
    pub fn from_bits(bits: u64) -> Self {
        let [successes, http_failures, tcp_failures, timeouts, ..] = bits.to_le_bytes();
        Self {
            level: match bits >> (32 + TIME_BITS) {
                0 => Level::Healthy,
                1 => Level::MostlyHealthy,
                2 => Level::MostlyUnhealthy,
                _ => Level::Unhealthy,
            },
            counts: Counts {
                successes,
                http_failures,
                tcp_failures,
                timeouts,
            },
            failing_since: (bits >> 32) as u32 & ((1 << TIME_BITS) - 1),
        }
    }
}

impl Counts {
    fn failures(self) -> u32 {
        u32::from(self.http_failures) + u32::from(self.tcp_failures) + u32::from(self.timeouts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        successes: 2,
        http_failures: 3,
        tcp_failures: 2,
        timeouts: 4,
    };

    /// Feeds reports, `S`uccess, `H`ttp, `T`cp and time`O`ut, one a second, and returns the levels
    /// on the way: `H`ealthy, `h`, `u`, `U`nhealthy.
    fn check(thresholds: Thresholds, from: bool, reports: &str, expected: &str) {
        let mut machine = Machine::settled(from);
        let levels: String = reports
            .chars()
            .zip(1..)
            .map(|(report, second)| {
                machine = machine.on(
                    report_of(report),
                    &thresholds,
                    MEMORY,
                    Duration::from_secs(second),
                );
                letter(machine.level())
            })
            .collect();
        assert_eq!(levels, expected, "{reports}");
    }

    fn report_of(letter: char) -> Report {
        match letter {
            'S' => Report::Success,
            'H' => Report::HttpFailure,
            'T' => Report::TcpFailure,
            'O' => Report::Timeout,
            other => panic!("{other}"),
        }
    }

    fn letter(level: Level) -> char {
        match level {
            Level::Healthy => 'H',
            Level::MostlyHealthy => 'h',
            Level::MostlyUnhealthy => 'u',
            Level::Unhealthy => 'U',
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_threshold() {
        check(THRESHOLDS, true, "HHH", "hhU");
        check(THRESHOLDS, true, "TT", "hU");
        check(THRESHOLDS, true, "OOOO", "hhhU");
        // They are counted apart, and a failure of one kind leaves the others' counts alone.
        check(THRESHOLDS, true, "HTHOOO", "hhhhhh");
        check(THRESHOLDS, true, "HTHOOOH", "hhhhhhU");
    }

    #[test]
    fn a_success_sets_all_failures_back() {
        check(THRESHOLDS, true, "HHTSHHT", "hhhhhhh");
        check(THRESHOLDS, true, "HSSHHH", "hhHhhU");
    }

    #[test]
    fn a_failure_sets_only_successes_back() {
        check(THRESHOLDS, false, "SHSS", "uuuH");
        check(THRESHOLDS, false, "SHSHSH", "uuuuuu");
        check(THRESHOLDS, false, "STTS", "uuUu");
    }

    #[test]
    fn reports_that_agree_with_a_settled_state_are_dropped() {
        check(THRESHOLDS, true, "SSSSTT", "HHHHhU");
        check(THRESHOLDS, false, "TTTTSS", "UUUUuH");
    }

    #[test]
    fn a_threshold_of_0_makes_its_reports_inert() {
        let only_tcp = Thresholds {
            tcp_failures: 2,
            ..Thresholds::default()
        };
        check(only_tcp, true, "HOHOTHOST", "HHHHhhhhU");
        check(Thresholds::default(), true, "HTOHTOS", "HHHHHHH");
        check(only_tcp, false, "SSSS", "UUUU");
    }

    #[test]
    fn thresholds_at_the_end_of_the_range_are_reached() {
        for most in [254, 255] {
            let thresholds = Thresholds {
                successes: most,
                http_failures: most,
                ..Thresholds::default()
            };
            let mut machine = Machine::default();
            for (report, is_healthy) in [(Report::HttpFailure, true), (Report::Success, false)] {
                for _ in 1..most {
                    machine = machine.on(report, &thresholds, MEMORY, Duration::ZERO);
                    assert_eq!(machine.is_healthy(), is_healthy);
                }
                machine = machine.on(report, &thresholds, MEMORY, Duration::ZERO);
                assert_eq!(machine, Machine::settled(!is_healthy));
            }
        }
    }

    #[test]
    fn three_failures_in_a_month_do_not_trip_a_threshold_of_three() {
        let thresholds = Thresholds {
            http_failures: 3,
            ..Thresholds::default()
        };
        let at = |machine: Machine, second| {
            machine.on(
                Report::HttpFailure,
                &thresholds,
                MEMORY,
                Duration::from_secs(second),
            )
        };
        let day = 24 * 3600;
        let mut machine = Machine::default();
        for second in [0, 10 * day, 20 * day, 29 * day] {
            machine = at(machine, second);
            assert!(machine.is_healthy());
        }
        // Nor do two at once and one much later; three within the time do.
        let machine = at(at(at(machine, 29 * day), 30 * day), 30 * day + 600);
        assert!(machine.is_healthy());
        assert!(!at(machine, 30 * day + 600).is_healthy());
    }

    #[test]
    fn a_clock_at_its_end_does_no_harm() {
        let machine = Machine::default();
        let end = Duration::from_secs(u64::MAX);
        let machine = machine.on(Report::Timeout, &THRESHOLDS, MEMORY, end);
        assert_eq!(machine.level(), Level::MostlyHealthy);
        assert_eq!(Machine::from_bits(machine.to_bits()), machine);
        // A clock that went back counts as no time passed.
        let machine = machine.on(Report::Timeout, &THRESHOLDS, MEMORY, Duration::ZERO);
        assert_eq!(machine.counts.timeouts, 2);
    }

    fn reports() -> impl Strategy<Value = Vec<(Report, u64)>> {
        let report = prop_oneof![
            Just(Report::Success),
            Just(Report::HttpFailure),
            Just(Report::TcpFailure),
            Just(Report::Timeout)
        ];
        // Mostly close together, sometimes beyond the memory.
        let pause = prop_oneof![4 => 0_u64..30, 1 => 300_u64..2000];
        proptest::collection::vec((report, pause), 0..200)
    }

    fn thresholds() -> impl Strategy<Value = Thresholds> {
        let one = || prop_oneof![3 => 0_u8..6, 1 => any::<u8>()];
        (one(), one(), one(), one()).prop_map(|(successes, http_failures, tcp_failures, timeouts)| {
            Thresholds {
                successes,
                http_failures,
                tcp_failures,
                timeouts,
            }
        })
    }

    proptest! {
        #[test]
        fn any_sequence_stays_legal(thresholds in thresholds(), reports in reports(), from: bool) {
            let mut machine = Machine::settled(from);
            let mut now = 0;
            for (report, pause) in reports {
                now += pause;
                machine = machine.on(report, &thresholds, MEMORY, Duration::from_secs(now));
                let Counts { successes, http_failures, tcp_failures, timeouts } = machine.counts;
                prop_assert_eq!(Machine::from_bits(machine.to_bits()), machine);
                let is_settled = matches!(machine.level(), Level::Healthy | Level::Unhealthy);
                prop_assert_eq!(is_settled, machine.counts == Counts::default());
                // Never both, and none at its threshold or under one of 0.
                prop_assert!(successes == 0 || machine.counts.failures() == 0);
                for (count, threshold) in [
                    (successes, thresholds.successes),
                    (http_failures, thresholds.http_failures),
                    (tcp_failures, thresholds.tcp_failures),
                    (timeouts, thresholds.timeouts),
                ] {
                    prop_assert!(count == 0 || count < threshold);
                }
            }
        }

        /// A flip needs as many reports of its kind as its threshold says, none of the opposite kind
        /// that counts between them, and for failures all of them within the memory.
        #[test]
        fn nothing_flips_before_its_threshold(thresholds in thresholds(), reports in reports(), from: bool) {
            let mut machine = Machine::settled(from);
            let mut now = 0;
            let mut seen: Vec<(Report, u64)> = Vec::new();
            for (report, pause) in reports {
                now += pause;
                let before = machine;
                machine = machine.on(report, &thresholds, MEMORY, Duration::from_secs(now));
                seen.push((report, now));
                if before.is_healthy() == machine.is_healthy() {
                    continue;
                }
                let is_failure = report != Report::Success;
                prop_assert_eq!(machine.is_healthy(), !is_failure);
                let recent = seen.iter().rev().take_while(|(other, at)| match is_failure {
                    true => now - at <= MEMORY.as_secs() && !(*other == Report::Success && thresholds.successes > 0),
                    false => *other == Report::Success || limit(&thresholds, *other) == 0,
                });
                let count = recent.filter(|(other, _)| *other == report).count();
                prop_assert!(count >= usize::from(limit(&thresholds, report)));
                prop_assert!(limit(&thresholds, report) > 0);
                seen.clear();
            }
        }

        /// As many failures in a row as the threshold says, in no time, always suffice.
        #[test]
        fn a_burst_of_failures_always_flips(thresholds in thresholds(), reports in reports()) {
            let mut machine = Machine::default();
            let mut now = 0;
            for (report, pause) in reports {
                now += pause;
                machine = machine.on(report, &thresholds, MEMORY, Duration::from_secs(now));
            }
            for _ in 0..thresholds.tcp_failures {
                machine = machine.on(Report::TcpFailure, &thresholds, MEMORY, Duration::from_secs(now));
            }
            prop_assert!(thresholds.tcp_failures == 0 || !machine.is_healthy());
        }
    }

    fn limit(thresholds: &Thresholds, report: Report) -> u8 {
        match report {
            Report::Success => thresholds.successes,
            Report::HttpFailure => thresholds.http_failures,
            Report::TcpFailure => thresholds.tcp_failures,
            Report::Timeout => thresholds.timeouts,
        }
    }
}
