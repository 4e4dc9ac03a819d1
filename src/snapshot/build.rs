//! Model → snapshot.
//!
//! Pure but for the metrics' registry: what names resolve to and the secret are handed in. An
//! Upstream that is unchanged since the previous snapshot is taken over as it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use uuid::Uuid;

use super::guard::{Guards, secret_arguments};
use super::plugins::PluginIndex;
use super::release::ReleaseBuilder;
use super::{
    BuiltService, Certificates, Consumers, Guard, Release, Route, Router, Service, ServiceCertificates,
    Services, Settings, Snapshot, Upstream,
};
use crate::access_log::AccessLog;
use crate::health::Observed;
use crate::model::{
    self, Algorithm, Configuration, HealthChecks, Secret, Target, TargetHost, UpstreamKey, Weight,
};

/// What a build needs beside the model.
pub struct Builder<'a> {
    /// Snapshot in force, whose unchanged parts are kept.
    pub previous: Option<&'a Snapshot>,
    /// Keys the rings whose input clients choose.
    pub secret: Option<&'a Secret>,
    /// Where access log lines go.
    pub access_log: Option<AccessLog>,
    /// What was observed of Upstreams, names and releases so far.
    pub observed: &'a Observed,
    /// Wall clock, since 1970, and monotonic clock: what ramps start from.
    pub now: (Duration, Duration),
}

impl Builder<'_> {
    /// Compiles a configuration under a number.
    pub fn build(self, source: Configuration, generation: u64) -> Snapshot {
        let mut upstreams = Upstreams::new(&self);
        let named: Named<'_> = source
            .upstreams
            .iter()
            .map(|upstream| (&*upstream.name, upstream))
            .collect();
        for upstream in &source.upstreams {
            upstreams.named(upstream);
        }
        let declared: HashMap<Uuid, &Arc<model::Service>, RandomState> = source
            .services
            .iter()
            .filter(|service| service.enabled)
            .map(|service| (service.id, service))
            .collect();
        // Those that a Route leads to.
        let mut services = Services::default();
        let consumers = self.consumers(&source);
        let plugins = PluginIndex::new(&source.plugins);
        let mut guards = Guards::new(&consumers);
        let mut releases = ReleaseBuilder::new(&self, &source, &consumers);
        // The Routes of a disabled Service leave the table; a Route without a Service stays, for 503.
        let (in_table, routes): (Vec<&model::Route>, Vec<Route>) = source
            .routes
            .iter()
            .filter_map(|route| {
                let service: Option<&BuiltService> = match route.service {
                    None => None,
                    Some(id) => Some(match services.entry(id) {
                        Entry::Occupied(built) => built.into_mut(),
                        Entry::Vacant(slot) => {
                            let service = declared.get(&id)?;
                            let upstream = upstreams.at(&named, &service.host, service.port);
                            slot.insert(self.service(service, upstream, &source))
                        }
                    }),
                };
                let plugins = plugins.plugins_for(route.id, route.service);
                let release =
                    service
                        .zip(plugins.canary)
                        .and_then(|(BuiltService { source, service, .. }, plugin)| {
                            releases.release(plugin, source, service, |host, port| {
                                upstreams.at(&named, host, port)
                            })
                        });
                let guard = service.and_then(|_| guards.guard(plugins));
                let service = service.map(|built| built.service.clone());
                Some((&**route, compile_route(route, service, release, guard)))
            })
            .unzip();
        Snapshot {
            generation,
            settings: Arc::new(Settings {
                limits: source.settings.limits.clone(),
                underscores_in_headers: source.settings.underscores_in_headers,
                timeouts: source.settings.timeouts.clone(),
                retries: source.settings.retries,
                trusted_ips: source.settings.trusted_ips.clone(),
                access_log: self.access_log.clone(),
                variant_header: source.settings.variant_header,
            }),
            router: Router::build(in_table),
            routes,
            services,
            unrouted: Default::default(),
            upstreams: upstreams.built.into_values().collect(),
            rules: releases.into_rules(),
            secret_arguments: secret_arguments(&source.plugins),
            certificates: self.certificates(&source),
            consumers,
            source,
        }
    }

    /// Compiles a Service, or takes over the one there is when it and its pool are the same.
    fn service(
        &self,
        source: &Arc<model::Service>,
        upstream: Arc<Upstream>,
        configuration: &Configuration,
    ) -> BuiltService {
        let certificates = certificates_of(source, configuration);
        let known = self
            .previous
            .and_then(|previous| previous.services.get(&source.id));
        let is_same = |known: &&BuiltService| {
            Arc::ptr_eq(&known.source, source)
                && Arc::ptr_eq(&known.service.stable.upstream, &upstream)
                && known.certificates.are(&certificates)
        };
        match known.filter(is_same) {
            Some(known) => known.clone(),
            None => BuiltService {
                source: source.clone(),
                service: Arc::new(Service::build(source, upstream, &certificates)),
                certificates,
            },
        }
    }

    /// Compiles the table of certificates, or takes over the one there is when they are the same.
    fn certificates(&self, source: &Configuration) -> Arc<Certificates> {
        match self.previous {
            Some(previous)
                if previous.source.certificates == source.certificates
                    && previous.source.settings.certificates == source.settings.certificates =>
            {
                previous.certificates.clone()
            }
            _ => {
                let in_files = source
                    .settings
                    .certificates
                    .iter()
                    .map(|files| &files.certificate);
                Arc::new(Certificates::build(in_files, source.certificates.iter()))
            }
        }
    }

    /// Compiles the directory of Consumers, or takes over the one there is when they are the same.
    fn consumers(&self, source: &Configuration) -> Arc<Consumers> {
        match self.previous {
            Some(previous) if previous.source.consumers == source.consumers => previous.consumers.clone(),
            _ => Arc::new(Consumers::build(&source.consumers)),
        }
    }
}

