//! What one snapshot has that another has not. What both have is the same part, so addresses tell.

use std::collections::HashSet;
use std::sync::Arc;

use ahash::RandomState;

use super::{Destination, Route, Snapshot};
use crate::priority::patiently;

/// Routes that came and went with a snapshot. A Route is another one when anything about it has changed, its
/// Service, its pool and its release among that.
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    /// Those that only the old one has.
    pub gone: Vec<&'a Route>,
    /// Those that only the new one has.
    pub came: Vec<&'a Route>,
    /// Those that both have.
    pub kept: Vec<&'a Route>,
}

impl<'a> Difference<'a> {
    /// Compares two snapshots.
    pub(super) fn between(old: &'a Snapshot, new: &'a Snapshot) -> Self {
        let of_old: HashSet<*const Route, RandomState> = old.routes.iter().map(Arc::as_ptr).collect();
        let mut difference = Self::default();
        for route in patiently(&new.routes) {
            match of_old.contains(&Arc::as_ptr(route)) {
                true => difference.kept.push(route),
                false => difference.came.push(route),
            }
        }
        if difference.kept.len() < old.routes.len() {
            let kept: HashSet<*const Route, RandomState> = difference
                .kept
                .iter()
                .map(|route| std::ptr::from_ref(*route))
                .collect();
            let gone = old
                .routes
                .iter()
                .filter(|route| !kept.contains(&Arc::as_ptr(route)));
            difference.gone.extend(gone.map(|route| &**route));
        }
        difference
    }

    /// Says whether both have the same Routes.
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.came.is_empty()
    }

    /// Returns what the Routes that went are called and none that is left is.
    pub(super) fn gone_labels<'b, L: Eq + std::hash::Hash + 'b>(
        &'b self,
        labels_of: impl Fn(&'b Route) -> Vec<L>,
    ) -> HashSet<L, RandomState> {
        let mut gone: HashSet<L, RandomState> = self.gone.iter().flat_map(|route| labels_of(route)).collect();
        // Those that came first: most often a Route went because it was replaced.
        for route in self.came.iter().chain(&self.kept) {
            if gone.is_empty() {
                break;
            }
            for label in labels_of(route) {
                gone.remove(&label);
            }
        }
        gone
    }
}

impl Route {
    /// Returns where its requests may go.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let stable = self.service.iter().map(|service| &service.stable);
        stable.chain(self.release.iter().map(|release| &release.canary))
    }
}
