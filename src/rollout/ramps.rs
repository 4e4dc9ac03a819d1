//! Moves every ramp on, and shows the share in force of every release.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use log::warn;
use pingora_core::server::ShutdownWatch;
use serde_json::Value;
use uuid::Uuid;

use super::schedule::next_change;
use super::{Jump, Releases};
use crate::clock;
use crate::config::reload::with_causes;
use crate::metrics::metrics;
use crate::model::{Schedule, Share};
use crate::snapshot::{Audience, Published, Rule, Split};
use crate::store::Store;

/// How often the clocks are compared while a ramp is under way.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest pause between two steps; finer ones are taken together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// How often it is written down how far ramps have come, if any has moved. A process that is killed and
/// a clock that is set back before the next start lower a share by what this time makes at most.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// Moves ramps on until shutdown. Publishing a snapshot wakes it.
pub async fn run(published: &Published, releases: &Releases, store: &dyn Store, mut shutdown: ShutdownWatch) {
    let mut generation = published.watch();
    let mut shown = HashSet::new();
    let mut marks = Marks::default();
    loop {
        generation.mark_unchanged();
        let snapshot = published.current();
        let next = move_on(&snapshot.rules);
        show(&snapshot.rules, &mut shown);
        drop(snapshot);
        releases.tidy(clock::monotonic());
        marks.keep(releases, store).await;
        let pause = async {
            match next {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            _ = generation.changed() => {}
            _ = shutdown.changed() => {
                marks.at = None;
                return marks.keep(releases, store).await;
            }
        }
    }
}

/// What was written down last.
#[derive(Default)]
struct Marks {
    kept: Vec<(Uuid, Value)>,
    at: Option<Instant>,
}

impl Marks {
    /// Writes down how far ramps have come, unless that was done a moment ago or nothing has moved.
    async fn keep(&mut self, releases: &Releases, store: &dyn Store) {
        let now = clock::monotonic();
        if self
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < MARK_EVERY)
        {
            return;
        }
        let marks = releases.marks();
        if marks == self.kept {
            return;
        }
        let gone = self
            .kept
            .iter()
            .filter(|(plugin, _)| !marks.iter().any(|(other, _)| other == plugin));
        let notes = gone
            .map(|(plugin, _)| (*plugin, None))
            .chain(marks.iter().map(|(plugin, mark)| (*plugin, Some(mark.clone()))));
        match store.note(notes.collect()).await {
            Ok(()) => self.kept = marks,
            Err(error) => warn!("cannot keep how far ramps have come: {}", with_causes(&error)),
        }
        self.at = Some(now);
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