/// Returns the certificates that a Service refers to.
fn certificates_of(service: &model::Service, configuration: &Configuration) -> ServiceCertificates {
    let authority = |id: &Uuid| configuration.ca_certificates.iter().find(|ca| ca.id == *id);
    let client = service.client_certificate.and_then(|id| {
        let mut certificates = configuration.certificates.iter();
        certificates.find(|certificate| certificate.id == Some(id))
    });
    ServiceCertificates {
        authorities: service
            .ca_certificates
            .iter()
            .filter_map(authority)
            .cloned()
            .collect(),
        client: client.cloned(),
    }
}

/// Upstreams of the model by name.
type Named<'a> = HashMap<&'a str, &'a Arc<model::Upstream>, RandomState>;

/// The Upstreams of the snapshot being built, each compiled or taken over once.
struct Upstreams<'a> {
    builder: &'a Builder<'a>,
    previous: HashMap<&'a UpstreamKey, &'a Arc<Upstream>, RandomState>,
    built: HashMap<UpstreamKey, Arc<Upstream>, RandomState>,
}

impl<'a> Upstreams<'a> {
    fn new(builder: &'a Builder<'a>) -> Self {
        let previous = builder.previous.map_or(&[][..], |snapshot| &snapshot.upstreams);
        Self {
            builder,
            previous: previous
                .iter()
                .map(|upstream| (&upstream.key, upstream))
                .collect(),
            built: HashMap::default(),
        }
    }

    /// Returns the pool that a host stands for: the Upstream of that name, or else the host itself.
    fn at(&mut self, named: &Named<'_>, host: &str, port: u16) -> Arc<Upstream> {
        match named.get(host) {
            Some(upstream) => self.named(upstream),
            None => self.direct(host, port),
        }
    }

    fn named(&mut self, source: &Arc<model::Upstream>) -> Arc<Upstream> {
        let key = UpstreamKey::Named(source.name.clone());
        let secret = self.builder.secret;
        self.get(
            key,
            |known| known.is_built_from(source, secret),
            || source.clone(),
        )
    }

    fn direct(&mut self, host: &str, port: u16) -> Arc<Upstream> {
        let host = TargetHost::parse(host);
        let key = UpstreamKey::Direct(host.clone(), port);
        // Nothing but the key makes one differ from another.
        self.get(key, |_| true, || Arc::new(direct_upstream(host, port)))
    }

    fn get(
        &mut self,
        key: UpstreamKey,
        is_still_right: impl FnOnce(&Upstream) -> bool,
        source: impl FnOnce() -> Arc<model::Upstream>,
    ) -> Arc<Upstream> {
        if let Some(upstream) = self.built.get(&key) {
            return upstream.clone();
        }
        let Builder { secret, observed, .. } = *self.builder;
        let upstream = match self.previous.get(&key) {
            Some(previous) if is_still_right(previous) => (*previous).clone(),
            _ => Arc::new(Upstream::build(key.clone(), source(), secret, observed)),
        };
        self.built.insert(key, upstream.clone());
        upstream
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

fn compile_route(
    route: &model::Route,
    service: Option<Arc<Service>>,
    release: Option<Arc<Release>>,
    guard: Option<Arc<Guard>>,
) -> Route {
    Route {
        id: route.id,
        label: route.label(),
        service,
        release,
        protocols: route.protocols.clone(),
        https_redirect_status_code: route.https_redirect_status_code,
        paths: route.paths.clone(),
        strip_path: route.strip_path,
        preserve_host: route.preserve_host,
        path_handling: route.path_handling,
        guard,
        requests: Default::default(),
    }
}
