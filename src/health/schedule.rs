//! When which probe runs. Knows neither Targets nor sockets; time is an argument.
//!
//! - Each probe has a place of its own in its interval, which follows from a hash of what it probes,
//!   so that many Targets with one interval are spread over it and neither a reload nor a neighbour
//!   moves it.
//! - A hash does not spread evenly, and Targets that go down together would be probed together. So
//!   starts are paced besides: no more than twice the mean rate over any half second, whatever comes
//!   due at once. Whoever comes too close behind another waits for its turn.
//! - Probes under way are bounded, for each group (an Upstream's `concurrency`) and for all.
//! - A probe is never due twice: one that took longer than its interval is next due at its next place.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Probes under way at once: enough for 1,000 Targets that swallow every probe for a second, probed
/// every five. Each costs a socket and a few kilobytes.
pub const MAX_UNDER_WAY: usize = 256;
/// Shortest interval, Kong's: its checks look every 0.1 s whether one is due.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Probes that are due within this time start together: the thread wakes on a grid of this width. Probes one
/// by one cost half as much again, by wake-ups and cold caches; half of Kong's shortest interval.
const TICK: Duration = Duration::from_millis(50);
/// Shortest mean time between two starts, as a part of what it is when all are spread evenly. A little more
/// than half makes up for what a tick starts at once: (500 ms + a tick) / 0.55 is twice 500 ms.
const CLOSEST: f64 = 0.55;

/// Names a probe.
pub type ProbeId = u64;
/// Names a group of probes that share a bound.
pub type GroupId = u64;

/// The probes and when they are due.
#[derive(Debug)]
pub struct Schedule {
    /// Where intervals are counted from.
    origin: Instant,
    probes: HashMap<ProbeId, Probe>,
    groups: HashMap<GroupId, Group>,
    due: BTreeSet<(Instant, ProbeId)>,
    /// Groups of the probes under way, removed ones included.
    under_way: HashMap<ProbeId, GroupId>,
    /// How many probes have which interval, for the mean rate.
    intervals: BTreeMap<Duration, u32>,
    /// No probe starts before this.
    next_start: Option<Instant>,
}

#[derive(Debug)]
struct Probe {
    group: GroupId,
    interval: Duration,
    /// Offset in each interval, as a fraction of 2^64.
    place: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(Instant),
    /// Its group has its fill under way.
    Waiting,
    UnderWay,
}

#[derive(Debug, Default)]
struct Group {
    limit: usize,
    members: usize,
    under_way: usize,
    waiting: VecDeque<ProbeId>,
}

