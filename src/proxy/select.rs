//! Upstream → Target, past those that were tried already.

use pingora_http::RequestHeader;

use super::context::{Chosen, Context};
use super::hash_input::ring_key;
use crate::clock;
use crate::snapshot::Service;

/// Chooses the Target of the next try and leaves it in the context.
///
/// The first try takes the next position of the round robin, or the request's place on the ring.
/// A further try draws by weight among those not tried yet, on a counter of its own, or walks on
/// along the ring. Says `false` when nothing is left.
pub fn choose_target(service: &Service, request: &RequestHeader, ctx: &mut Context) -> bool {
    if std::mem::take(&mut ctx.goes_there_again) && ctx.chosen.is_some() {
        // No turn is used up, so shares stay exact while origins close kept connections.
        ctx.tries += 1;
        ctx.try_started = Some(clock::monotonic());
        return true;
    }
    // The failed try is counted out before the next one is counted in.
    ctx.chosen = None;
    let upstream = &service.upstream;
    let endpoints = upstream.endpoints();
    let key = upstream.hashing.as_ref().and_then(|hashing| {
        // The cookie issued on the first try has not reached the request; its key must stay.
        ctx.ring_key = ctx.ring_key.or_else(|| ring_key(hashing, request, ctx));
        ctx.ring_key
    });
    let is_tried = |index: usize| ctx.tried.contains(&endpoints.list[index].address);
    let index = match (&endpoints.ring, key, &endpoints.weighted) {
        (Some(ring), Some(key), _) => ring.pick(&key, |index| {
            endpoints.list[index].is_eligible && !is_tried(index)
        }),
        (_, _, Some(weighted)) if ctx.tried.is_empty() => {
            Some(weighted.pick(upstream.state().next_position()))
        }
        (_, _, Some(weighted)) => weighted.pick_excluding(upstream.state().next_retry_position(), is_tried),
        (_, _, None) => None,
    };
    let Some(index) = index else { return false };
    ctx.tries += 1;
    ctx.try_started = Some(clock::monotonic());
    ctx.chosen = Some(Chosen::new(endpoints, index));
    true
}

/// Says whether a Target is left that this request has not tried.
pub fn has_untried_target(service: &Service, ctx: &Context) -> bool {
    let endpoints = service.upstream.endpoints();
    endpoints
        .list
        .iter()
        .any(|endpoint| !ctx.tried.contains(&endpoint.address))
}
