//! What was built the last time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::finding::Findings;
use super::parts::Parts;
use crate::entity::{Entity, State};
use crate::model::{CaCertificate, Certificate, Consumer, List, Plugin, Route, Service, Upstream};
use crate::priority::patiently;

/// The parts of the last model, each with what it was built from.
#[derive(Debug, Default)]
pub struct Memo {
    pub(super) services: Built<Service>,
    pub(super) routes: Built<Route>,
    pub(super) upstreams: Built<Upstream>,
    pub(super) consumers: Built<Consumer>,
    pub(super) plugins: Built<Plugin>,
    pub(super) certificates: Built<Certificate>,
    pub(super) ca_certificates: Built<CaCertificate>,
}

/// Lists that are remembered: that of what files say and that of what is in force take turns.
const MADE: usize = 2;

/// Parts of one type, and the lists of them that were made last.
pub(super) struct Built<T> {
    parts: HashMap<Uuid, Part<T>, ahash::RandomState>,
    /// The latest is the first.
    made: Vec<Made<T>>,
}

struct Made<T> {
    /// What the list was made from: the entities themselves, then what belongs to them.
    sources: Vec<Arc<[Arc<Entity>]>>,
    list: List<T>,
    findings: Findings,
}

struct Part<T> {
    from: Vec<Arc<Entity>>,
    part: Arc<T>,
    findings: Findings,
}

impl Memo {
    /// Forgets the parts of entities that are no longer there.
    pub(crate) fn retain(&mut self, state: &State) {
        fn retain<T>(built: &mut Built<T>, state: &State) {
            let kind = built
                .parts
                .values()
                .find_map(|part| Some(part.from.first()?.kind));
            // While none is too many nothing was removed, and looking at each would cost more than it finds.
            if let Some(kind) = kind.filter(|kind| built.parts.len() > state.count(*kind)) {
                built.parts.retain(|id, _| state.get(kind, *id).is_some());
            }
        }
        retain(&mut self.services, state);
        retain(&mut self.routes, state);
        retain(&mut self.upstreams, state);
        retain(&mut self.consumers, state);
        retain(&mut self.plugins, state);
        retain(&mut self.certificates, state);
        retain(&mut self.ca_certificates, state);
    }
}

impl<T> Built<T> {
    /// Takes the list over, or builds it if what it is made from has changed.
    pub(super) fn all(
        &mut self,
        sources: Vec<Arc<[Arc<Entity>]>>,
        findings: &mut Findings,
        build: impl Fn(&[Arc<Entity>], &mut Findings) -> Option<T>,
    ) -> List<T> {
        let is_of = |made: &Made<T>| {
            let mut pairs = made.sources.iter().zip(&sources);
            pairs.all(|(before, now)| Arc::ptr_eq(before, now))
        };
        match self.made.iter().position(is_of) {
            Some(at) => self.made.swap(0, at),
            None => {
                let made = self.make(sources, build);
                self.made.insert(0, made);
                self.made.truncate(MADE);
            }
        }
        let Made {
            list, findings: own, ..
        } = &self.made[0];
        findings.0.extend(own.0.iter().cloned());
        list.clone()
    }

    fn make(
        &mut self,
        sources: Vec<Arc<[Arc<Entity>]>>,
        build: impl Fn(&[Arc<Entity>], &mut Findings) -> Option<T>,
    ) -> Made<T> {
        let mut findings = Findings::default();
        let (entities, others) = sources.split_first().expect("every list is of some kind");
        let parts = Parts::of(others.iter().flat_map(|others| others.iter()));
        let mut from = Vec::new();
        let list = patiently(&**entities).filter_map(|entity| {
            from.clear();
            from.push(entity);
            from.extend(parts.of_parent(entity.id));
            self.take(&from, &mut findings, &build)
        });
        let list = list.collect();
        Made {
            sources,
            list,
            findings,
        }
    }

    /// Takes a part over, or builds it if what it is made from has changed.
    fn take(
        &mut self,
        from: &[&Arc<Entity>],
        all: &mut Findings,
        build: impl Fn(&[Arc<Entity>], &mut Findings) -> Option<T>,
    ) -> Option<Arc<T>> {
        let id = from.first()?.id;
        if let Some(known) = self.parts.get(&id).filter(|part| are_the_same(&part.from, from)) {
            all.0.extend(known.findings.0.iter().cloned());
            return Some(known.part.clone());
        }
        let from: Vec<Arc<Entity>> = from.iter().copied().cloned().collect();
        let mut findings = Findings::default();
        let part = build(&from, &mut findings).map(Arc::new);
        all.0.extend(findings.0.iter().cloned());
        let part = part?;
        let known = Part {
            from,
            part: part.clone(),
            findings,
        };
        self.parts.insert(id, known);
        Some(part)
    }
}

/// Values that are shared are the same; others are built again rather than compared.
fn are_the_same(before: &[Arc<Entity>], now: &[&Arc<Entity>]) -> bool {
    before.len() == now.len()
        && before.iter().zip(now).all(|(before, now)| {
            Arc::ptr_eq(before, now)
                || (before.id == now.id
                    && Arc::ptr_eq(&before.values, &now.values)
                    && (before.created_at == now.created_at || !uses_its_age(now)))
        })
}

/// A ramp may start, and a key's life does begin, when the entity was made.
fn uses_its_age(entity: &Entity) -> bool {
    matches!(entity.kind.name(), "plugins" | "keyauth_credentials")
}

impl<T> Default for Built<T> {
    fn default() -> Self {
        Self {
            parts: HashMap::default(),
            made: Vec::new(),
        }
    }
}

impl<T> fmt::Debug for Built<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.parts.len())
    }
}