impl Schedule {
    /// Makes an empty schedule.
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            probes: HashMap::new(),
            groups: HashMap::new(),
            due: BTreeSet::new(),
            under_way: HashMap::new(),
            intervals: BTreeMap::new(),
            next_start: None,
        }
    }

    /// Sets how many probes of a group may be under way at once.
    pub fn set_limit(&mut self, group: GroupId, limit: usize) {
        self.groups.entry(group).or_default().limit = limit.max(1);
    }

    /// Makes a probe run every `interval`, at `place` in it (as a fraction of 2^64). One that does so
    /// already is left alone; with another interval it is due at its next place in that.
    pub fn set(&mut self, id: ProbeId, group: GroupId, interval: Duration, place: u64, now: Instant) {
        let interval = interval.max(MIN_INTERVAL);
        let mut state = State::Due(next_place(self.origin, interval, place, now));
        if let Some(probe) = self.probes.get(&id) {
            if probe.interval == interval {
                return;
            }
            state = match probe.state {
                State::Due(_) => state,
                busy => busy,
            };
            self.forget(id);
        }
        if let State::Due(at) = state {
            self.due.insert((at, id));
        }
        *self.intervals.entry(interval).or_default() += 1;
        self.groups.entry(group).or_default().members += 1;
        let probe = Probe {
            group,
            interval,
            place,
            state,
        };
        self.probes.insert(id, probe);
    }

    /// Stops a probe. One that is under way still ends by [`Schedule::done`].
    pub fn remove(&mut self, id: ProbeId) {
        if let Some(group) = self.forget(id) {
            self.drop_idle_group(group);
        }
    }

    fn forget(&mut self, id: ProbeId) -> Option<GroupId> {
        let probe = self.probes.remove(&id)?;
        if let State::Due(at) = probe.state {
            self.due.remove(&(at, id));
        }
        if let Some(count) = self.intervals.get_mut(&probe.interval) {
            *count -= 1;
            if *count == 0 {
                self.intervals.remove(&probe.interval);
            }
        }
        if let Some(group) = self.groups.get_mut(&probe.group) {
            group.members -= 1;
        }
        Some(probe.group)
    }

    fn drop_idle_group(&mut self, id: GroupId) {
        if self
            .groups
            .get(&id)
            .is_some_and(|group| group.members == 0 && group.under_way == 0)
        {
            self.groups.remove(&id);
        }
    }

    /// Starts the probe that has been due for longest, if one is due and may start.
    pub fn start_next(&mut self, now: Instant) -> Option<ProbeId> {
        if self.under_way.len() >= MAX_UNDER_WAY || self.next_start.is_some_and(|at| now < at) {
            return None;
        }
        loop {
            let (at, id) = *self.due.first()?;
            if at > now {
                return None;
            }
            self.due.pop_first();
            let probe = self.probes.get_mut(&id)?;
            let group = self.groups.entry(probe.group).or_default();
            if group.under_way >= group.limit {
                probe.state = State::Waiting;
                group.waiting.push_back(id);
                continue;
            }
            probe.state = State::UnderWay;
            group.under_way += 1;
            self.under_way.insert(id, probe.group);
            let earliest = now.checked_sub(TICK).unwrap_or(now);
            let paced_from = self.next_start.map_or(now, |at| at.max(earliest));
            self.next_start = Some(paced_from + self.shortest_gap());
            return Some(id);
        }
    }

    /// Ends a probe; it is due again at its next place.
    pub fn done(&mut self, id: ProbeId, now: Instant) {
        if let Some(probe) = self.probes.get_mut(&id)
            && probe.state == State::UnderWay
        {
            let at = next_place(self.origin, probe.interval, probe.place, now);
            probe.state = State::Due(at);
            self.due.insert((at, id));
        }
        let Some(group_id) = self.under_way.remove(&id) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        group.under_way -= 1;
        while let Some(next) = group.waiting.pop_front() {
            // It may have been removed, and even set again, meanwhile.
            if let Some(probe) = self.probes.get_mut(&next)
                && probe.state == State::Waiting
            {
                probe.state = State::Due(now);
                self.due.insert((now, next));
                break;
            }
        }
        self.drop_idle_group(group_id);
    }

    /// Returns when [`Schedule::start_next`] is worth calling again, unless a probe ends before: the
    /// first instant of the grid at which a probe is due.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let (at, _) = self.due.first()?;
        let at = self.next_start.map_or(*at, |start| start.max(*at));
        let past_grid = at.saturating_duration_since(self.origin).as_nanos() % TICK.as_nanos();
        Some(match u64::try_from(past_grid) {
            Ok(0) | Err(_) => at,
            Ok(past_grid) => at + TICK - Duration::from_nanos(past_grid),
        })
    }

    /// The time that a start takes up; see [`CLOSEST`].
    fn shortest_gap(&self) -> Duration {
        let rate: f64 = self
            .intervals
            .iter()
            .map(|(interval, count)| f64::from(*count) / interval.as_secs_f64())
            .sum();
        Duration::try_from_secs_f64(CLOSEST / rate).unwrap_or_default()
    }
}

