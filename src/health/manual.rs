//! What an operator says of a Target.

use std::net::IpAddr;

use super::{Cause, Observed};
use crate::clock;
use crate::snapshot::{Snapshot, Upstream};

/// Why a Target's health could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// No Upstream has this name or id.
    #[error("no such upstream")]
    NoUpstream,
    /// The Upstream has no such Target in rotation.
    #[error("no such target")]
    NoTarget,
    /// The Target does not stand for this address now.
    #[error("no such address")]
    NoAddress,
    /// Nothing is checked, so every Target is taken as it is (Kong's "no healthchecker found").
    #[error("no health checks")]
    ChecksOff,
}

/// Makes a Target healthy or unhealthy: all its addresses, or the one given (Kong's
/// `PUT /upstreams/{u}/targets/{t}[/{address}]/healthy` and `unhealthy`).
///
/// All counters of the address begin anew. Active checks go on and may come to another verdict;
/// passive ones never bring a Target back, so there this is the way. In force when it returns.
///
/// # Errors
///
/// When there is no such Target, or nothing that checks it; nothing has changed then.
pub fn set_manual(
    snapshot: &Snapshot,
    observed: &Observed,
    upstream: &str,
    target: &str,
    address: Option<(IpAddr, Option<u16>)>,
    is_healthy: bool,
) -> Result<(), ManualError> {
    let upstream = find_upstream(snapshot, upstream).ok_or(ManualError::NoUpstream)?;
    let position = upstream
        .targets()
        .iter()
        .position(|one| one.label() == target || one.id.to_string() == target)
        .ok_or(ManualError::NoTarget)?;
    if !upstream.health().is_on() {
        return Err(ManualError::ChecksOff);
    }
    let endpoints = upstream.endpoints();
    let mut members = endpoints
        .members
        .iter()
        .filter(|member| member.target == position)
        .map(|member| &endpoints.list[member.endpoint])
        .filter(|endpoint| {
            address.is_none_or(|(ip, port)| {
                endpoint.address.ip() == ip && port.is_none_or(|port| endpoint.address.port() == port)
            })
        })
        .peekable();
    if members.peek().is_none() {
        return Err(match address {
            None => ManualError::NoTarget,
            Some(_) => ManualError::NoAddress,
        });
    }
    for endpoint in members {
        let (state, now) = (upstream.state(), clock::monotonic());
        state.settle(&endpoint.state, is_healthy, Cause::Operator, now);
    }
    upstream.refresh(observed);
    Ok(())
}

/// Finds a declared Upstream by name or id.
pub(super) fn find_upstream<'a>(snapshot: &'a Snapshot, name_or_id: &str) -> Option<&'a Upstream> {
    let is_it = |upstream: &&std::sync::Arc<Upstream>| {
        upstream.is_declared() && (upstream.label() == name_or_id || upstream.id().to_string() == name_or_id)
    };
    snapshot.upstreams.iter().find(is_it).map(|upstream| &**upstream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Level;
    use crate::health::testbed::{Bench, FAILURE, passive, upstream};
    use crate::model::{HealthChecks, PassiveChecks, Thresholds};

    #[test]
    fn an_operator_takes_a_target_out_and_brings_it_back() {
        let mut bench = Bench::new(upstream(passive(), &[100, 100, 0]));
        let set = |bench: &Bench, target: &str, address, is_healthy| {
            set_manual(
                &bench.snapshot,
                &bench.observed,
                "shop",
                target,
                address,
                is_healthy,
            )
        };
        // In force at once, without the health thread.
        assert_eq!(set(&bench, "10.0.0.1:80", None, false), Ok(()));
        assert_eq!(bench.eligible(), [1]);
        assert_eq!(
            bench.upstream().endpoints().list[0].state.cause(),
            Cause::Operator
        );
        assert_eq!(set(&bench, "10.0.0.1:80", None, true), Ok(()));
        assert_eq!(bench.eligible(), [0, 1]);
        // By id, and by address.
        let id = uuid::Uuid::from_u128(2).to_string();
        let ip = std::net::IpAddr::from([10, 0, 0, 2]);
        assert_eq!(set(&bench, &id, Some((ip, Some(80))), false), Ok(()));
        assert_eq!(bench.eligible(), [0]);
        assert_eq!(set(&bench, &id, Some((ip, None)), true), Ok(()));
        assert_eq!(
            set(&bench, &id, Some((ip, Some(81))), true),
            Err(ManualError::NoAddress)
        );
        assert_eq!(set(&bench, "10.0.0.9:80", None, true), Err(ManualError::NoTarget));
        assert_eq!(set(&bench, "10.0.0.3:80", None, true), Err(ManualError::NoTarget));
        let nobody = set_manual(
            &bench.snapshot,
            &bench.observed,
            "nobody",
            "10.0.0.1:80",
            None,
            true,
        );
        assert_eq!(nobody, Err(ManualError::NoUpstream));
        bench.reload(upstream(HealthChecks::default(), &[100, 100]));
        assert_eq!(
            set(&bench, "10.0.0.1:80", None, false),
            Err(ManualError::ChecksOff)
        );
        assert_eq!(bench.eligible(), [0, 1]);
    }

    #[test]
    fn counters_begin_anew_after_an_operators_word() {
        let checks = HealthChecks {
            passive: PassiveChecks {
                thresholds: Thresholds {
                    http_failures: 2,
                    ..Thresholds::default()
                },
                ..PassiveChecks::default()
            },
            ..HealthChecks::default()
        };
        let mut bench = Bench::new(upstream(checks, &[100]));
        let level = |bench: &Bench| bench.upstream().endpoints().list[0].state.health().level();
        bench.report(0, FAILURE);
        assert_eq!(level(&bench), Level::MostlyHealthy);
        set_manual(
            &bench.snapshot,
            &bench.observed,
            "shop",
            "10.0.0.1:80",
            None,
            true,
        )
        .unwrap();
        assert_eq!(level(&bench), Level::Healthy);
        bench.report(0, FAILURE);
        assert_eq!(level(&bench), Level::MostlyHealthy);
    }
}
