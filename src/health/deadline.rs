//! The time after which what is left at a Target out of rotation is closed: `target_drain`.
//!
//! Off unless an operator sets it; then one look at the registry when a time is over, a snapshot comes,
//! or something is left to be closed. It is looked at anew whether the address is out, so that a switch
//! back cancels it, and so does a name that stands for the address again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use log::info;
use tokio::time::sleep_until;

use super::Observed;
use crate::clock;
use crate::connection::end_exchanges;
use crate::snapshot::{Published, Snapshot};

/// How soon it is looked again at an address whose time is over and that still serves something: a
/// request of an older snapshot has come late, or has yet to notice that it was closed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How soon at one that serves nothing, but may yet get such a request.
const LOOK_LATER: Duration = Duration::from_secs(10);

/// Closes what is left wherever the time is over, as long as the process runs.
pub(super) async fn run(published: &Published, observed: &Observed) {
    let mut generation = published.watch();
    loop {
        let snapshot = published.current();
        let look_due = close_overdue(&snapshot, observed, clock::monotonic());
        drop(snapshot);
        let is_time = async {
            match look_due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_time => {}
            changed = generation.changed() => if changed.is_err() { return },
        }
    }
}

/// Closes what is overdue and returns when to look again.
fn close_overdue(snapshot: &Snapshot, observed: &Observed, now: Instant) -> Option<Instant> {
    let limit = snapshot.settings.timeouts.target_drain?;
    let routed = snapshot.routed_upstreams();
    let mut look_due: Option<Instant> = None;
    let mut is_due = |at: Instant| look_due = Some(look_due.map_or(at, |due| due.min(at)));
    for (key, upstream) in observed.registry.upstreams() {
        let in_rotation = match routed.contains(&key) {
            true => snapshot.upstreams.iter().find(|one| one.key == key),
            false => None,
        };
        let in_rotation = in_rotation.map_or_else(HashSet::new, |upstream| upstream.addresses());
        for (address, target) in upstream.targets() {
            let Some(out_for) = target.out_for(now) else {
                continue;
            };
            if in_rotation.contains(&address) {
                target.take_in();
                continue;
            }
            let left = limit.saturating_sub(out_for);
            if !left.is_zero() {
                is_due(now + left);
                continue;
            }
            if target.in_flight() == 0 {
                is_due(now + LOOK_LATER);
                continue;
            }
            let closed = end_exchanges(|place| place == target.place());
            if closed > 0 {
                info!(
                    "upstream {}: {address} has been out of rotation for {limit:?}; closed what was left: {closed}",
                    key.label(),
                );
            }
            is_due(now + LOOK_AGAIN);
        }
    }
    look_due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::drain::tests::{Bench, config};

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns in how many seconds it has to be looked again, rounded up.
    fn look_due(bench: &Bench, now: Instant) -> Option<u64> {
        let due = close_overdue(&bench.published.current(), &bench.observed, now)?;
        Some((due - now + SECOND / 2).as_secs())
    }

    fn limited(host: &str) -> String {
        let upstreams: [(&str, &[u16]); 2] = [("blue", &[1]), ("green", &[1])];
        config(host, &upstreams) + "server: {timeouts: {target_drain: 60s}}\n"
    }

    #[test]
    fn it_is_looked_when_a_time_is_over_and_while_something_is_left() {
        let bench = Bench::new(&limited("blue"));
        let blue = bench.state("blue", 1);
        blue.begin();
        let now = clock::monotonic();
        assert_eq!(look_due(&bench, now), None, "nothing is out");
        bench.reload(&limited("green"));
        let now = clock::monotonic();
        assert_eq!(look_due(&bench, now), Some(60));
        assert_eq!(look_due(&bench, now + 50 * SECOND), Some(10));
        assert_eq!(look_due(&bench, now + 61 * SECOND), Some(1));
        blue.end();
        assert_eq!(look_due(&bench, now + 61 * SECOND), Some(10));
        bench.reload(&limited("blue"));
        let now = clock::monotonic();
        // Now green's time runs.
        assert_eq!(look_due(&bench, now), Some(60));
        assert_eq!(blue.out_for(now), None);
    }

    #[test]
    fn nobody_looks_while_it_is_unlimited() {
        let upstreams: [(&str, &[u16]); 2] = [("blue", &[1]), ("green", &[1])];
        let bench = Bench::new(&config("blue", &upstreams));
        bench.reload(&config("green", &upstreams));
        assert_eq!(look_due(&bench, clock::monotonic() + 1000 * SECOND), None);
    }

    /// As when a name stands for an address again that was out.
    #[test]
    fn what_is_in_rotation_is_left_alone_whatever_was_noted() {
        let bench = Bench::new(&limited("blue"));
        let (blue, now) = (bench.state("blue", 1), clock::monotonic());
        blue.begin();
        blue.take_out(now);
        assert_eq!(look_due(&bench, now + 100 * SECOND), None);
        assert_eq!(blue.out_for(now), None);
    }
}
