//! A compiled release: where the canary is, and who gets it.
//!
//! A plugin that is for several Services has one [`Rule`], and a [`Release`] for each of them. The share
//! in force is a number that the control thread moves on; everything else is fixed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::HeaderName;
use prometheus::IntCounter;
use uuid::Uuid;

use super::{Builder, Consumers, Destination, GroupId, Service, Upstream};
use crate::balance::{Buckets, VisitorKey};
use crate::metrics::{Slot, metrics};
use crate::model::{
    self, Canary, CanaryDestination, Configuration, Identifier, PluginConfig, Reason, RouteProtocol,
    Schedule, Secret, Share, Variant,
};
use crate::rollout::{ReleaseState, Releases};

/// A release under trial of one Service.
#[derive(Debug)]
pub struct Release {
    /// Who gets the canary.
    pub rule: Arc<Rule>,
    /// Where the canary is.
    pub canary: Destination,
    service: Arc<str>,
    requests: [[Slot<IntCounter>; Reason::ALL.len()]; Variant::ALL.len()],
}

/// Who gets the canary.
#[derive(Debug)]
pub struct Rule {
    /// The plugin.
    pub plugin: Uuid,
    /// Schemes under which clients must come for it to apply.
    pub protocols: Vec<RouteProtocol>,
    /// Service and Route that the plugin is for, as metrics call them; empty for any.
    pub scope: [String; 2],
    /// Header field by which a client chooses.
    pub override_header: Option<HeaderName>,
    /// Stable serves what the canary cannot.
    pub falls_back: bool,
    /// Who gets it of those who do not choose.
    pub audience: Audience,
    /// What outlives this snapshot.
    pub state: Arc<ReleaseState>,
}

/// Who gets the canary of those who do not choose. Groups are in order.
#[derive(Debug)]
pub enum Audience {
    /// Consumers in one of these groups.
    Allow(Box<[GroupId]>),
    /// Everybody but Consumers in one of these groups.
    Deny(Box<[GroupId]>),
    /// A share.
    Share(Split),
}

/// A share of those who come.
#[derive(Debug)]
pub struct Split {
    /// How large, and when.
    pub schedule: Schedule,
    /// What of a request decides; the first that it has.
    pub identifiers: Vec<Identifier>,
    /// Groups whose Consumers get the canary whatever the share.
    pub groups_first: Box<[GroupId]>,
    /// The hash that buckets come from.
    pub buckets: Buckets,
    /// Signs the cookie, where one is an identifier.
    pub visitor_key: VisitorKey,
    /// Basis points in force. Relaxed: it stands for itself, and a request that reads it a moment late
    /// came a moment earlier.
    share: AtomicU16,
}

/// Compiles releases: one rule for each plugin, one release for each plugin and Service.
pub(super) struct ReleaseBuilder<'a> {
    context: RuleContext<'a>,
    labels: HashMap<Uuid, String>,
    rules: HashMap<Uuid, Arc<Rule>>,
    releases: HashMap<(Uuid, Uuid), Arc<Release>>,
}

/// What the compilation of a rule needs beside the model.
struct RuleContext<'a> {
    consumers: &'a Consumers,
    releases: &'a Releases,
    secret: Option<&'a Secret>,
    /// Wall clock, since 1970, and monotonic clock.
    now: (Duration, Duration),
}

impl<'a> ReleaseBuilder<'a> {
    /// Starts on a configuration.
    pub(super) fn new(builder: &Builder<'a>, source: &Configuration, consumers: &'a Consumers) -> Self {
        // Only what a plugin is for has to be named.
        let canaries = || {
            let is_canary = |plugin: &&Arc<model::Plugin>| matches!(plugin.config, PluginConfig::Canary(_));
            source.plugins.iter().filter(is_canary)
        };
        let scoped: HashSet<Uuid> = canaries().flat_map(|plugin| plugin.scope.ids()).collect();
        let is_scoped = |id: &Uuid| !scoped.is_empty() && scoped.contains(id);
        let services = source.services.iter().filter(|service| is_scoped(&service.id));
        let services = services.map(|service| (service.id, service.label().to_owned()));
        let routes = source.routes.iter().filter(|route| is_scoped(&route.id));
        let routes = routes.map(|route| (route.id, route.label()));
        Self {
            context: RuleContext {
                consumers,
                releases: &builder.observed.releases,
                secret: builder.secret,
                now: builder.now,
            },
            labels: services.chain(routes).collect(),
            rules: HashMap::new(),
            releases: HashMap::new(),
        }
    }

