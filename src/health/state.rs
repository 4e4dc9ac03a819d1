//! What is known of Upstreams and their addresses beside any snapshot.
//!
//! Keyed by the Upstream and by the address, so that no reload, edit of a weight or added Target
//! resets it. Everything is an atomic that workers share; the maps are locked only while a snapshot
//! is built or the health thread tidies up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::machine::{Machine, Report};
use crate::balance::PeakEwma;
use crate::clock;
use crate::connection::Place;
use crate::kept::Kept;
use crate::model::{Thresholds, UpstreamKey};

/// The states of all Upstreams.
#[derive(Debug, Default)]
pub struct Registry {
    upstreams: Kept<UpstreamKey, UpstreamState>,
    wake: Arc<Notify>,
}

/// The state of one Upstream.
#[derive(Debug, Default)]
pub struct UpstreamState {
    first_position: AtomicU64,
    retry_position: AtomicU64,
    retries: AtomicU64,
    targets: Kept<SocketAddr, TargetState>,
    /// Exchanges that were closed because their address was out for too long.
    drain_closed: AtomicU64,
    /// How often an address of this Upstream changed between healthy and unhealthy.
    flips: AtomicU64,
    /// Wakes the health thread.
    wake: Arc<Notify>,
}

/// The state of one address of one Upstream.
#[derive(Debug)]
pub struct TargetState {
    place: Place,
    in_flight: AtomicU32,
    /// How many of those have switched to another protocol.
    upgraded: AtomicU32,
    requests: AtomicU64,
    latency: PeakEwma,
    /// A [`Machine`].
    health: AtomicU64,
    /// The [`Cause`] of the last change between healthy and unhealthy.
    cause: AtomicU8,
    /// Milliseconds of [`clock::elapsed_at`] when the address came back, plus one; 0 if it was never out.
    back_since: AtomicU64,
    /// What the health thread has told last is that the address is out.
    is_told_out: AtomicBool,
    /// Milliseconds of [`clock::elapsed_at`] when a snapshot took the address out of rotation, plus one; 0
    /// while it is in or was never.
    out_since: AtomicU64,
}

/// What decided that an address is healthy or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Nothing yet.
    #[default]
    None,
    /// A probe.
    Probe(Report),
    /// A client's request.
    Request(Report),
    /// An operator.
    Operator,
    /// Passive checks alone had taken out so many that nothing could be served.
    Rest,
}

/// Counts a request as being retried while it lives.
#[derive(Debug)]
pub struct RetryPermit(Arc<UpstreamState>);

impl Registry {
    /// Returns the state of an Upstream, new when it was never seen.
    pub fn upstream(&self, key: &UpstreamKey) -> Arc<UpstreamState> {
        self.upstreams.get_or(key, || UpstreamState {
            wake: self.wake.clone(),
            ..UpstreamState::default()
        })
    }

    /// Returns every Upstream that is in use or was lately, configured or not.
    pub fn upstreams(&self) -> Vec<(UpstreamKey, Arc<UpstreamState>)> {
        self.upstreams.all()
    }

    /// Forgets Upstreams and addresses that nothing has used for [`crate::kept::KEPT_FOR`].
    pub fn tidy(&self, now: Instant) {
        self.upstreams.tidy(now);
        for (_, upstream) in self.upstreams.all() {
            upstream.targets.tidy(now);
        }
    }

    /// Waits until an address flips or an Upstream's addresses change; what came before the call
    /// counts. For the health thread alone.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }
}