/// Returns the first instant after `now` that has this place in its interval.
fn next_place(origin: Instant, interval: Duration, place: u64, now: Instant) -> Instant {
    let interval_ns = interval.as_nanos();
    let offset = (interval_ns * u128::from(place)) >> 64;
    let elapsed = now.saturating_duration_since(origin).as_nanos();
    let rounds = match elapsed.checked_sub(offset) {
        None => 0,
        Some(since) => since / interval_ns + 1,
    };
    let nanos = offset + rounds * interval_ns;
    origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::health::job::place_of;

    const MS: Duration = Duration::from_millis(1);

    /// Runs a schedule under a manual clock that ticks every millisecond, each probe taking `takes`
    /// ticks, and returns at which tick which probe started.
    fn run(
        schedule: &mut Schedule,
        origin: Instant,
        ticks: std::ops::Range<u32>,
        takes: u32,
    ) -> Vec<(u32, ProbeId)> {
        let mut started = Vec::new();
        let mut ends: VecDeque<(u32, ProbeId)> = VecDeque::new();
        for tick in ticks {
            let now = origin + MS * tick;
            while ends.front().is_some_and(|(at, _)| *at <= tick) {
                let (_, id) = ends.pop_front().unwrap();
                schedule.done(id, now);
            }
            while let Some(id) = schedule.start_next(now) {
                started.push((tick, id));
                ends.push_back((tick.saturating_add(takes), id));
            }
        }
        started
    }

    /// Most starts within any `window` ticks.
    fn busiest(started: &[(u32, ProbeId)], window: u32) -> usize {
        (0..started.len())
            .map(|first| {
                started[first..]
                    .iter()
                    .take_while(|(tick, _)| *tick < started[first].0 + window)
                    .count()
            })
            .max()
            .unwrap_or_default()
    }

    fn place(number: u64) -> u64 {
        place_of("shop", ([10, 0, (number >> 8) as u8, number as u8], 80).into())
    }

    #[test]
    fn a_thousand_targets_make_no_burst_over_twice_the_mean_rate() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1000);
        for id in 0..1000 {
            schedule.set(id, 1, Duration::from_secs(5), place(id), origin);
        }
        let started = run(&mut schedule, origin, 0..20_000, 3);
        // 200 a second: 100 within 500 ms, if evenly. One more because a window begins with a start.
        for (window, most) in [(100, 55), (500, 201), (1000, 382)] {
            assert!(
                busiest(&started, window) <= most,
                "{} in {window} ms",
                busiest(&started, window)
            );
        }
        // Each probe ran once in each interval.
        let mut counts = [0; 1000];
        for (_, id) in &started {
            counts[*id as usize] += 1;
        }
        assert!(counts.iter().all(|count| (3..=4).contains(count)), "{counts:?}");
    }

    #[test]
    fn probes_that_are_due_together_share_a_wake_up() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1000);
        for id in 0..1000 {
            schedule.set(id, 1, Duration::from_secs(5), place(id), origin);
        }
        let (mut wakes, mut started, mut now) = (0, Vec::new(), origin);
        while now < origin + MS * 20_000 {
            now = schedule.next_wake().unwrap();
            wakes += 1;
            while let Some(id) = schedule.start_next(now) {
                started.push(((now - origin).as_millis() as u32, id));
                schedule.done(id, now);
            }
        }
        // 4,000 probes in 400 ticks.
        assert!(wakes <= 401, "{wakes}");
        assert!((3_990..=4_001).contains(&started.len()), "{}", started.len());
        assert!(busiest(&started, 500) <= 201, "{}", busiest(&started, 500));
    }

    #[test]
    fn targets_that_go_down_together_are_not_probed_together() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1000);
        for id in 0..1000 {
            schedule.set(id, 1, Duration::from_secs(10), place(id), origin);
        }
        run(&mut schedule, origin, 0..10_000, 1);
        let now = origin + MS * 10_000;
        for id in 0..1000 {
            schedule.set(id, 1, Duration::from_secs(1), place(id), now);
        }
        let started = run(&mut schedule, origin, 10_000..13_000, 1);
        assert!(
            busiest(&started, 500) <= 2 * 500 + 1,
            "{}",
            busiest(&started, 500)
        );
        assert!((2900..=3000).contains(&started.len()), "{}", started.len());
    }

    #[test]
    fn a_thread_that_stood_still_does_not_catch_up() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1000);
        for id in 0..1000 {
            schedule.set(id, 1, Duration::from_secs(5), place(id), origin);
        }
        let started = run(&mut schedule, origin, 30_000..35_000, 1);
        assert!(busiest(&started, 500) <= 201, "{}", busiest(&started, 500));
    }

    #[test]
    fn a_probe_keeps_its_place_whatever_its_neighbours_do() {
        let origin = clock::monotonic();
        let alone = {
            let mut schedule = Schedule::new(origin);
            schedule.set_limit(1, 10);
            schedule.set(7, 1, Duration::from_secs(2), place(7), origin);
            run(&mut schedule, origin, 0..10_000, 1)
        };
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 10);
        schedule.set(7, 1, Duration::from_secs(2), place(7), origin);
        let mut started = run(&mut schedule, origin, 0..5_000, 1);
        let opposite = place(7).wrapping_add(1 << 63);
        schedule.set(8, 1, Duration::from_secs(2), opposite, origin + MS * 5_000);
        // Set again, as after a reload.
        schedule.set(7, 1, Duration::from_secs(2), place(7), origin + MS * 5_000);
        started.extend(run(&mut schedule, origin, 5_000..10_000, 1));
        started.retain(|(_, id)| *id == 7);
        assert_eq!(started, alone);
    }

    #[test]
    fn a_group_has_no_more_under_way_than_its_limit_and_holds_up_no_other() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 2);
        schedule.set_limit(2, 2);
        for id in 0..10 {
            schedule.set(id, 1, Duration::from_secs(1), place(id), origin);
        }
        schedule.set(10, 2, Duration::from_secs(1), place(10), origin);
        // Nothing ends, so the first group is stuck with two under way.
        let started = run(&mut schedule, origin, 0..3_000, u32::MAX);
        let of_first: Vec<_> = started.iter().filter(|(_, id)| *id < 10).collect();
        assert_eq!(of_first.len(), 2);
        assert_eq!(started.len(), 3);
        // One ends, the one that waited longest starts, and so on round them all.
        let mut last = of_first[0].1;
        let mut seen = BTreeSet::new();
        for tick in 3_000..6_000 {
            let now = origin + MS * tick;
            if let Some(id) = schedule.start_next(now) {
                seen.insert(id);
                last = id;
            }
            schedule.done(last, now);
        }
        assert!(seen.len() >= 9, "{seen:?}");
    }

    #[test]
    fn all_probes_together_are_bounded() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        for id in 0..1000 {
            schedule.set_limit(id, 10);
            schedule.set(id, id, Duration::from_secs(1), place(id), origin);
        }
        let started = run(&mut schedule, origin, 0..5_000, u32::MAX);
        assert_eq!(started.len(), MAX_UNDER_WAY);
        assert_eq!(schedule.next_wake(), None);
    }

    #[test]
    fn a_probe_that_is_removed_while_under_way_leaves_nothing_behind() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1);
        schedule.set(1, 1, Duration::from_secs(1), 0, origin);
        let now = origin + Duration::from_secs(2);
        assert_eq!(schedule.start_next(now), Some(1));
        schedule.remove(1);
        assert_eq!(schedule.next_wake(), None);
        schedule.done(1, now);
        assert!(schedule.groups.is_empty() && schedule.under_way.is_empty() && schedule.intervals.is_empty());
        assert_eq!(schedule.start_next(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn a_probe_slower_than_its_interval_skips_places() {
        let origin = clock::monotonic();
        let mut schedule = Schedule::new(origin);
        schedule.set_limit(1, 1);
        schedule.set(1, 1, Duration::from_secs(1), 1 << 63, origin);
        let started = run(&mut schedule, origin, 0..6_000, 1200);
        let ticks: Vec<u32> = started.into_iter().map(|(tick, _)| tick).collect();
        assert_eq!(ticks, [500, 2500, 4500]);
    }
}
