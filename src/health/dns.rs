//! Looking names up, off the request path.
//!
//! The control thread looks every name in use up when it first occurs and again when its answer's
//! time to live is over, each name on its own: one that times out delays no other. As in Kong, SRV
//! records come before addresses, and bring their own ports and weights.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use log::warn;
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::names::{Answer, Resolved};
use super::{Names, Observed};
use crate::clock;
use crate::model::{AddressFamily, Dns};
use crate::snapshot::Published;

/// How long start and reload wait for names they have not seen before.
const FIRST_LOOKUP: Duration = Duration::from_secs(3);
/// How long a name server may take, and how often it is asked again.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 2;
/// How long SRV records are waited for beside an answer that holds addresses: some name servers
/// never answer for types they do not know.
const SRV_TIMEOUT: Duration = Duration::from_secs(2);
/// Look-ups under way at once.
const CONCURRENCY: usize = 64;
/// Where there is nothing to look up, the next look at what is in use.
const IDLE: Duration = Duration::from_secs(3600);

/// Returns a resolver on the given name servers, or where none are given on those of this host
/// (`/etc/resolv.conf`); `/etc/hosts` comes first, and stands alone where there are no name servers,
/// as in an empty container.
///
/// It belongs to the runtime that it is made in.
pub fn resolver(dns: &Dns) -> TokioResolver {
    let on = |servers| {
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let mut builder = match &*dns.resolvers {
        [] => TokioResolver::builder_tokio().unwrap_or_else(|error| {
            warn!("no name servers: {error}; only /etc/hosts is asked");
            on(Vec::new())
        }),
        servers => on(servers.iter().map(|address| name_server(*address)).collect()),
    };
    let options = builder.options_mut();
    options.timeout = SERVER_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.ip_strategy = match dns.family {
        AddressFamily::Any => LookupIpStrategy::Ipv4AndIpv6,
        AddressFamily::Ipv4 => LookupIpStrategy::Ipv4Only,
        AddressFamily::Ipv6 => LookupIpStrategy::Ipv6Only,
    };
    // Answers are kept by `Names` for as long as they may be; a second cache would only add to that.
    options.cache_size = 0;
    builder
        .build()
        .expect("a resolver without TLS has nothing to fail on")
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    NameServerConfig::new(address.ip(), true, connections)
}

/// Looks up the names that were never asked for, and returns when all have answered or
/// a limit of 3 s is over.
pub async fn learn(names: &Names, resolver: &TokioResolver, wanted: impl IntoIterator<Item = String>) {
    let wanted: HashSet<String> = wanted.into_iter().filter(|name| !names.knows(name)).collect();
    let mut waiting = wanted.into_iter();
    let mut lookups = Lookups::new(resolver);
    let all = async {
        loop {
            lookups.start(&mut waiting);
            let Some((name, outcome)) = lookups.next().await else {
                return;
            };
            names.take(&name, outcome, clock::monotonic());
        }
    };
    let _ = timeout(FIRST_LOOKUP, all).await;
}

/// Keeps the names of the snapshot in force up to date until shutdown.
pub async fn run(
    observed: &Observed,
    resolver: &TokioResolver,
    published: &Published,
    mut shutdown: ShutdownWatch,
) {
    let mut generation = published.watch();
    let mut lookups = Lookups::new(resolver);
    loop {
        let snapshot = published.current();
        let names = snapshot.upstreams.iter().flat_map(|upstream| upstream.names());
        let in_use: HashSet<String> = names.map(str::to_owned).collect();
        let now = clock::monotonic();
        let (due, next) = observed.names.due(&in_use, now);
        lookups.start(&mut due.into_iter());
        let pause = next.map_or(IDLE, |due| due.saturating_duration_since(now));
        tokio::select! {
            Some((name, outcome)) = lookups.next() => {
                if observed.names.take(&name, outcome, clock::monotonic()) {
                    refresh(observed, &published.current().upstreams, &name);
                }
            }
            () = tokio::time::sleep(pause) => {}
            changed = generation.changed() => if changed.is_err() { return },
            _ = shutdown.changed() => return,
        }
    }
}

fn refresh(observed: &Observed, upstreams: &[std::sync::Arc<crate::snapshot::Upstream>], changed: &str) {
    for upstream in upstreams {
        if upstream.names().any(|name| name == changed) {
            upstream.refresh(observed);
        }
    }
}

/// Look-ups under way, never two of one name.
struct Lookups {
    resolver: TokioResolver,
    names: HashSet<String>,
    tasks: JoinSet<(String, Result<Answer, String>)>,
}

impl Lookups {
    fn new(resolver: &TokioResolver) -> Self {
        Self {
            resolver: resolver.clone(),
            names: HashSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts look-ups until the most that may be under way are.
    fn start(&mut self, waiting: &mut dyn Iterator<Item = String>) {
        while self.tasks.len() < CONCURRENCY {
            let Some(name) = waiting.next() else { return };
            if self.names.insert(name.clone()) {
                let resolver = self.resolver.clone();
                self.tasks.spawn(async move {
                    let outcome = look_up(&resolver, &name).await;
                    (name, outcome)
                });
            }
        }
    }

    /// Waits for the next outcome; `None` when nothing is under way.
    async fn next(&mut self) -> Option<(String, Result<Answer, String>)> {
        let done = self
            .tasks
            .join_next()
            .await?
            .expect("a look-up neither panics nor is cancelled");
        self.names.remove(&done.0);
        Some(done)
    }
}

/// Looks one name up: its SRV records if it has any, else its addresses.
async fn look_up(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    let full = fully_qualified(name);
    let services = timeout(SRV_TIMEOUT, look_up_services(resolver, &full));
    let addresses = resolver.lookup_ip(full.as_str());
    match tokio::join!(services, addresses) {
        (Ok(Some(answer)), _) => Ok(answer),
        (_, Ok(found)) => Ok(answer_of(&found, None, None)),
        (_, Err(error)) => Err(error.to_string()),
    }
}

/// Resolves the SRV records of the best priority (RFC 2782); `None` when there are none.
async fn look_up_services(resolver: &TokioResolver, name: &str) -> Option<Answer> {
    // A name of one label is a host of this network, not a service of a domain.
    if !name.contains('.') {
        return None;
    }
    let found = resolver.srv_lookup(name).await.ok()?;
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service.clone()),
        _ => None,
    });
    let records: Vec<_> = records.collect();
    let best = records.iter().map(|record| record.priority).min()?;
    let mut answer = Answer {
        addresses: Vec::new(),
        ttl: remaining(found.valid_until()),
    };
    for record in records.iter().filter(|record| record.priority == best) {
        let Ok(found) = resolver.lookup_ip(record.target.clone()).await else {
            continue;
        };
        // Weight 0 stands for "hardly ever" among services (RFC 2782), for "never" among Targets.
        let found = answer_of(&found, Some(record.port), Some(record.weight.max(1)));
        answer.ttl = answer.ttl.min(found.ttl);
        answer.addresses.extend(found.addresses);
    }
    (!answer.addresses.is_empty()).then_some(answer)
}

fn answer_of(found: &LookupIp, port: Option<u16>, weight: Option<u16>) -> Answer {
    let addresses = found
        .iter()
        .map(|address| Resolved {
            address,
            port,
            weight,
        })
        .collect();
    Answer {
        addresses,
        ttl: remaining(found.valid_until()),
    }
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(clock::monotonic())
}

/// A dot at the end keeps a name with dots from being tried under every search domain first.
fn fully_qualified(name: &str) -> String {
    match name.contains('.') && !name.ends_with('.') {
        true => format!("{name}."),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_known_without_a_name_server() {
        let names = Names::default();
        learn(&names, &resolver(&Dns::default()), ["localhost".to_owned()]).await;
        assert!(
            names
                .addresses("localhost")
                .iter()
                .any(|found| found.address.is_loopback())
        );
    }
}
