//! Health checks of an Upstream: what Kong's `healthchecks` says, as checked values.

use std::fmt;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

/// When the Targets of an Upstream count as healthy (Kong's `upstreams.healthchecks`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthChecks {
    /// Part of the weight that must stay available.
    pub threshold: Threshold,
    /// Checks by requests of the proxy's own.
    pub active: ActiveChecks,
    /// Checks by what clients' requests bring to light.
    pub passive: PassiveChecks,
}

impl HealthChecks {
    /// Says whether anything is checked at all, by Kong's rule: an active interval or a passive
    /// failure counter is not zero. Otherwise every Target is taken as it is.
    pub fn is_on(&self) -> bool {
        self.active.healthy_interval.is_some()
            || self.active.unhealthy_interval.is_some()
            || self.passive.thresholds.has_failures()
    }
}

/// Part of an Upstream's weight, in hundredths of a percent, that must be *exceeded* by what is
/// available; at 100 % it is enough that all is. Kong's `healthchecks.threshold`, default 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Threshold(u16);

impl Threshold {
    /// 100 %.
    const ALL: u16 = 10_000;

    /// Takes a percentage of 0 to 100; `None` beyond.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&percent)
            .then(|| Self((percent * 100.0).round() as u16))
    }

    /// Says whether so much of so much weight is enough to serve.
    pub fn is_met(self, available: u64, total: u64) -> bool {
        match self.0 {
            Self::ALL => available > 0 && available == total,
            part => available * u64::from(Self::ALL) > total * u64::from(part),
        }
    }
}

/// Checks by requests of the proxy's own (Kong's `healthchecks.active`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveChecks {
    /// How a Target is probed.
    pub probe: Probe,
    /// Time for one whole probe, default 1 s.
    pub timeout: Duration,
    /// Probes of this Upstream under way at once, default 10.
    pub concurrency: usize,
    /// Time between probes of a healthy Target; `None` (Kong's 0, the default) for none.
    pub healthy_interval: Option<Duration>,
    /// Time between probes of an unhealthy Target; `None` (Kong's 0, the default) for none.
    pub unhealthy_interval: Option<Duration>,
    /// What a status means.
    pub statuses: Statuses,
    /// How many reports it takes.
    pub thresholds: Thresholds,
}

impl Default for ActiveChecks {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            timeout: Duration::from_secs(1),
            concurrency: 10,
            healthy_interval: None,
            unhealthy_interval: None,
            statuses: Statuses::default(),
            thresholds: Thresholds::default(),
        }
    }
}

/// How a Target is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A connection is opened and closed.
    Tcp,
    /// A GET by HTTP/1.1; the status of the answer decides.
    Http {
        /// What is asked for.
        path: PathAndQuery,
        /// Fields sent along.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// TLS, for type `https`.
        tls: Option<ProbeTls>,
    },
}

/// TLS of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTls {
    /// Name in the handshake; the probe's host when it is not given.
    pub sni: Option<String>,
    /// Whether the certificate is verified, default yes.
    pub verify: bool,
}

/// Checks by what clients' requests bring to light (Kong's `healthchecks.passive`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassiveChecks {
    /// What a status means; two empty sets where type `tcp` says not to look at statuses.
    pub statuses: Statuses,
    /// How many reports it takes.
    pub thresholds: Thresholds,
}

/// How many reports of a kind make a Target healthy or unhealthy, 0 to 255; 0 switches the kind off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes.
    pub successes: u8,
    /// Answers with a failing status.
    pub http_failures: u8,
    /// Connections that failed or broke.
    pub tcp_failures: u8,
    /// Answers that took too long.
    pub timeouts: u8,
}

impl Thresholds {
    /// Says whether any kind of failure is counted.
    pub fn has_failures(&self) -> bool {
        self.most_failures() > 0
    }

    /// Returns the highest number of failures that is waited for.
    pub fn most_failures(&self) -> u8 {
        self.http_failures.max(self.tcp_failures).max(self.timeouts)
    }
}

/// Which statuses are a success, which a failure; one in neither set says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statuses {
    /// Successes; looked at first, as Kong does.
    pub healthy: StatusSet,
    /// Failures.
    pub unhealthy: StatusSet,
}

/// A set of statuses from 100 to 999: one bit each, so that a look-up is one load.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 15]);

impl StatusSet {
    /// Lowest status that a set can hold.
    const FIRST: u16 = 100;

    /// Says whether a status is in the set.
    pub fn contains(&self, status: u16) -> bool {
        let Some(bit) = status.checked_sub(Self::FIRST) else {
            return false;
        };
        self.0
            .get(usize::from(bit / 64))
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }
}

impl FromIterator<u16> for StatusSet {
    /// Numbers beyond 100 to 999 are no statuses and are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::default();
        for bit in statuses
            .into_iter()
            .filter_map(|status| status.checked_sub(Self::FIRST))
            .filter(|bit| *bit < 900)
        {
            set.0[usize::from(bit / 64)] |= 1 << (bit % 64);
        }
        set
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries((100..1000).filter(|status| self.contains(*status)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        let set: StatusSet = [100, 200, 503, 999, 99, 1000, 0, u16::MAX].into_iter().collect();
        let held: Vec<u16> = (0..=u16::MAX).filter(|status| set.contains(*status)).collect();
        assert_eq!(held, [100, 200, 503, 999]);
    }

    #[test]
    fn a_threshold_must_be_exceeded_and_100_means_all() {
        let is_met =
            |percent, available, total| Threshold::from_percent(percent).unwrap().is_met(available, total);
        assert!(!is_met(0.0, 0, 100));
        assert!(is_met(0.0, 1, 100));
        assert!(!is_met(50.0, 100, 200));
        assert!(is_met(50.0, 101, 200));
        assert!(!is_met(100.0, 199, 200));
        assert!(is_met(100.0, 200, 200));
        assert!(!is_met(100.0, 0, 0));
        assert!(!is_met(33.3, 333, 1000));
        assert!(is_met(33.3, 334, 1000));
        assert_eq!(Threshold::from_percent(100.1), None);
        assert_eq!(Threshold::from_percent(f64::NAN), None);
    }
}
