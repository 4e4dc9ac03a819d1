//! Whether a failed try is followed by another.
//!
//! Kong's rule (nginx's `proxy_next_upstream error timeout`): a request that reached no origin may
//! always be tried elsewhere; one that an origin may have seen only if its method is idempotent
//! (RFC 9110 §9.2.2), nothing of the answer has gone to the client, and its body is still at hand.
//! The Service's `retries` bounds the further tries, and no address is tried twice. From its second
//! retry a request also needs room in the Upstream's budget, so that a pool that is down is not sent
//! every request many times over. The budget is the Upstream's, since the Targets are what it spares:
//! Services that share them share it, and those on other pools keep theirs.
//!
//! A request that has failed on the last Target of a canary goes to stable under the same rule, where the
//! release says so.
//!
//! Pingora's own limit is global and set out of the way; the count is kept in the context.

use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::context::Context;
use super::release;
use super::select::{has_untried_target, note_failure};
use crate::clock;
use crate::health::passive;
use crate::metrics::status_class;
use crate::snapshot::{RetryReason, Upstream};

/// A kept connection that the Target closed meanwhile is no fault of the Target: the request goes
/// there again on another connection, at most this often, without counting as a try.
const MAX_STALE_CONNECTIONS: u32 = 8;

/// Decides after a connection could not be made. Nothing was sent, so any method may go on.
pub fn after_failed_connect(error: &mut Error, ctx: &mut Context) {
    let reason = match is_timeout(error) {
        true => RetryReason::Timeout,
        false => RetryReason::Connect,
    };
    if is_verified_by_clients_host(error, ctx) {
        error.set_retry(false);
        return;
    }
    count_failed_try(error, ctx);
    let again = give_up_target(reason, ctx);
    error.set_retry(again);
}

/// Says whether the Target was to prove a name that the client made up. That it cannot is not held against
/// it, and no other could, or any client might take a whole Upstream out of rotation.
fn is_verified_by_clients_host(error: &Error, ctx: &Context) -> bool {
    let is_preserved = ctx.route().is_some_and(|route| route.preserve_host);
    is_preserved
        && matches!(
            error.etype(),
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert
        )
}

/// Decides after a connection broke or timed out under a request.
pub fn after_failed_exchange(error: &mut Error, session: &Session, is_reused: bool, ctx: &mut Context) {
    let is_answered = ctx.upstream_status.is_some();
    if is_answered || !matches!(error.esource(), ErrorSource::Upstream) {
        error.set_retry(false);
        return;
    }
    let may_repeat =
        session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
    // Pingora marks failures that a kept connection explains; on a new one they are failures.
    error.retry.decide_reuse(is_reused);
    if may_repeat && is_reused && error.retry() && ctx.stale_connections < MAX_STALE_CONNECTIONS {
        ctx.stale_connections += 1;
        ctx.goes_there_again = true;
        ctx.tries = ctx.tries.saturating_sub(1);
        return;
    }
    let reason = match is_timeout(error) {
        true => RetryReason::Timeout,
        false => RetryReason::Reset,
    };
    count_failed_try(error, ctx);
    // An answer that breaks the protocol was an answer: asking again would only repeat the request.
    let is_protocol_violation = matches!(error.etype(), ErrorType::InvalidHTTPHeader);
    let again = may_repeat && !is_protocol_violation && give_up_target(reason, ctx);
    error.set_retry(again);
}

/// Counts a try that brought no answer, and holds it against the Target.
fn count_failed_try(error: &Error, ctx: &Context) {
    if let Some(destination) = ctx.destination() {
        destination.requests(status_class(0)).inc();
        if let Some(chosen) = &ctx.chosen {
            passive::observe_failure(
                &destination.upstream,
                chosen.endpoint(),
                error,
                clock::monotonic(),
            );
        }
    }
    note_failure(ctx);
}

/// Excludes the Target of the failed try and says whether another may follow.
fn give_up_target(reason: RetryReason, ctx: &mut Context) -> bool {
    if let Some(chosen) = &ctx.chosen {
        ctx.tried.push(chosen.endpoint().address);
    }
    let Some(service) = ctx.service().cloned() else {
        return false;
    };
    let Some(upstream) = ctx.destination().map(|destination| destination.upstream.clone()) else {
        return false;
    };
    // The canary's last one gives way to stable. That try is beyond `retries` and the budget, which
    // bound what is asked of one pool: it is the first that this one is asked.
    if !has_untried_target(&upstream, ctx) || ctx.tries > u32::from(service.retries) {
        let goes_on = release::fall_back(ctx) && has_untried_stable_target(ctx);
        if goes_on {
            service.retries(reason).inc();
        }
        return goes_on;
    }
    if !fits_budget(&upstream, ctx) {
        service.retries_denied().inc();
        return false;
    }
    service.retries(reason).inc();
    true
}

fn has_untried_stable_target(ctx: &Context) -> bool {
    ctx.destination()
        .is_some_and(|stable| has_untried_target(&stable.upstream, ctx))
}

/// Says whether the Upstream's budget has room for this request's next try. The first retry needs
/// none; whoever has room for one keeps it for the next. Adds up the loads of all Targets, which
/// spares every other request a counter of its own.
fn fits_budget(upstream: &Upstream, ctx: &mut Context) -> bool {
    if ctx.tries <= 1 || ctx.retry_permit.is_some() {
        return true;
    }
    let endpoints = upstream.endpoints();
    let loads = endpoints.list.iter().map(|endpoint| endpoint.state.in_flight());
    let limit = ctx.snapshot.settings.retries.limit(loads.map(u64::from).sum());
    ctx.retry_permit = upstream.state().permit_retry(limit);
    ctx.retry_permit.is_some()
}

/// Says whether the other side took too long: what the client is told as 504.
pub fn is_timeout(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout
    )
}