impl UpstreamState {
    /// Takes the next position of the round robin: shared by all workers, so that shares are exact
    /// over all of them, and carried over every rebuild. Relaxed, as all counters here: numbers must
    /// be distinct, not ordered.
    pub fn next_position(&self) -> u64 {
        self.first_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the next position for retries, which have a counter of their own so that a failing
    /// Target does not skew the shares of first picks.
    pub fn next_retry_position(&self) -> u64 {
        self.retry_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets one more request be retried unless `limit` are already. Relaxed: the count is all there is
    /// to agree on, and it never exceeds the limit.
    pub fn permit_retry(self: &Arc<Self>, limit: u64) -> Option<RetryPermit> {
        let one_more = |count| (count < limit).then_some(count + 1);
        self.retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
            .then(|| RetryPermit(self.clone()))
    }

    /// Returns the state of an address, new when it was never seen.
    pub fn target(&self, address: SocketAddr) -> Arc<TargetState> {
        self.targets.get_or(&address, TargetState::default)
    }

    /// Counts an exchange that was closed because its address was out of rotation for too long.
    pub fn count_drain_closed(&self) {
        self.drain_closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many exchanges were closed so.
    pub fn drain_closed(&self) -> u64 {
        self.drain_closed.load(Ordering::Relaxed)
    }

    /// Returns every address that is in use or was lately, out of rotation or not; for the status
    /// address.
    pub fn targets(&self) -> Vec<(SocketAddr, Arc<TargetState>)> {
        self.targets.all()
    }

    /// Reports what happened at an address of this Upstream. Takes no lock and allocates nothing:
    /// one load when the report changes nothing, else a compare-and-swap. A change between healthy
    /// and unhealthy wakes the health thread, which takes the address out or in.
    pub fn report(
        &self,
        target: &TargetState,
        cause: Cause,
        thresholds: &Thresholds,
        memory: Duration,
        now: Instant,
    ) {
        let (Cause::Probe(report) | Cause::Request(report)) = cause else {
            return;
        };
        let since = clock::elapsed_at(now);
        self.change(target, cause, now, |machine| {
            // Requests never bring an address back: those that still end well began before it went.
            let is_late = matches!(cause, Cause::Request(Report::Success)) && !machine.is_healthy();
            match is_late {
                true => machine,
                false => machine.on(report, thresholds, memory, since),
            }
        });
    }

    /// Settles an address; all its counters begin anew.
    pub fn settle(&self, target: &TargetState, is_healthy: bool, cause: Cause, now: Instant) {
        self.change(target, cause, now, |_| Machine::settled(is_healthy));
    }

    /// Forgets what checks found, because there are none any more: later ones begin anew.
    pub fn forget_health(&self) {
        for (_, target) in self.targets.all() {
            target
                .health
                .store(Machine::default().to_bits(), Ordering::Relaxed);
            target.back_since.store(0, Ordering::Relaxed);
            target.is_told_out.store(false, Ordering::Relaxed);
        }
    }

    fn change(&self, target: &TargetState, cause: Cause, now: Instant, to: impl Fn(Machine) -> Machine) {
        let before = target
            .health
            // Release, so that whoever sees the flip counted below sees the state, too.
            .try_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
                let next = to(Machine::from_bits(bits)).to_bits();
                (next != bits).then_some(next)
            });
        let Ok(before) = before.map(Machine::from_bits) else {
            return;
        };
        let is_healthy = to(before).is_healthy();
        if before.is_healthy() == is_healthy {
            return;
        }
        target.cause.store(cause.to_bits(), Ordering::Relaxed);
        if is_healthy {
            target.back_since.store(as_millis(now), Ordering::Relaxed);
        }
        self.flips.fetch_add(1, Ordering::Release);
        self.wake.notify_one();
    }

    /// Returns how often an address changed between healthy and unhealthy. What is read of states
    /// after this is at least as new as the number.
    pub fn flips(&self) -> u64 {
        self.flips.load(Ordering::Acquire)
    }

    /// Tells the health thread that the addresses of this Upstream may be others now.
    pub fn addresses_changed(&self) {
        self.wake.notify_one();
    }
}

impl TargetState {
    /// Counts a request in.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number of requests being served by this address now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in that has switched to another protocol.
    pub fn begin_upgraded(&self) {
        self.upgraded.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out that had switched to another protocol.
    pub fn end_upgraded(&self) {
        self.upgraded.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns how many of the requests in flight have switched to another protocol.
    pub fn upgraded(&self) -> u32 {
        self.upgraded.load(Ordering::Relaxed)
    }

    /// Returns what connections call the address.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Notes that a snapshot took the address out of rotation.
    pub fn take_out(&self, now: Instant) {
        self.out_since.store(as_millis(now), Ordering::Relaxed);
    }

    /// Notes the same of an address that may have been out before; then it has been out for longer.
    pub fn keep_out(&self, now: Instant) {
        let (since, order) = (as_millis(now), Ordering::Relaxed);
        let _ = self.out_since.compare_exchange(0, since, order, order);
    }

    /// Notes that the address is in rotation.
    pub fn take_in(&self) {
        self.out_since.store(0, Ordering::Relaxed);
    }

    /// Returns for how long the address has been out of rotation; `None` if it is in, was never, or
    /// nobody knows since when.
    pub fn out_for(&self, now: Instant) -> Option<Duration> {
        time_since(&self.out_since, now)
    }

    /// Returns the number of tries that were sent to this address.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns how long this address takes to answer; kept only where the algorithm asks for it.
    pub fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// Returns where the address stands by what checks found; without checks that says nothing.
    pub fn health(&self) -> Machine {
        Machine::from_bits(self.health.load(Ordering::Acquire))
    }

    /// Returns what decided last.
    pub fn cause(&self) -> Cause {
        Cause::from_bits(self.cause.load(Ordering::Relaxed))
    }

    /// Returns for how long the address has been back; `None` if it was never out.
    pub fn back_for(&self, now: Instant) -> Option<Duration> {
        time_since(&self.back_since, now)
    }

    /// Returns a change between healthy and unhealthy that was not told yet; for the health thread.
    pub(super) fn untold_change(&self) -> Option<bool> {
        let is_healthy = self.health().is_healthy();
        let was_healthy = !self.is_told_out.swap(!is_healthy, Ordering::Relaxed);
        (is_healthy != was_healthy).then_some(is_healthy)
    }
}

impl Default for TargetState {
    fn default() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        Self {
            // An address made every second would use the numbers up in 136 years.
            place: Place::new(PLACES.fetch_add(1, Ordering::Relaxed).wrapping_add(1)),
            in_flight: AtomicU32::default(),
            upgraded: AtomicU32::default(),
            requests: AtomicU64::default(),
            latency: PeakEwma::default(),
            health: AtomicU64::default(),
            cause: AtomicU8::default(),
            back_since: AtomicU64::default(),
            is_told_out: AtomicBool::default(),
            out_since: AtomicU64::default(),
        }
    }
}

/// An instant as a number for atomics: milliseconds, plus one, so that 0 is none.
fn as_millis(now: Instant) -> u64 {
    let millis = clock::elapsed_at(now).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1)
}

fn time_since(instant: &AtomicU64, now: Instant) -> Option<Duration> {
    let millis = instant.load(Ordering::Relaxed).checked_sub(1)?;
    Some(clock::elapsed_at(now).saturating_sub(Duration::from_millis(millis)))
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cause {
    fn to_bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Operator => 1,
            Self::Rest => 2,
            Self::Probe(report) => 8 + report as u8,
            Self::Request(report) => 16 + report as u8,
        }
    }

