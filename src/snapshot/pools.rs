//! Which pool a host stands for: the Upstream of that name, or else the host itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ahash::RandomState;
use uuid::Uuid;

use super::{Builder, Upstream};
use crate::model::{self, Algorithm, HealthChecks, Target, TargetHost, UpstreamKey, Weight};
use crate::priority::patiently;

/// The pools of the snapshot being built, each compiled or taken over once.
pub(super) struct Pools<'a> {
    builder: &'a Builder<'a>,
    /// Upstreams that are declared, in their order.
    declared: Vec<Arc<Upstream>>,
    /// By name, the position among them.
    named: HashMap<&'a str, usize, RandomState>,
    /// Names for which there is another pool than before, or none where there was one, or one where there
    /// was none.
    changed: HashSet<&'a str, RandomState>,
    /// Hosts that are dialled directly.
    direct: Vec<Arc<Upstream>>,
    /// By address, which of those are among them.
    in_use: HashSet<*const Upstream, RandomState>,
    /// Those of the snapshot before, and those built since; made when first needed.
    known: Option<HashMap<UpstreamKey, Arc<Upstream>, RandomState>>,
}

impl<'a> Pools<'a> {
    /// Compiles the Upstreams that are declared, or takes them over.
    pub(super) fn new(builder: &'a Builder<'a>, sources: &'a [Arc<model::Upstream>]) -> Self {
        let previous = builder.previous.map_or(&[][..], |snapshot| &snapshot.upstreams);
        let previous: HashMap<&str, &Arc<Upstream>, RandomState> = previous
            .iter()
            .filter_map(|upstream| match &upstream.key {
                UpstreamKey::Named(name) => Some((&**name, upstream)),
                UpstreamKey::Direct(..) => None,
            })
            .collect();
        let mut pools = Self {
            builder,
            declared: Vec::with_capacity(sources.len()),
            named: HashMap::with_capacity_and_hasher(sources.len(), RandomState::default()),
            changed: HashSet::default(),
            direct: Vec::new(),
            in_use: HashSet::default(),
            known: None,
        };
        for source in patiently(sources) {
            let known = previous.get(&*source.name);
            let upstream = match known.filter(|known| known.is_built_from(source, builder.secret)) {
                Some(known) => Arc::clone(known),
                None => {
                    pools.changed.insert(&source.name);
                    pools.compile(UpstreamKey::Named(source.name.clone()), source.clone())
                }
            };
            pools.named.insert(&source.name, pools.declared.len());
            pools.declared.push(upstream);
        }
        let gone = previous
            .into_keys()
            .filter(|name| !pools.named.contains_key(name));
        pools.changed.extend(gone);
        pools
    }

    /// Says whether the pool that a host stood for is still the right one, and keeps it then.
    pub(super) fn keep(&mut self, host: &str, upstream: &Arc<Upstream>) -> bool {
        let is_right = !self.changed.contains(host);
        if is_right {
            self.add(upstream);
        }
        is_right
    }

    /// Returns the pool that a host stands for.
    pub(super) fn at(&mut self, host: &str, port: u16) -> Arc<Upstream> {
        if let Some(&position) = self.named.get(host) {
            return self.declared[position].clone();
        }
        let host = TargetHost::parse(host);
        let key = UpstreamKey::Direct(host.clone(), port);
        // Nothing but the key makes one differ from another.
        let upstream = match self.known().get(&key) {
            Some(known) => known.clone(),
            None => {
                let upstream = self.compile(key.clone(), Arc::new(direct_upstream(host, port)));
                self.known().insert(key, upstream.clone());
                upstream
            }
        };
        self.add(&upstream);
        upstream
    }

    /// Returns every pool: those that are declared, then those in use that are not.
    pub(super) fn into_all(self) -> Vec<Arc<Upstream>> {
        let mut all = self.declared;
        all.extend(self.direct);
        all
    }

    fn compile(&self, key: UpstreamKey, source: Arc<model::Upstream>) -> Arc<Upstream> {
        let Builder { secret, observed, .. } = *self.builder;
        Arc::new(Upstream::build(key, source, secret, observed))
    }

    /// What is declared is in use as it is.
    fn add(&mut self, upstream: &Arc<Upstream>) {
        let is_direct = matches!(upstream.key, UpstreamKey::Direct(..));
        if is_direct && self.in_use.insert(Arc::as_ptr(upstream)) {
            self.direct.push(upstream.clone());
        }
    }

    fn known(&mut self) -> &mut HashMap<UpstreamKey, Arc<Upstream>, RandomState> {
        self.known.get_or_insert_with(|| {
            let previous = self
                .builder
                .previous
                .map_or(&[][..], |snapshot| &snapshot.upstreams);
            let direct = previous
                .iter()
                .filter(|upstream| matches!(upstream.key, UpstreamKey::Direct(..)));
            direct
                .map(|upstream| (upstream.key.clone(), upstream.clone()))
                .collect()
        })
    }
}

/// A Service whose host names no Upstream is dialled directly: an Upstream of one Target.
fn direct_upstream(host: TargetHost, port: u16) -> model::Upstream {
    let target = Target {
        id: Uuid::nil(),
        host,
        port,
        weight: Weight::default(),
    };
    model::Upstream {
        id: Uuid::nil(),
        name: target.label(),
        algorithm: Algorithm::RoundRobin,
        host_header: None,
        health: HealthChecks::default(),
        slow_start: None,
        targets: vec![target],
    }
}
