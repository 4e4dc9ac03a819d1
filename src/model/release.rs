//! Canary: the release under trial beside the stable one, and who gets it.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;
use uuid::Uuid;

use super::Share;

/// A side of a release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// What everybody gets who does not get the canary.
    #[default]
    Stable,
    /// The release under trial.
    Canary,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Canary];

    /// Returns what metrics, logs and answers call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

/// Why a request got its variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client chose it by the override header.
    Override,
    /// A group of its Consumer did, or that it has none.
    Group,
    /// Its bucket did, or whose turn it was.
    Share,
    /// The canary could not serve it.
    Fallback,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Override, Self::Group, Self::Share, Self::Fallback];

    /// Returns what metrics, logs and answers call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Group => "group",
            Self::Share => "share",
            Self::Fallback => "fallback",
        }
    }
}

/// The plugin `canary`: Kong's, with our additions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Where the canary is.
    pub destination: CanaryDestination,
    /// Sends requests to stable while no Target of the canary is eligible, and those that fail on its
    /// last one; default false.
    pub falls_back: bool,
    /// Header field by which a client chooses: `always` and `never` are obeyed, anything else is ignored.
    pub override_header: Option<HeaderName>,
    /// Who gets it.
    pub audience: Audience,
    /// Part of the hash, in place of the plugin's id and the destination: two releases with one salt
    /// have the same guinea pigs.
    pub salt: Option<String>,
}

impl Canary {
    /// Returns the salt of the release: the configured one, else the plugin's id and the destination,
    /// each behind a byte 0x1f, with nothing for what is not given. A declared plugin's id never changes;
    /// its destination does with each release, and with it who the guinea pigs are.
    pub fn salt(&self, plugin: Uuid) -> String {
        self.salt.clone().unwrap_or_else(|| {
            let CanaryDestination { host, port, uri } = &self.destination;
            let port = port.map(|port| port.to_string());
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{plugin}\x1f{}\x1f{}\x1f{}", text(host), text(&port), text(uri))
        })
    }
}

/// Where the canary is. At least one field is there; what is not is the Service's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CanaryDestination {
    /// Name of an Upstream, or else a host name or address that is dialled directly.
    pub host: Option<String>,
    /// Port, used when the host is not the name of an Upstream.
    pub port: Option<u16>,
    /// Path put before the request's own in place of the Service's.
    pub uri: Option<String>,
}

/// Who gets the canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Consumers in one of these groups (`hash: allow`).
    Allow(Vec<String>),
    /// Everybody but Consumers in one of these groups (`hash: deny`).
    Deny(Vec<String>),
    /// A share.
    Share {
        /// How large, and when.
        schedule: Schedule,
        /// What of a request decides; the first that it has. A request that has none is dealt in turn.
        identifiers: Vec<Identifier>,
        /// Groups whose Consumers get it whatever the share (`groups_then_percentage`); may be empty.
        groups_first: Vec<String>,
    },
}

/// How large a share is, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Always the same (`percentage`).
    Fixed(Share),
    /// From nobody to everybody in equal steps.
    Ramp(Ramp),
}

/// A timed ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    /// When it starts, since 1970.
    pub start: Duration,
    /// How long it takes; more than 0, default 1 h.
    pub duration: Duration,
    /// Number of equal steps; more than 1, default 1000.
    pub step_count: NonZeroU32,
}

/// What of a request its bucket is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// The Consumer's id. The anonymous Consumer is nobody: it would put all such clients into one bucket.
    Consumer,
    /// The client's address, as `server.trusted_ips` lets it be known.
    Ip,
    /// A header's values, joined with `, `.
    Header(HeaderName),
    /// A signed cookie of this name; a client that has none, or a forged one, is given one.
    Cookie(String),
}