    fn from_bits(bits: u8) -> Self {
        let report = || match bits & 7 {
            0 => Report::Success,
            1 => Report::HttpFailure,
            2 => Report::TcpFailure,
            _ => Report::Timeout,
        };
        match bits {
            0 | 3..8 => Self::None,
            1 => Self::Operator,
            2 => Self::Rest,
            8..16 => Self::Probe(report()),
            _ => Self::Request(report()),
        }
    }

    /// Says in words what decided, for the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "nothing is known of it",
            Self::Operator => "an operator said so",
            Self::Rest => "it had rest, and nothing else was left",
            Self::Probe(Report::Success) => "its probes succeed",
            Self::Probe(Report::HttpFailure) => "its probes were answered by a failing status",
            Self::Probe(Report::TcpFailure) => "its probes could not connect or were cut off",
            Self::Probe(Report::Timeout) => "its probes took too long",
            Self::Request(Report::Success) => "requests succeed",
            Self::Request(Report::HttpFailure) => "requests were answered by a failing status",
            Self::Request(Report::TcpFailure) => "requests could not connect or were cut off",
            Self::Request(Report::Timeout) => "requests took too long",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::MEMORY;
    use crate::kept::KEPT_FOR;

    const ONE_FAILURE: Thresholds = Thresholds {
        successes: 1,
        http_failures: 1,
        tcp_failures: 1,
        timeouts: 1,
    };

    fn registry() -> (Registry, UpstreamKey, SocketAddr) {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        (
            Registry::default(),
            UpstreamKey::Named("shop".to_owned()),
            address,
        )
    }

