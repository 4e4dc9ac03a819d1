//! Moves every ramp on, and shows the share in force of every release.

use std::collections::HashSet;
use std::time::Duration;

use log::warn;
use pingora_core::server::ShutdownWatch;

use super::schedule::next_change;
use super::{Jump, Releases};
use crate::clock;
use crate::metrics::metrics;
use crate::model::{Schedule, Share};
use crate::snapshot::{Audience, Published, Rule, Split};

/// How often the clocks are compared while a ramp is under way.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest pause between two steps; finer ones are taken together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Moves ramps on until shutdown. Publishing a snapshot wakes it.
pub async fn run(published: &Published, releases: &Releases, mut shutdown: ShutdownWatch) {
    let mut generation = published.watch();
    let mut shown = HashSet::new();
    loop {
        generation.mark_unchanged();
        let snapshot = published.current();
        let next = move_on(&snapshot.rules);
        show(&snapshot.rules, &mut shown);
        drop(snapshot);
        releases.tidy(clock::monotonic());
        let pause = async {
            match next {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            _ = generation.changed() => {}
            _ = shutdown.changed() => return,
        }
    }
}

/// Moves every ramp on to this moment and returns how long to wait; `None` when there is none left to move.
fn move_on(rules: &[std::sync::Arc<Rule>]) -> Option<Duration> {
    let (wall, monotonic) = clock::now();
    let mut pause: Option<Duration> = None;
    for rule in rules {
        let Some((split, Schedule::Ramp(ramp))) = split_of(rule).map(|split| (split, &split.schedule)) else {
            continue;
        };
        let (share, effective, jump) = rule.state.advance(ramp, wall, monotonic);
        split.set_share(share);
        if let Some(jump) = jump {
            tell(jump, rule);
        }
        if let Some(next) = next_change(ramp, effective) {
            let left = next.saturating_sub(effective).clamp(LEAST_PAUSE, LOOK);
            pause = Some(pause.map_or(left, |pause| pause.min(left)));
        }
    }
    pause
}

fn split_of(rule: &Rule) -> Option<&Split> {
    match &rule.audience {
        Audience::Share(split) => Some(split),
        Audience::Allow(_) | Audience::Deny(_) => None,
    }
}

fn tell(jump: Jump, rule: &Rule) {
    let of = rule.scope.join("/");
    match jump {
        Jump::Back => {
            warn!("the clock was set back: the canary of {of} stays at its share until it has caught up")
        }
        Jump::Forward => warn!("the clock was set forward: the canary of {of} follows slowly"),
    }
}

/// Shows the shares in force, and takes out those of releases that are gone.
fn show(rules: &[std::sync::Arc<Rule>], shown: &mut HashSet<[String; 2]>) {
    let gauge = &metrics().release_share;
    let mut now = HashSet::with_capacity(shown.len());
    for rule in rules {
        if let Some(split) = split_of(rule) {
            let ratio = f64::from(split.share().basis_points()) / f64::from(Share::WHOLE);
            gauge.with_label_values(&rule.scope).set(ratio);
            now.insert(rule.scope.clone());
        }
    }
    for gone in shown.difference(&now) {
        let _ = gauge.remove_label_values(gone);
    }
    *shown = now;
}
