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
