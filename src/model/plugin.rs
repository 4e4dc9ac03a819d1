//! Plugin: what is done with a request between its Route and its origin.

use std::time::Duration;

use uuid::Uuid;

use super::{Canary, RouteProtocol};

/// An enabled plugin; a disabled one is as good as none.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Identity; derived from name and scope when the source gives none.
    pub id: Uuid,
    /// Which requests it is for.
    pub scope: Scope,
    /// Schemes under which clients must come for it to run.
    pub protocols: Vec<RouteProtocol>,
    /// What it does.
    pub config: PluginConfig,
}

/// Which requests a plugin is for. Of the plugins of one name the most specific runs, and only that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Every request that has a Route.
    Global,
    /// Requests to a Service.
    Service(Uuid),
    /// Requests that come by a Route.
    Route(Uuid),
    /// Requests that come by a Route while it belongs to a Service.
    RouteOfService {
        /// The Route.
        route: Uuid,
        /// The Service.
        service: Uuid,
    },
}

impl Scope {
    /// Returns the Service that it names.
    pub fn service(self) -> Option<Uuid> {
        match self {
            Self::Service(service) | Self::RouteOfService { service, .. } => Some(service),
            Self::Global | Self::Route(_) => None,
        }
    }

    /// Returns the Route that it names.
    pub fn route(self) -> Option<Uuid> {
        match self {
            Self::Route(route) | Self::RouteOfService { route, .. } => Some(route),
            Self::Global | Self::Service(_) => None,
        }
    }

    /// Returns all that it names.
    pub fn ids(self) -> impl Iterator<Item = Uuid> {
        self.service().into_iter().chain(self.route())
    }
}

/// What a plugin does. Kong's names, fields and defaults; the set is closed.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginConfig {
    /// `key-auth`.
    KeyAuth(KeyAuth),
    /// `basic-auth`.
    BasicAuth(BasicAuth),
    /// `jwt`.
    Jwt(Jwt),
    /// `acl`.
    Acl(Acl),
    /// `canary`.
    Canary(Canary),
}

impl PluginConfig {
    /// Returns Kong's name of the plugin.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyAuth(_) => "key-auth",
            Self::BasicAuth(_) => "basic-auth",
            Self::Jwt(_) => "jwt",
            Self::Acl(_) => "acl",
            Self::Canary(_) => "canary",
        }
    }

    /// Returns Kong's priority: the higher one runs first.
    pub fn priority(&self) -> u32 {
        match self {
            Self::Jwt(_) => 1450,
            Self::KeyAuth(_) => 1250,
            Self::BasicAuth(_) => 1100,
            Self::Acl(_) => 950,
            Self::Canary(_) => 20,
        }
    }
}

/// What every plugin that identifies Consumers has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Consumer, by id or username, that a request without valid credentials counts as; `None` (the
    /// default): such a request is refused. With it, several such plugins are alternatives.
    pub anonymous: Option<String>,
    /// Takes the credential out of the request before it goes upstream; default false.
    pub hide_credentials: bool,
    /// `realm` of the challenge.
    pub realm: Option<String>,
}

/// The plugin `key-auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAuth {
    /// What all such plugins have.
    pub common: Authentication,
    /// Names of the header fields and query arguments that may hold the key; default `apikey`.
    pub key_names: Vec<String>,
    /// Looks in header fields; default true.
    pub in_header: bool,
    /// Looks in the query; default true.
    pub in_query: bool,
    /// Asks for a key on `OPTIONS` too; default true.
    pub run_on_preflight: bool,
}

/// The plugin `basic-auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// What all such plugins have.
    pub common: Authentication,
}

/// The plugin `jwt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// What all such plugins have; a token is never taken out of the request.
    pub common: Authentication,
    /// Query arguments that may hold the token; default `jwt`.
    pub uri_param_names: Vec<String>,
    /// Header fields that may hold it; default `authorization`.
    pub header_names: Vec<http::HeaderName>,
    /// Cookies that may hold it; default none.
    pub cookie_names: Vec<String>,
    /// Claim, or header parameter, that names the issuer; default `iss`.
    pub key_claim_name: String,
    /// The issuer's secret is base64; default false.
    pub secret_is_base64: bool,
    /// Refuses a token whose `exp` is over; default false.
    pub verify_exp: bool,
    /// Refuses a token whose `nbf` is yet to come; default false.
    pub verify_nbf: bool,
    /// Longest time to `exp` that a token may have, at most a year; `None` (the default, written 0) for any.
    pub maximum_expiration: Option<Duration>,
    /// Asks for a token on `OPTIONS` too; default true.
    pub run_on_preflight: bool,
}

/// The plugin `acl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Whom it lets through.
    pub rule: AclRule,
    /// Does not tell the origin the Consumer's groups; default false.
    pub hide_groups_header: bool,
    /// Consumer groups count as ACL groups do; default false.
    pub include_consumer_groups: bool,
}

/// Whom the plugin `acl` lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclRule {
    /// Consumers in one of these groups.
    Allow(Vec<String>),
    /// Consumers in none of these groups.
    Deny(Vec<String>),
}
