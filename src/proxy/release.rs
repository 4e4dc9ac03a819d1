//! Stable or canary, and the reason.
//!
//! [`decide`] is pure: the rule, the share in force, and of the request its override header, its
//! groups and its bucket go in; the variant and the reason come out. [`choose_variant`] asks it once
//! for each request and leaves the answer in the context, where every try finds it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use pingora_http::RequestHeader;

use super::context::Context;
use super::cookie;
use super::hash_input::joined;
use crate::balance::{Bucket, BucketKey, is_turn};
use crate::model::{Identifier, Reason, Share, Variant};
use crate::snapshot::{Audience, Consumer, GroupId, Release, Rule, Split};

/// The variant of a request, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The variant that the request is meant for.
    pub variant: Variant,
    /// What decided.
    pub reason: Reason,
    /// Where the request stands, if that decided.
    pub place: Option<Place>,
}

/// Where a request stands that goes by share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a bucket.
    Bucket {
        /// The bucket.
        bucket: Bucket,
        /// Position of what it was computed from in the split's identifiers.
        identifier: usize,
    },
    /// In turn, because nothing does.
    Turn(u64),
}

/// How long a visitor's cookie lasts: longer than most releases take.
const VISITOR_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Decides about a request: override header, then groups, then share.
///
/// `place` is asked only where the share decides. Costs a hash and a compare; allocates nothing.
pub fn decide(
    rule: &Rule,
    override_value: Option<&[u8]>,
    consumer: Option<&Consumer>,
    place: impl FnOnce(&Split) -> Place,
) -> Decision {
    let decided = |variant, reason| Decision {
        variant,
        reason,
        place: None,
    };
    match override_value {
        Some(b"always") => return decided(Variant::Canary, Reason::Override),
        Some(b"never") => return decided(Variant::Stable, Reason::Override),
        _ => {}
    }
    let is_in_any = |listed: &[GroupId]| consumer.is_some_and(|consumer| consumer.is_in_any(listed));
    match &rule.audience {
        Audience::Allow(listed) => decided(canary_if(is_in_any(listed)), Reason::Group),
        Audience::Deny(listed) => decided(canary_if(!is_in_any(listed)), Reason::Group),
        Audience::Share(split) if is_in_any(&split.groups_first) => decided(Variant::Canary, Reason::Group),
        Audience::Share(split) => {
            let place = place(split);
            let variant = canary_if(place.is_in(split.share()));
            Decision {
                variant,
                reason: Reason::Share,
                place: Some(place),
            }
        }
    }
}

fn canary_if(is_canary: bool) -> Variant {
    match is_canary {
        true => Variant::Canary,
        false => Variant::Stable,
    }
}

impl Place {
    /// Says whether the canary's share takes in this place.
    pub fn is_in(self, share: Share) -> bool {
        match self {
            Self::Bucket { bucket, .. } => bucket.is_in(share),
            Self::Turn(position) => is_turn(position, share),
        }
    }
}

/// Decides about the request unless that has been done, and leaves the decision in the context.
///
/// A canary without any eligible Target gives way to stable where its rule says so.
pub fn choose_variant(request: &RequestHeader, ctx: &mut Context) {
    if ctx.decision.is_some() {
        return;
    }
    let Some(Release { rule, canary, .. }) = ctx.release().map(Arc::as_ref) else {
        return;
    };
    // As for every plugin, http and https are one; what is left out is a canary for gRPC alone.
    if rule.protocols.is_empty() {
        return;
    }
    let named = rule.override_header.as_ref();
    let override_value = named.and_then(|name| Some(request.headers.get(name)?.as_bytes()));
    let mut issued = None;
    let decision = decide(rule, override_value, ctx.consumer(), |split| {
        place_of(split, &request.headers, ctx, &mut issued)
            .unwrap_or_else(|| Place::Turn(rule.state.next_position()))
    });
    let is_canary_empty = canary.upstream.is_empty();
    ctx.visitor_cookie = issued;
    ctx.variant = decision.variant;
    ctx.decision = Some(decision);
    if is_canary_empty {
        fall_back(ctx);
    }
}

