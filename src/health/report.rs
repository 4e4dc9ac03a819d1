//! What is known of an Upstream's health, as values: for the Admin API, the status address, metrics.

use std::net::SocketAddr;

use uuid::Uuid;

use super::manual::find_upstream;
use crate::model::TargetHost;
use crate::snapshot::{Availability, Snapshot, Upstream};

/// Kong's states of a Target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It may be chosen.
    Healthy,
    /// Checks or an operator have taken it out.
    Unhealthy,
    /// Nothing is checked, or its weight is 0.
    ChecksOff,
    /// Its name has no address.
    DnsError,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Unhealthy, Self::ChecksOff, Self::DnsError];

    /// Returns Kong's word, which is also the value of the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::ChecksOff => "HEALTHCHECKS_OFF",
            Self::DnsError => "DNS_ERROR",
        }
    }
}

/// Health of an Upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Identity.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Healthy when enough weight is, by its threshold.
    pub health: Health,
    /// Its weight.
    pub weight: Availability,
    /// Targets in the order of the source.
    pub targets: Vec<TargetHealth>,
}

/// Health of a Target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Identity.
    pub id: Uuid,
    /// `host:port`.
    pub label: String,
    /// Host alone.
    pub host: TargetHost,
    /// Port.
    pub port: u16,
    /// Weight as configured.
    pub node_weight: u16,
    /// Healthy when any address is.
    pub health: Health,
    /// Weight of all its addresses.
    pub weight: Availability,
    /// What the host stands for now.
    pub addresses: Vec<AddressHealth>,
}

/// Health of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHealth {
    /// The address.
    pub address: SocketAddr,
    /// Weight that the Target gives it.
    pub weight: u32,
    /// Its state.
    pub health: Health,
    /// Requests that it is serving now.
    pub in_flight: u32,
}

/// Reports the health of a declared Upstream, by name or id.
pub fn report(snapshot: &Snapshot, upstream: &str) -> Option<UpstreamHealth> {
    find_upstream(snapshot, upstream).map(UpstreamHealth::of)
}

impl UpstreamHealth {
    /// Reports the health of an Upstream.
    pub fn of(upstream: &Upstream) -> Self {
        let endpoints = upstream.endpoints();
        let is_on = upstream.health().is_on();
        let mut targets: Vec<TargetHealth> = upstream
            .targets()
            .iter()
            .map(|target| TargetHealth {
                id: target.id,
                label: target.label(),
                host: target.host.clone(),
                port: target.port,
                node_weight: target.weight.get(),
                health: match target.weight.active() {
                    None => Health::ChecksOff,
                    Some(_) => Health::DnsError,
                },
                weight: Availability::default(),
                addresses: Vec::new(),
            })
            .collect();
        for member in &endpoints.members {
            let endpoint = &endpoints.list[member.endpoint];
            let target = &mut targets[member.target];
            let is_healthy = !is_on || endpoint.is_healthy;
            let health = match (is_on, is_healthy) {
                (false, _) => Health::ChecksOff,
                (true, true) => Health::Healthy,
                (true, false) => Health::Unhealthy,
            };
            if target.addresses.is_empty() || health == Health::Healthy {
                target.health = health;
            }
            target.weight.total += u64::from(member.weight);
            target.weight.available += u64::from(member.weight) * u64::from(is_healthy);
            target.addresses.push(AddressHealth {
                address: endpoint.address,
                weight: member.weight,
                health,
                in_flight: endpoint.state.in_flight(),
            });
        }
        Self {
            id: upstream.id(),
            name: upstream.label().to_owned(),
            health: match (is_on, upstream.is_empty()) {
                (false, _) => Health::ChecksOff,
                (true, false) => Health::Healthy,
                (true, true) => Health::Unhealthy,
            },
            weight: endpoints.weight,
            targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Cause;
    use crate::health::testbed::{Bench, passive, upstream};

    fn health_of(bench: &Bench) -> Health {
        UpstreamHealth::of(bench.upstream()).targets[0].health
    }

    #[test]
    fn what_is_told_is_what_workers_choose_by() {
        let mut bench = Bench::new(upstream(passive(), &[100, 100]));
        let state = bench.upstream().endpoints().list[0].state.clone();
        bench
            .upstream()
            .state()
            .settle(&state, false, Cause::Operator, bench.now);
        assert_eq!(
            (bench.eligible(), health_of(&bench)),
            (vec![0, 1], Health::Healthy)
        );
        bench.catch_up();
        assert_eq!(
            (bench.eligible(), health_of(&bench)),
            (vec![1], Health::Unhealthy)
        );
    }
}