    #[test]
    fn a_state_outlives_its_upstream_by_300_seconds() {
        let (registry, key, address) = registry();
        let now = clock::monotonic();
        let upstream = registry.upstream(&key);
        let target = upstream.target(address);
        upstream.settle(&target, false, Cause::Operator, now);
        drop((upstream, target));
        registry.tidy(now);
        let later = |seconds| now + Duration::from_secs(seconds);
        registry.tidy(later(299));
        let upstream = registry.upstream(&key);
        let target = upstream.target(address);
        assert!(!target.health().is_healthy(), "kept");
        // In use again, so that the time begins anew when it is not.
        registry.tidy(later(400));
        drop((upstream, target));
        registry.tidy(later(500));
        registry.tidy(later(799));
        assert!(
            !registry.upstream(&key).target(address).health().is_healthy(),
            "kept"
        );
        registry.tidy(later(800));
        assert!(
            registry.upstream(&key).target(address).health().is_healthy(),
            "forgotten"
        );
    }

    #[test]
    fn an_address_is_forgotten_though_its_upstream_stays() {
        let (registry, key, address) = registry();
        let now = clock::monotonic();
        let upstream = registry.upstream(&key);
        upstream.settle(&upstream.target(address), false, Cause::Operator, now);
        registry.tidy(now);
        registry.tidy(now + KEPT_FOR);
        assert!(upstream.target(address).health().is_healthy());
    }

    #[test]
    fn requests_take_out_and_never_bring_back() {
        let (registry, key, address) = registry();
        let now = clock::monotonic();
        let upstream = registry.upstream(&key);
        let target = upstream.target(address);
        let report = |cause| upstream.report(&target, cause, &ONE_FAILURE, MEMORY, now);
        assert_eq!(upstream.flips(), 0);
        report(Cause::Request(Report::Timeout));
        assert_eq!(target.cause(), Cause::Request(Report::Timeout));
        assert_eq!(target.untold_change(), Some(false));
        assert_eq!(target.untold_change(), None);
        report(Cause::Request(Report::Success));
        assert!(!target.health().is_healthy());
        assert_eq!(target.back_for(now), None);
        report(Cause::Probe(Report::Success));
        assert!(target.health().is_healthy());
        assert_eq!(
            // Times are kept to the millisecond.
            target
                .back_for(now + Duration::from_millis(7_500))
                .map(|d| d.as_secs()),
            Some(7)
        );
        assert_eq!(upstream.flips(), 2);
    }

    #[test]
    fn a_cause_survives_its_packing() {
        for report in [
            Report::Success,
            Report::HttpFailure,
            Report::TcpFailure,
            Report::Timeout,
        ] {
            for cause in [Cause::Probe(report), Cause::Request(report)] {
                assert_eq!(Cause::from_bits(cause.to_bits()), cause);
            }
        }
        for cause in [Cause::None, Cause::Operator, Cause::Rest] {
            assert_eq!(Cause::from_bits(cause.to_bits()), cause);
        }
    }

    #[test]
    fn reports_of_many_threads_are_all_counted() {
        let (registry, key, address) = registry();
        let upstream = registry.upstream(&key);
        let target = upstream.target(address);
        let thresholds = Thresholds {
            tcp_failures: 200,
            ..Thresholds::default()
        };
        let now = clock::monotonic();
        let report = |count| {
            for _ in 0..count {
                upstream.report(
                    &target,
                    Cause::Request(Report::TcpFailure),
                    &thresholds,
                    MEMORY,
                    now,
                );
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| report(49));
            }
        });
        report(3);
        assert!(target.health().is_healthy());
        report(1);
        assert!(!target.health().is_healthy());
        assert_eq!(upstream.flips(), 1);
    }

    #[test]
    fn permits_are_limited_and_given_back() {
        let state = Arc::new(UpstreamState::default());
        let permits: Vec<_> = (0..3).map(|_| state.permit_retry(2)).collect();
        assert_eq!(
            permits.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(state.permit_retry(3).is_some(), "and given back at once");
        drop(permits);
        assert!(state.permit_retry(1).is_some());
        assert!(state.permit_retry(0).is_none());
    }
}
