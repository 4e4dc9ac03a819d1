//! Upstream → Target, past those that were tried already.

use std::sync::Arc;
use std::time::Instant;

use pingora_http::RequestHeader;

use super::context::{Chosen, Context};
use super::cookie;
use super::hash_input::ring_key;
use super::release::fall_back;
use crate::balance::{latency, least_connections};
use crate::clock;
use crate::snapshot::{Selection, Service, Upstream};

/// Chooses a Target among those of the request's variant; among stable's where the canary has none left
/// and gives way. Returns the Service and the Upstream that was chosen from.
pub fn choose_target_of_variant(
    request: &RequestHeader,
    ctx: &mut Context,
) -> Option<(Arc<Service>, Arc<Upstream>)> {
    let service = ctx.service()?.clone();
    loop {
        let upstream = ctx.destination()?.upstream.clone();
        if choose_target(&upstream, request, ctx) {
            return Some((service, upstream));
        }
        if !fall_back(ctx) {
            return None;
        }
    }
}

/// Chooses the Target of the next try and leaves it in the context.
///
/// A further try chooses by the same rule among those not tried yet; where it comes down to round
/// robin, by weight and on a counter of its own. Says `false` when nothing is left.
fn choose_target(upstream: &Upstream, request: &RequestHeader, ctx: &mut Context) -> bool {
    if std::mem::take(&mut ctx.goes_there_again) && ctx.chosen.is_some() {
        // No turn is used up, so shares stay exact while origins close kept connections.
        ctx.tries += 1;
        ctx.try_started = Some(clock::monotonic());
        return true;
    }
    // The failed try is counted out before the next one is counted in.
    ctx.chosen = None;
    ctx.exchange.leave();
    let endpoints = upstream.endpoints();
    let now = clock::monotonic();
    if let Selection::ConsistentHashing(hashing) = &upstream.selection {
        // The cookie issued on the first try has not reached the request; its key must stay.
        ctx.ring_key = ctx.ring_key.or_else(|| ring_key(hashing, request, ctx));
    }
    let is_tried = |index: usize| ctx.tried.contains(&endpoints.list[index].address);
    let is_acceptable = |index: usize| endpoints.list[index].is_eligible && !is_tried(index);
    let in_flight = |index: usize| endpoints.list[index].state.in_flight();
    let is_first = ctx.tried.is_empty();
    let position = || match is_first {
        true => upstream.state().next_position(),
        false => upstream.state().next_retry_position(),
    };
    let round_robin = || match (&endpoints.weighted, is_first) {
        (Some(weighted), true) => Some(weighted.pick(position())),
        (Some(weighted), false) => weighted.pick_excluding(position(), is_tried),
        (None, _) => None,
    };
    let index = match &upstream.selection {
        Selection::RoundRobin => round_robin(),
        Selection::ConsistentHashing(_) => match (&endpoints.ring, &ctx.ring_key) {
            (Some(ring), Some(key)) => ring.pick(key, is_acceptable),
            _ => round_robin(),
        },
        Selection::LeastConnections => {
            least_connections::pick(&endpoints.eligible, position(), is_tried, in_flight)
        }
        Selection::Latency => {
            let now = clock::elapsed_at(now);
            let average = |index: usize| endpoints.list[index].state.latency().average(now);
            latency::pick(&endpoints.eligible, position(), is_tried, in_flight, average)
        }
        Selection::StickySessions(session) => {
            let sessions = endpoints.sessions.as_ref();
            let named =
                cookie::value(&request.headers, &session.cookie.name).and_then(|value| sessions?.find(value));
            let index = named.filter(|index| is_acceptable(*index)).or_else(round_robin);
            // Whoever is led elsewhere stays there from now on.
            ctx.issued_cookie =
                index
                    .filter(|_| index != named)
                    .zip(sessions)
                    .and_then(|(index, sessions)| {
                        let value = sessions.token(index).to_string();
                        cookie::set_cookie(
                            &session.cookie.name,
                            &value,
                            &session.cookie.path,
                            None,
                            &ctx.client,
                        )
                    });
            index
        }
    };
    let Some(index) = index else { return false };
    ctx.tries += 1;
    ctx.try_started = Some(now);
    ctx.exchange.move_to(endpoints.list[index].state.place());
    ctx.chosen = Some(Chosen::new(endpoints, index));
    true
}

/// Says whether a Target is left that this request has not tried.
pub fn has_untried_target(upstream: &Upstream, ctx: &Context) -> bool {
    let endpoints = upstream.endpoints();
    let mut eligible = endpoints.eligible.iter();
    eligible.any(|candidate| !ctx.tried.contains(&candidate.address))
}

/// Tells the algorithm `latency` how long the Target of this try took to answer.
pub fn note_answer(status: u16, now: Instant, ctx: &Context) {
    let Some((chosen, asked)) = timed_try(ctx) else {
        return;
    };
    let latency = chosen.endpoint().state.latency();
    let took = now.saturating_duration_since(asked);
    match status {
        500.. => latency.observe_error(took, clock::elapsed_at(now)),
        _ => latency.observe(took, clock::elapsed_at(now)),
    }
}

/// Tells the algorithm `latency` that the Target of this try did not answer.
pub fn note_failure(ctx: &Context) {
    let Some((chosen, asked)) = timed_try(ctx) else {
        return;
    };
    let now = clock::monotonic();
    let took = now.saturating_duration_since(asked);
    chosen
        .endpoint()
        .state
        .latency()
        .observe_failure(took, clock::elapsed_at(now));
}

/// The Target of this try and when it was asked, where somebody goes by how long it takes.
fn timed_try(ctx: &Context) -> Option<(&Chosen, Instant)> {
    let is_timed = ctx.destination()?.upstream.selection == Selection::Latency;
    let asked = ctx.try_started.filter(|_| is_timed)?;
    Some((ctx.chosen.as_ref()?, asked))
}
