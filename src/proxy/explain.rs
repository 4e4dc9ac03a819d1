//! What the proxy would do with a request, without sending it.
//!
//! Asks the very functions that requests go through, in their order, and notes what they say.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Uri};
use pingora_http::RequestHeader;
use serde::{Deserialize, Serialize};

use super::answer_to_request;
use super::context::{Client, Context};
use super::release::{self, Place};
use super::request_id::RequestIds;
use crate::balance::{Bucket, BucketKey};
use crate::metrics::{Counted, metrics};
use crate::model::{self, Identifier, Schedule};
use crate::rollout::schedule::reached_at;
use crate::snapshot::{Audience, ConsumerIndex, PluginIndex, Snapshot, Split};

/// A request as people describe it.
#[derive(Debug)]
pub struct Asked {
    /// Path, or a whole URL.
    pub url: Uri,
    /// Method.
    pub method: Method,
    /// Header fields; Host is that of the URL unless it is among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Consumer who asks, by username or id, in place of any credential.
    pub consumer: Option<String>,
    /// Key of the Consumer who asks, where no Consumer is named.
    pub key: Option<String>,
    /// Address that it comes from.
    pub address: Option<IpAddr>,
    /// When, since 1970: a key may have expired.
    pub at: Duration,
}

/// Nothing can be said of a request as it is described.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {why}")]
pub struct AskError {
    field: &'static str,
    why: String,
}

impl Asked {
    /// Makes the request, and finds out who sends it.
    ///
    /// # Errors
    /// When it cannot be a request, or nobody is the Consumer that is named or has the key.
    pub fn question(self, snapshot: &Snapshot) -> Result<Question, AskError> {
        let failed = |field, why: String| AskError { field, why };
        let target = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = RequestHeader::build(self.method, target.as_bytes(), None)
            .map_err(|error| failed("url", error.to_string()))?;
        let mut headers = self.headers;
        if !headers.iter().any(|(name, _)| *name == HOST) {
            let host = self
                .url
                .authority()
                .map_or("localhost", |authority| authority.as_str());
            let host = HeaderValue::try_from(host).map_err(|error| failed("url", error.to_string()))?;
            headers.push((HOST, host));
        }
        for (name, value) in headers {
            let added = request.append_header(name, value);
            added.map_err(|error| failed("header", error.to_string()))?;
        }
        let consumer = match (&self.consumer, &self.key) {
            (Some(name), _) => {
                let why = || failed("consumer", format!("no consumer has the username or id '{name}'"));
                Some(snapshot.consumers.find(name).ok_or_else(why)?)
            }
            (None, Some(key)) => {
                let found = snapshot.consumers.find_key(key.as_bytes(), self.at);
                let why = || failed("key", "no consumer has this key, or it has expired".to_owned());
                Some(found.ok_or_else(why)?.consumer)
            }
            (None, None) => None,
        };
        Ok(Question {
            request,
            address: self.address,
            is_https: self.url.scheme_str() == Some("https"),
            consumer,
        })
    }
}

/// A request, and who sends it.
#[derive(Debug)]
pub struct Question {
    /// Its header.
    pub request: RequestHeader,
    /// Address that it comes from.
    pub address: Option<IpAddr>,
    /// It comes by HTTPS.
    pub is_https: bool,
    /// The Consumer, whatever the credentials in the request say.
    pub consumer: Option<ConsumerIndex>,
}

/// What becomes of a request, and why. What does not apply to it is `None`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// The answer that the proxy gives itself.
    pub answer: Option<OwnAnswer>,
    /// The Route.
    pub route: Option<String>,
    /// The Service.
    pub service: Option<String>,
    /// Names of the plugins that run, in their order.
    pub plugins: Vec<Cow<'static, str>>,
    /// The Consumer.
    pub consumer: Option<ShownConsumer>,
    /// The release under trial.
    pub release: Option<ShownRelease>,
    /// The variant that serves.
    pub variant: Option<Cow<'static, str>>,
    /// Why that one.
    pub reason: Option<Cow<'static, str>>,
    /// The pool that a Target is chosen from.
    pub upstream: Option<String>,
    /// Its Targets as declared, with their weights.
    pub targets: Vec<ShownTarget>,
}

/// An answer that the proxy gives itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct OwnAnswer {
    /// Status code.
    pub status: u16,
    /// What it says.
    pub message: String,
}

/// A Consumer.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShownConsumer {
    /// Username, or custom id.
    pub name: String,
    /// Id.
    pub id: String,
    /// Stands for everybody without a credential.
    pub is_anonymous: bool,
    /// ACL groups and Consumer groups.
    pub groups: Vec<String>,
}

/// A release under trial.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ShownRelease {
    /// Id of the plugin.
    pub plugin: String,
    /// The pool of the canary.
    pub upstream: String,
    /// Share in force, in percent.
    pub share_percent: Option<f64>,
    /// What the bucket is computed from.
    pub identifier: Option<Cow<'static, str>>,
    /// Bucket, 0 to 9999.
    pub bucket: Option<u16>,
    /// When a timed ramp starts, since 1970.
    pub ramp_start: Option<Duration>,
    /// When a timed ramp reaches this bucket, since 1970.
    pub reached_at: Option<Duration>,
}

/// A Target.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShownTarget {
    /// The Target as declared.
    pub target: String,
    /// Its weight.
    pub weight: u16,
}