/// Gives the request to stable because the canary cannot serve it; says whether that was possible.
pub fn fall_back(ctx: &mut Context) -> bool {
    let is_possible =
        ctx.variant == Variant::Canary && ctx.release().is_some_and(|release| release.rule.falls_back);
    if is_possible {
        ctx.variant = Variant::Stable;
        ctx.has_fallen_back = true;
        // What was found out for the other Upstream says nothing of this one.
        ctx.ring_key = None;
        ctx.issued_cookie = None;
        ctx.goes_there_again = false;
    }
    is_possible
}

/// Returns the bucket of a request: that of the first identifier it has. A visitor without a cookie is
/// issued one, which decides this very request.
fn place_of(
    split: &Split,
    headers: &HeaderMap,
    ctx: &Context,
    issued: &mut Option<HeaderValue>,
) -> Option<Place> {
    let bucket = |key: BucketKey<'_>| Some(split.buckets.bucket(key));
    let mut bucket_of = |identifier: &Identifier| match identifier {
        Identifier::Consumer => bucket(BucketKey::Consumer(ctx.known_consumer()?.id_text())),
        Identifier::Ip => bucket(BucketKey::Ip(ctx.client.address?)),
        Identifier::Header(name) => {
            let value = joined(headers, name).filter(|value| !value.is_empty())?;
            bucket(BucketKey::Header(&value))
        }
        Identifier::Cookie(name) => {
            let mut shown = cookie::values(headers, name);
            if let Some(id) = shown.find_map(|value| split.visitor_key.verify(value)) {
                return bucket(BucketKey::Cookie(id));
            }
            let cookie = split.visitor_key.issue(uuid::Uuid::new_v4().as_u128());
            *issued = cookie::set_cookie(name, cookie.as_str(), "/", Some(VISITOR_MAX_AGE), &ctx.client);
            bucket(BucketKey::Cookie(cookie.id()))
        }
    };
    let mut identifiers = split.identifiers.iter().enumerate();
    identifiers.find_map(|(position, identifier)| {
        Some(Place::Bucket {
            bucket: bucket_of(identifier)?,
            identifier: position,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::clock;
    use crate::health::Observed;
    use crate::model::{
        self, Canary, CanaryDestination, Configuration, Plugin, PluginConfig, Route, Schedule, Scope, Service,
    };
    use crate::snapshot::{Builder, Snapshot};

    use Reason::{Group, Override};
    use Variant::{Canary as Trial, Stable};

    /// A snapshot with one Service, its canary, and a Consumer `alice` in these groups.
    fn snapshot(audience: model::Audience, groups: Option<&[&str]>) -> Snapshot {
        let service = Service {
            id: Uuid::from_u128(1),
            name: Some("shop".to_owned()),
            protocol: model::Protocol::Http,
            verifies: true,
            ca_certificates: Vec::new(),
            client_certificate: None,
            host: "127.0.0.1".to_owned(),
            port: 80,
            path: None,
            retries: 5,
            connect_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(60),
            enabled: true,
        };
        let route = Route {
            id: Uuid::from_u128(2),
            name: Some("shop".to_owned()),
            service: Some(service.id),
            protocols: vec![model::RouteProtocol::Http],
            is_grpc: false,
            https_redirect_status_code: 426,
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: vec![model::PathPattern::Prefix("/".to_owned())],
            headers: Vec::new(),
            snis: Vec::new(),
            strip_path: true,
            preserve_host: false,
            regex_priority: 0,
            path_handling: model::PathHandling::V0,
        };
        let canary = Canary {
            destination: CanaryDestination {
                host: Some("127.0.0.2".to_owned()),
                ..CanaryDestination::default()
            },
            falls_back: false,
            override_header: None,
            audience,
            salt: Some("salt".to_owned()),
        };
        let alice = |groups| model::Consumer {
            id: Uuid::from_u128(4),
            username: Some("alice".to_owned()),
            custom_id: None,
            acl_groups: names(groups),
            consumer_groups: Vec::new(),
            keys: Vec::new(),
            passwords: Vec::new(),
            tokens: Vec::new(),
        };
        let source = Configuration {
            consumers: groups.map(alice).map(Arc::new).into_iter().collect(),
            plugins: vec![Arc::new(Plugin {
                id: Uuid::from_u128(3),
                scope: Scope::Service(service.id),
                protocols: vec![model::RouteProtocol::Http],
                config: PluginConfig::Canary(canary),
            })]
            .into(),
            services: vec![Arc::new(service)].into(),
            routes: vec![Arc::new(route)].into(),
            ..Configuration::default()
        };
        let builder = Builder {
            previous: None,
            secret: None,
            access_log: None,
            observed: &Observed::default(),
            now: clock::now(),
        };
        builder.build(source, 1)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn share(basis_points: u16, groups_first: &[&str]) -> model::Audience {
        model::Audience::Share {
            schedule: Schedule::Fixed(Share::new(basis_points).unwrap()),
            identifiers: vec![Identifier::Consumer],
            groups_first: names(groups_first),
        }
    }

    /// Decides about a Consumer in these groups, or about nobody, whose turn it is at `position`.
    fn check(
        audience: model::Audience,
        override_value: Option<&str>,
        groups: Option<&[&str]>,
        position: u64,
        expected: (Variant, Reason),
    ) {
        let snapshot = snapshot(audience, groups);
        let alice = snapshot.consumers.find("alice");
        let consumer = alice.map(|index| snapshot.consumers.get(index));
        let place = |_: &Split| Place::Turn(position);
        let decision = decide(
            &snapshot.rules[0],
            override_value.map(str::as_bytes),
            consumer,
            place,
        );
        assert_eq!((decision.variant, decision.reason), expected);
    }

    #[test]
    fn allow_is_for_listed_groups_only() {
        let allow = || model::Audience::Allow(names(&["testers", "employees"]));
        check(allow(), None, Some(&["employees"]), 0, (Trial, Group));
        check(allow(), None, Some(&["public", "testers"]), 0, (Trial, Group));
        check(allow(), None, Some(&["public"]), 0, (Stable, Group));
        check(allow(), None, Some(&[]), 0, (Stable, Group));
        check(allow(), None, None, 0, (Stable, Group));
    }

    #[test]
    fn deny_is_for_everybody_else() {
        let deny = || model::Audience::Deny(names(&["vip"]));
        check(deny(), None, Some(&["vip"]), 0, (Stable, Group));
        check(deny(), None, Some(&["public"]), 0, (Trial, Group));
        check(deny(), None, None, 0, (Trial, Group));
    }

    #[test]
    fn groups_that_nobody_is_in_are_empty() {
        let nobody = names(&["nobody"]);
        check(
            model::Audience::Allow(nobody.clone()),
            None,
            Some(&["public"]),
            0,
            (Stable, Group),
        );
        check(
            model::Audience::Deny(nobody),
            None,
            Some(&["public"]),
            0,
            (Trial, Group),
        );
    }

    #[test]
    fn listed_groups_come_first_and_the_rest_by_share() {
        check(
            share(0, &["testers"]),
            None,
            Some(&["testers"]),
            0,
            (Trial, Group),
        );
        check(
            share(0, &["testers"]),
            None,
            Some(&["public"]),
            0,
            (Stable, Reason::Share),
        );
        check(share(10_000, &["testers"]), None, None, 0, (Trial, Reason::Share));
        check(share(100, &[]), None, None, 49, (Trial, Reason::Share));
        check(share(100, &[]), None, None, 50, (Stable, Reason::Share));
    }

    #[test]
    fn the_override_header_beats_everything_and_knows_two_words() {
        let allow = || model::Audience::Allow(names(&["testers"]));
        check(allow(), Some("never"), Some(&["testers"]), 0, (Stable, Override));
        check(allow(), Some("always"), None, 0, (Trial, Override));
        check(share(0, &[]), Some("always"), None, 0, (Trial, Override));
        check(share(10_000, &[]), Some("never"), None, 0, (Stable, Override));
        for other in ["", "Always", "ALWAYS", "always ", "true", "1", "never,always"] {
            check(allow(), Some(other), None, 0, (Stable, Group));
            check(share(10_000, &[]), Some(other), None, 0, (Trial, Reason::Share));
        }
    }

    proptest! {
        #[test]
        fn nobody_flips_back_while_the_share_rises(a in 0..=10_000u16, b in 0..=10_000u16, id: u128) {
            let id = Uuid::from_u128(id).to_string();
            let decided = |basis_points| {
                let snapshot = snapshot(share(basis_points, &[]), None);
                let place = |split: &Split| Place::Bucket {
                    bucket: split.buckets.bucket(BucketKey::Consumer(id.as_bytes())),
                    identifier: 0,
                };
                decide(&snapshot.rules[0], None, None, place).variant
            };
            prop_assert!(decided(a.min(b)) <= decided(a.max(b)));
        }
    }
}
