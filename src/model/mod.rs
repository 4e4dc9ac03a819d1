//! What an operator names, as checked values.
//!
//! Everything here is already valid: a [`Weight`] is in range, a [`PathPattern`] compiles, a
//! [`Route`] points at a Service that exists. `config` makes these values out of documents and
//! `snapshot` compiles them into what requests read; neither direction is known here. No I/O, no
//! clock, nothing of Pingora.

mod certificate;
mod consumer;
mod health;
mod plugin;
mod release;
mod service;
mod settings;
mod units;
mod upstream;

use std::sync::Arc;

pub use certificate::{CaCertificate, Certificate, CertificateFiles, TlsVersion};
pub use consumer::{
    BasicCredential, Consumer, JwtAlgorithm, JwtCredential, KeyCredential, Masked, PasswordHash,
};
pub use health::{
    ActiveChecks, HealthChecks, PassiveChecks, Probe, ProbeTls, StatusSet, Statuses, Threshold, Thresholds,
};
pub use plugin::{Acl, AclRule, Authentication, BasicAuth, Jwt, KeyAuth, Plugin, PluginConfig, Scope};
pub use release::{Audience, Canary, CanaryDestination, Identifier, Ramp, Reason, Schedule, Variant};
pub use service::{
    HeaderMatch, HostPattern, PathHandling, PathPattern, Protocol, Route, RouteProtocol, Service, ValueMatch,
};
pub use settings::{
    AccessLog, AccessLogFormat, AddressFamily, Admin, Dns, Limits, ListenAddress, ListenProtocol, Listener,
    RetryBudget, Secret, Settings, Shutdown, Store, Timeouts, Token, UnderscoresInHeaders, Upgrade,
};
pub use units::{Share, Weight};
pub use upstream::{Algorithm, HashInput, Hashing, SessionCookie, Target, TargetHost, Upstream, UpstreamKey};

/// Parts of one type. What did not change is the same part as before, or the same list, and not only equal.
pub type List<T> = Arc<[Arc<T>]>;

/// Says whether two lists hold the same parts.
pub fn are_same<T>(one: &List<T>, other: &List<T>) -> bool {
    let mut both = one.iter().zip(other.iter());
    Arc::ptr_eq(one, other) || one.len() == other.len() && both.all(|(one, other)| Arc::ptr_eq(one, other))
}

/// A whole checked configuration: what one generation of the proxy is built from. What did not change is
/// shared with the generation before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Configuration {
    /// Process settings: listeners, threads, limits.
    pub settings: Settings,
    /// Every Service, enabled or not, in the order of the source.
    pub services: List<Service>,
    /// Every Route; older ones first, which is how ties between equal Routes are broken.
    pub routes: List<Route>,
    /// Every Upstream with its Targets.
    pub upstreams: List<Upstream>,
    /// Every Consumer with its credentials and groups.
    pub consumers: List<Consumer>,
    /// Every certificate with its names.
    pub certificates: List<Certificate>,
    /// Every authority that origins may be verified by.
    pub ca_certificates: List<CaCertificate>,
    /// Every plugin that is enabled.
    pub plugins: List<Plugin>,
}

impl Configuration {
    /// Returns every name that has to be resolved: of Targets in rotation, and of Services and canaries
    /// whose host names no Upstream.
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        let upstreams: std::collections::HashSet<&str> =
            self.upstreams.iter().map(|upstream| &*upstream.name).collect();
        let targets = self.upstreams.iter().flat_map(|upstream| &upstream.targets);
        let of_targets = targets.filter_map(|target| match &target.host {
            TargetHost::Name(name) if target.weight.active().is_some() => Some(&**name),
            _ => None,
        });
        let services = self.services.iter().filter(|service| service.enabled);
        let canaries = self.plugins.iter().filter_map(|plugin| match &plugin.config {
            PluginConfig::Canary(canary) => canary.destination.host.as_deref(),
            _ => None,
        });
        let hosts = services.map(|service| &*service.host).chain(canaries);
        of_targets.chain(hosts.filter(move |host| {
            matches!(TargetHost::parse(host), TargetHost::Name(_)) && !upstreams.contains(host)
        }))
    }
}