/// Says what becomes of a request.
pub fn explain(snapshot: &Arc<Snapshot>, question: Question) -> Explanation {
    let mut ctx = context(snapshot, &question);
    let answer = answer_to_request(&question.request, &mut ctx);
    if answer.is_none() {
        release::choose_variant(&question.request, &mut ctx);
    }
    let source = &snapshot.source;
    let mut explanation = Explanation {
        answer: answer.map(|answer| OwnAnswer {
            status: answer.status.as_u16(),
            message: answer.text.to_string(),
        }),
        service: ctx.service().map(|service| service.label.to_string()),
        consumer: shown_consumer(&ctx),
        release: shown_release(&ctx),
        ..Explanation::default()
    };
    if let Some(route) = ctx.route() {
        explanation.route = Some(route.label.clone());
        explanation.plugins = plugins_of(source, route.id);
    }
    if let Some(destination) = ctx.destination() {
        explanation.variant = Some(ctx.variant.label().into());
        explanation.reason = ctx.reason().map(|reason| reason.label().into());
        explanation.upstream = Some(destination.upstream.label().to_owned());
        explanation.targets = destination
            .upstream
            .targets()
            .iter()
            .map(|target| ShownTarget {
                target: target.label(),
                weight: target.weight.get(),
            })
            .collect();
    }
    explanation
}

/// Says how many of so many made-up people would get the canary of this request's Route; `None` where
/// that does not go by share.
pub fn count_canary(snapshot: &Arc<Snapshot>, question: Question, people: u32) -> Option<u32> {
    let mut ctx = context(snapshot, &question);
    let _ = answer_to_request(&question.request, &mut ctx);
    let Audience::Share(split) = &ctx.release()?.rule.audience else {
        return None;
    };
    let is_in = |number: &u32| match split.identifiers.first() {
        Some(identifier) => made_up_bucket(split, identifier, *number).is_in(split.share()),
        None => Place::Turn(u64::from(*number)).is_in(split.share()),
    };
    u32::try_from((0..people).filter(is_in).count()).ok()
}

fn context(snapshot: &Arc<Snapshot>, question: &Question) -> Context {
    let in_flight = Counted::new(&metrics().in_flight);
    let mut ctx = Context::new(snapshot.clone(), RequestIds::new().next(), in_flight);
    ctx.client = Client {
        peer: question.address,
        address: question.address,
        is_trusted: false,
        is_secure: question.is_https,
        server_port: if question.is_https { 443 } else { 80 },
    };
    ctx.identity.assumed = question.consumer;
    ctx
}

fn plugins_of(source: &model::Configuration, route: uuid::Uuid) -> Vec<Cow<'static, str>> {
    let service = source
        .routes
        .iter()
        .find(|one| one.id == route)
        .and_then(|route| route.service);
    let plugins = PluginIndex::new(&source.plugins).plugins_for(route, service);
    plugins
        .in_order()
        .map(|plugin| plugin.config.name().into())
        .collect()
}

fn shown_consumer(ctx: &Context) -> Option<ShownConsumer> {
    let consumer = ctx.consumer()?;
    let mut consumers = ctx.snapshot.source.consumers.iter();
    let source = consumers.find(|source| source.id == consumer.id)?;
    Some(ShownConsumer {
        name: source.label().to_owned(),
        id: consumer.id.to_string(),
        is_anonymous: ctx.identity.is_anonymous,
        groups: source
            .acl_groups
            .iter()
            .chain(&source.consumer_groups)
            .cloned()
            .collect(),
    })
}

fn shown_release(ctx: &Context) -> Option<ShownRelease> {
    let release = ctx.release()?;
    let mut shown = ShownRelease {
        plugin: release.rule.plugin.to_string(),
        upstream: release.canary.upstream.label().to_owned(),
        ..ShownRelease::default()
    };
    let Audience::Share(split) = &release.rule.audience else {
        return Some(shown);
    };
    shown.share_percent = Some(f64::from(split.share().basis_points()) / 100.0);
    let bucket = match ctx.decision.and_then(|decision| decision.place) {
        Some(Place::Bucket { bucket, identifier }) => {
            shown.identifier = split.identifiers.get(identifier).map(|one| name_of(one).into());
            shown.bucket = Some(bucket.number());
            Some(bucket)
        }
        _ => None,
    };
    if let Schedule::Ramp(ramp) = &split.schedule {
        shown.ramp_start = Some(ramp.start);
        shown.reached_at = bucket.map(|bucket| reached_at(ramp, bucket));
    }
    Some(shown)
}

fn name_of(identifier: &Identifier) -> &'static str {
    match identifier {
        Identifier::Consumer => "consumer",
        Identifier::Ip => "address",
        Identifier::Header(_) => "header",
        Identifier::Cookie(_) => "cookie",
    }
}

/// The bucket of somebody made up: the same number is the same person each time.
fn made_up_bucket(split: &Split, identifier: &Identifier, number: u32) -> Bucket {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &number.to_be_bytes());
    let (text, digits) = (id.to_string(), id.simple().to_string());
    split.buckets.bucket(match identifier {
        Identifier::Consumer => BucketKey::Consumer(text.as_bytes()),
        Identifier::Ip => BucketKey::Ip(IpAddr::from(number.to_be_bytes())),
        Identifier::Header(_) => BucketKey::Header(text.as_bytes()),
        Identifier::Cookie(_) => BucketKey::Cookie(digits.as_bytes()),
    })
}