    /// Returns a canary's release of a Service; `upstream_at` finds the pool for a host and a port. `None`
    /// for any other plugin.
    pub(super) fn release(
        &mut self,
        plugin: &model::Plugin,
        source: &model::Service,
        service: &Service,
        upstream_at: impl FnOnce(&str, u16) -> Arc<Upstream>,
    ) -> Option<Arc<Release>> {
        let PluginConfig::Canary(canary) = &plugin.config else {
            return None;
        };
        let key = (plugin.id, source.id);
        if let Some(release) = self.releases.get(&key) {
            return Some(release.clone());
        }
        let CanaryDestination { host, port, uri } = &canary.destination;
        let upstream = upstream_at(
            host.as_deref().unwrap_or(&source.host),
            port.unwrap_or(source.port),
        );
        let path = uri.clone().unwrap_or_else(|| service.stable.path.clone());
        let release = Arc::new(Release {
            rule: self.rule(plugin, canary),
            canary: Destination::new(Variant::Canary, service.label.clone(), upstream, path),
            service: service.label.clone(),
            requests: Default::default(),
        });
        self.releases.insert(key, release.clone());
        Some(release)
    }

    /// Returns every rule that some release goes by.
    pub(super) fn into_rules(self) -> Vec<Arc<Rule>> {
        self.rules.into_values().collect()
    }

    fn rule(&mut self, plugin: &model::Plugin, canary: &Canary) -> Arc<Rule> {
        if let Some(rule) = self.rules.get(&plugin.id) {
            return rule.clone();
        }
        let label = |id: Option<Uuid>| {
            id.and_then(|id| self.labels.get(&id).cloned())
                .unwrap_or_default()
        };
        let scope = [label(plugin.scope.service()), label(plugin.scope.route())];
        let rule = Arc::new(Rule::build(plugin, canary, scope, &self.context));
        self.rules.insert(plugin.id, rule.clone());
        rule
    }
}

impl Rule {
    fn build(plugin: &model::Plugin, canary: &Canary, scope: [String; 2], context: &RuleContext<'_>) -> Self {
        let state = context.releases.release(plugin.id);
        let groups = |names: &Vec<String>| context.consumers.groups(names);
        let audience = match &canary.audience {
            model::Audience::Allow(names) => Audience::Allow(groups(names)),
            model::Audience::Deny(names) => Audience::Deny(groups(names)),
            model::Audience::Share {
                schedule,
                identifiers,
                groups_first,
            } => Audience::Share(Split {
                share: AtomicU16::new(share_now(schedule, &state, context.now).basis_points()),
                schedule: *schedule,
                identifiers: identifiers.clone(),
                groups_first: groups(groups_first),
                buckets: Buckets::new(canary.salt(plugin.id).as_bytes()),
                // Whoever issues cookies has the secret: `config::secret` sees to it.
                visitor_key: VisitorKey::from_secret(context.secret.map_or(&[], Secret::expose)),
            }),
        };
        Self {
            plugin: plugin.id,
            protocols: plugin.protocols.clone(),
            scope,
            override_header: canary.override_header.clone(),
            falls_back: canary.falls_back,
            audience,
            state,
        }
    }
}

fn share_now(schedule: &Schedule, state: &ReleaseState, (wall, monotonic): (Duration, Duration)) -> Share {
    match schedule {
        Schedule::Fixed(share) => *share,
        Schedule::Ramp(ramp) => state.share_of(ramp, wall, monotonic),
    }
}

impl Split {
    /// Returns the share in force; one relaxed load.
    pub fn share(&self) -> Share {
        Share::new(self.share.load(Ordering::Relaxed)).unwrap_or(Share::ALL)
    }

    /// Puts a share in force, for the control thread.
    pub fn set_share(&self, share: Share) {
        self.share.store(share.basis_points(), Ordering::Relaxed);
    }
}

impl Release {
    /// Returns the counter of requests that were meant for `variant` for this reason.
    pub fn requests(&self, variant: Variant, reason: Reason) -> &IntCounter {
        let labels = [&*self.service, variant.label(), reason.label()];
        self.requests[variant as usize][reason as usize]
            .get(|| metrics().release_requests.with_label_values(&labels))
    }

    /// Finds every handle that no request has needed so far.
    pub(super) fn find_handles(&self) {
        self.canary.find_handles();
        for variant in Variant::ALL {
            for reason in Reason::ALL {
                self.requests(variant, reason);
            }
        }
    }
}
