//! Model → snapshot.
//!
//! Pure but for the metrics' registry: what names resolve to and the secret are handed in. What is the same
//! as in the previous snapshot is taken over as it is, so that a change costs what it changes and a look at
//! the rest. That the same part is also known by its address later tells what came and what went.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use uuid::Uuid;

use super::guard::{Guards, secret_arguments};
use super::plugins::PluginIndex;
use super::pools::Pools;
use super::release::ReleaseBuilder;
use super::{
    BuiltService, Certificates, Consumers, Guard, Release, Route, Router, Service, ServiceCertificates,
    Services, Settings, Snapshot,
};
use crate::access_log::AccessLog;
use crate::health::Observed;
use crate::model::{self, Configuration, Secret};
use crate::priority::patiently;

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
        let mut pools = Pools::new(&self, &source.upstreams);
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
        let known = self.known_routes(&source, &consumers);
        let mut guards = Guards::new(&consumers);
        let mut releases = ReleaseBuilder::new(&self, &source, &consumers);
        let mut routes = Vec::with_capacity(source.routes.len());
        // The Routes of a disabled Service leave the table; a Route without a Service stays, for 503.
        for route in patiently(&*source.routes) {
            let built: Option<&BuiltService> = match route.service {
                None => None,
                Some(id) => Some(match services.entry(id) {
                    Entry::Occupied(built) => built.into_mut(),
                    Entry::Vacant(slot) => {
                        let Some(service) = declared.get(&id) else {
                            continue;
                        };
                        slot.insert(self.service(service, &mut pools, &source))
                    }
                }),
            };
            let service = built.map(|built| &built.service);
            if let Some(known) = known
                .get(&route.id)
                .filter(|known| known.is_built_from(route, service))
            {
                routes.push(Arc::clone(known));
                continue;
            }
            let plugins = plugins.plugins_for(route.id, route.service);
            let release =
                built
                    .zip(plugins.canary)
                    .and_then(|(BuiltService { source, service, .. }, plugin)| {
                        releases.release(plugin, source, service, |host, port| pools.at(host, port))
                    });
            let guard = service.and_then(|_| guards.guard(plugins));
            routes.push(Arc::new(compile_route(route, service.cloned(), release, guard)));
        }
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
            router: self.router(&routes),
            routes,
            services,
            unrouted: Default::default(),
            upstreams: pools.into_all(),
            rules: releases.into_rules(),
            secret_arguments: secret_arguments(&source.plugins),
            certificates: self.certificates(&source),
            consumers,
            source,
        }
    }

    /// Returns the Routes that may be taken over, by id: none where what plugins say may differ, or whose
    /// plugins' Consumers.
    fn known_routes(
        &self,
        source: &Configuration,
        consumers: &Arc<Consumers>,
    ) -> HashMap<Uuid, &Arc<Route>, RandomState> {
        let is_same = |previous: &&Snapshot| {
            model::are_same(&previous.source.plugins, &source.plugins)
                && Arc::ptr_eq(&previous.consumers, consumers)
        };
        let previous = self.previous.filter(is_same);
        let routes = previous.iter().flat_map(|previous| &previous.routes);
        // A release knows more than its Route and Service: where the canary is.
        let routes = routes.filter(|route| route.release.is_none());
        patiently(routes.map(|route| (route.id, route))).collect()
    }

    /// Compiles a Service, or takes over the one there is when it and its pool are the same.
    fn service(
        &self,
        source: &Arc<model::Service>,
        pools: &mut Pools<'_>,
        configuration: &Configuration,
    ) -> BuiltService {
        let certificates = certificates_of(source, configuration);
        let known = self
            .previous
            .and_then(|previous| previous.services.get(&source.id));
        let is_same = |known: &&BuiltService| {
            Arc::ptr_eq(&known.source, source)
                && known.certificates.are(&certificates)
                && pools.keep(&source.host, &known.service.stable.upstream)
        };
        match known.filter(is_same) {
            Some(known) => known.clone(),
            None => {
                let upstream = pools.at(&source.host, source.port);
                BuiltService {
                    source: source.clone(),
                    service: Arc::new(Service::build(source, upstream, &certificates)),
                    certificates,
                }
            }
        }
    }

    /// Compiles the table that finds Routes, or takes over the one there is when they are the same.
    fn router(&self, routes: &[Arc<Route>]) -> Arc<Router> {
        let is_same = |previous: &&Snapshot| {
            let mut both = previous.routes.iter().zip(routes);
            previous.routes.len() == routes.len()
                && both.all(|(before, now)| Arc::ptr_eq(&before.source, &now.source))
        };
        match self.previous.filter(is_same) {
            Some(previous) => previous.router.clone(),
            None => Arc::new(Router::build(routes.iter().map(|route| &*route.source))),
        }
    }

    /// Compiles the table of certificates, or takes over the one there is when they are the same.
    fn certificates(&self, source: &Configuration) -> Arc<Certificates> {
        match self.previous {
            Some(previous)
                if model::are_same(&previous.source.certificates, &source.certificates)
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
            Some(previous) if model::are_same(&previous.source.consumers, &source.consumers) => {
                previous.consumers.clone()
            }
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

fn compile_route(
    route: &Arc<model::Route>,
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
        is_grpc: route.is_grpc,
        https_redirect_status_code: route.https_redirect_status_code,
        paths: route.paths.clone(),
        strip_path: route.strip_path,
        preserve_host: route.preserve_host,
        path_handling: route.path_handling,
        guard,
        source: route.clone(),
        requests: Default::default(),
    }
}
