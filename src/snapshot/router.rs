//! The route table: host, path, method and headers → Route, in Kong's order of precedence.
//!
//! Kong splits a Route into one entry for each length of its paths and one for its regular
//! expressions, and sorts all entries; the first that matches wins. The same order is a rank here,
//! given to each (Route, path) once. What differs is how the first match is found: not by walking
//! the list but by host, then by the prefixes of the path that occur in the table, so that a
//! request costs a hash look-up and a binary search whatever the number of Routes.
//!
//! A regular expression stands in the same search under its literal prefix: `~/api/v\d+/cart` is
//! looked at only for paths that start with `/api/v`.

use std::cmp::Reverse;
use std::collections::HashMap;

use ahash::RandomState;
use http::{HeaderMap, Method};
use regex::Regex;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use crate::model::{HeaderMatch, HostPattern, PathPattern, Route, ValueMatch};
use crate::priority::patiently;

/// What of a request the table looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Method, as sent.
    pub method: &'a Method,
    /// Host without port, lower case; empty when the request names none.
    pub host: &'a str,
    /// Port the client named, or else the one it came to.
    pub port: u16,
    /// Normalised path, without the query.
    pub path: &'a str,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// Server name of the TLS handshake, lower case; `None` on plain HTTP.
    pub sni: Option<&'a str>,
}

/// The Route of a request and how its path matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Position in the list the table was built from.
    pub route: usize,
    /// How many bytes of the path the Route's pattern covers; `None` when it has no paths.
    pub path_bytes: Option<usize>,
    /// Which of the Route's paths matched.
    pub pattern: usize,
}

/// The compiled table.
#[derive(Debug, Default)]
pub struct Router {
    entries: Vec<Entry>,
    exact: HashMap<Box<str>, Paths, RandomState>,
    suffix: HashMap<Box<str>, Paths, RandomState>,
    prefix: HashMap<Box<str>, Paths, RandomState>,
    any_host: Paths,
}

/// One (Route, path) under one rank. Entries are sorted, so a position is a rank: lower wins.
#[derive(Debug)]
struct Entry {
    route: usize,
    pattern: usize,
    regex: Option<Regex>,
    prefix_bytes: Option<usize>,
    methods: Box<[Method]>,
    headers: Box<[HeaderMatch]>,
    hosts: Box<[HostPattern]>,
    snis: Box<[String]>,
}

/// The entries of one host by the literal bytes their path starts with.
#[derive(Debug, Default)]
struct Paths {
    /// Sorted; `keys[i]`'s longest proper prefix in the list is `parents[i]`.
    keys: Vec<Box<str>>,
    parents: Vec<Option<u32>>,
    /// For each key the ranks of its entries, ascending.
    ranks: Vec<Vec<u32>>,
}

impl Router {
    /// Builds the table; `routes` are in the order that breaks ties, older first.
    pub fn build<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Self {
        let mut sorted: Vec<(Precedence, Entry, String)> = Vec::new();
        for (index, route) in patiently(routes).enumerate() {
            sorted.extend(entries_of(index, route));
        }
        sorted.sort_by(|(a, ..), (b, ..)| a.cmp(b));

        let mut router = Self::default();
        let mut groups: HashMap<HostKey, HashMap<String, Vec<u32>, RandomState>, RandomState> =
            HashMap::default();
        for (rank, (_, entry, literal)) in patiently(sorted).enumerate() {
            let rank = u32::try_from(rank).expect("fewer than 2^32 routes");
            for host in host_keys(&entry.hosts) {
                groups
                    .entry(host)
                    .or_default()
                    .entry(literal.clone())
                    .or_default()
                    .push(rank);
            }
            router.entries.push(entry);
        }
        for (host, paths) in groups {
            let paths = Paths::build(paths);
            match host {
                HostKey::Any => router.any_host = paths,
                HostKey::Exact(name) => drop(router.exact.insert(name.into(), paths)),
                HostKey::Suffix(name) => drop(router.suffix.insert(name.into(), paths)),
                HostKey::Prefix(name) => drop(router.prefix.insert(name.into(), paths)),
            }
        }
        router
    }

    /// Returns the Route of a request, if any.
    ///
    /// Costs one hash look-up (two more for each label of the host when wildcard hosts exist) and
    /// a binary search over the distinct paths of that host; allocates nothing.
    pub fn find(&self, subject: &Subject<'_>) -> Option<Matched> {
        let mut best: Option<(u32, Matched)> = None;
        let mut consider = |paths: &Paths| {
            paths.for_each_prefix(subject.path, |ranks| {
                for &rank in ranks {
                    if best.is_some_and(|(found, _)| found <= rank) {
                        break;
                    }
                    if let Some(matched) = self.entries[rank as usize].matches(subject) {
                        best = Some((rank, matched));
                        break;
                    }
                }
            });
        };
        if !self.exact.is_empty()
            && let Some(paths) = self.exact.get(subject.host)
        {
            consider(paths);
        }
        if !self.suffix.is_empty() {
            for (dot, _) in subject.host.match_indices('.') {
                if let Some(paths) = self.suffix.get(&subject.host[dot..]) {
                    consider(paths);
                }
            }
        }
        if !self.prefix.is_empty() {
            for (dot, _) in subject.host.match_indices('.') {
                if let Some(paths) = self.prefix.get(&subject.host[..=dot]) {
                    consider(paths);
                }
            }
        }
        consider(&self.any_host);
        best.map(|(_, matched)| matched)
    }
}

impl Paths {
    fn build(groups: HashMap<String, Vec<u32>, RandomState>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable();
        let mut paths = Self::default();
        // Positions of the keys that are prefixes of the one being added, shortest first.
        let mut open: Vec<u32> = Vec::new();
        for (key, ranks) in patiently(groups) {
            while open
                .last()
                .is_some_and(|&at| !key.starts_with(&*paths.keys[at as usize]))
            {
                open.pop();
            }
            paths.parents.push(open.last().copied());
            open.push(u32::try_from(paths.keys.len()).expect("fewer than 2^32 paths"));
            paths.keys.push(key.into());
            paths.ranks.push(ranks);
        }
        paths
    }

    /// Calls `visit` with the ranks of each key that `path` starts with, longest first.
    fn for_each_prefix(&self, path: &str, mut visit: impl FnMut(&[u32])) {
        // All keys that `path` starts with are ancestors of the last key that sorts before or at it.
        let after = self.keys.partition_point(|key| &**key <= path);
        let mut next = after.checked_sub(1).map(|at| at as u32);
        while let Some(at) = next {
            let at = at as usize;
            if path.starts_with(&*self.keys[at]) {
                visit(&self.ranks[at]);
            }
            next = self.parents[at];
        }
    }
}

/// Says whether a name in a handshake is the wanted one, in which the first or the last label may be a
/// wildcard. Both are in lower case, as rustls gives them and the model keeps them.
fn sni_matches(wanted: &str, name: &str) -> bool {
    if let Some(rest) = wanted.strip_prefix("*.") {
        return name.split_once('.').is_some_and(|(_, after)| after == rest);
    }
    if let Some(rest) = wanted.strip_suffix(".*") {
        return name.rsplit_once('.').is_some_and(|(before, _)| before == rest);
    }
    wanted == name
}

impl Entry {
    fn matches(&self, subject: &Subject<'_>) -> Option<Matched> {
        let method = self.methods.is_empty() || self.methods.contains(subject.method);
        let sni = self.snis.is_empty()
            || subject
                .sni
                .is_none_or(|name| self.snis.iter().any(|wanted| sni_matches(wanted, name)));
        if !method || !sni || !self.host_matches(subject) {
            return None;
        }
        if !self
            .headers
            .iter()
            .all(|header| header_matches(header, subject.headers))
        {
            return None;
        }
        let path_bytes = match (&self.regex, self.prefix_bytes) {
            (Some(regex), _) => Some(regex.find(subject.path)?.end()),
            (None, prefix_bytes) => prefix_bytes,
        };
        Some(Matched {
            route: self.route,
            path_bytes,
            pattern: self.pattern,
        })
    }

    /// The table has found the name already; what is left to compare is the port of the same pattern.
    fn host_matches(&self, subject: &Subject<'_>) -> bool {
        self.hosts.is_empty()
            || self.hosts.iter().any(|pattern| {
                let (name_matches, port) = match pattern {
                    HostPattern::Exact { host, port } => (subject.host == host, port),
                    HostPattern::Suffix { suffix, port } => (
                        subject.host.len() > suffix.len() && subject.host.ends_with(&**suffix),
                        port,
                    ),
                    HostPattern::Prefix { prefix, port } => (
                        subject.host.len() > prefix.len() && subject.host.starts_with(&**prefix),
                        port,
                    ),
                };
                name_matches && port.is_none_or(|port| port == subject.port)
            })
    }
}

fn header_matches(condition: &HeaderMatch, headers: &HeaderMap) -> bool {
    headers.get_all(&condition.name).iter().any(|value| {
        let Ok(value) = value.to_str() else { return false };
        condition.values.iter().any(|wanted| match wanted {
            ValueMatch::Exact(text) => value.eq_ignore_ascii_case(text),
            ValueMatch::Regex(regex) => regex.is_match(value),
        })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum HostKey {
    Any,
    Exact(String),
    Suffix(String),
    Prefix(String),
}

fn host_keys(hosts: &[HostPattern]) -> Vec<HostKey> {
    if hosts.is_empty() {
        return vec![HostKey::Any];
    }
    let mut keys: Vec<HostKey> = Vec::new();
    for host in hosts {
        let key = match host {
            HostPattern::Exact { host, .. } => HostKey::Exact(host.clone()),
            HostPattern::Suffix { suffix, .. } => HostKey::Suffix(suffix.clone()),
            HostPattern::Prefix { prefix, .. } => HostKey::Prefix(prefix.clone()),
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Kong's order of precedence; the smallest comes first. Compared field by field:
/// more kinds of attributes, plain hosts before wildcards, more header names, regular expressions
/// before prefixes, higher `regex_priority`, longer path, older Route.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    attributes: Reverse<usize>,
    plain_hosts_only: Reverse<bool>,
    header_names: Reverse<usize>,
    is_prefix: bool,
    regex_priority: Reverse<i64>,
    path_bytes: Reverse<usize>,
    age: usize,
    pattern: usize,
}

/// Kong caps the number of header names it compares by.
const MAX_HEADER_NAMES: usize = 255;

fn entries_of(index: usize, route: &Route) -> Vec<(Precedence, Entry, String)> {
    let attributes = [
        !route.methods.is_empty(),
        !route.hosts.is_empty(),
        !route.headers.is_empty(),
        !route.paths.is_empty(),
        !route.snis.is_empty(),
    ];
    let plain_hosts_only = !route.hosts.is_empty()
        && route
            .hosts
            .iter()
            .all(|host| matches!(host, HostPattern::Exact { .. }));
    let methods: Box<[Method]> = route
        .methods
        .iter()
        .map(|method| Method::from_bytes(method.as_bytes()).expect("the model holds valid methods"))
        .collect();
    let precedence = |regex: bool, path_bytes: usize, pattern: usize| Precedence {
        attributes: Reverse(attributes.iter().filter(|used| **used).count()),
        plain_hosts_only: Reverse(plain_hosts_only),
        header_names: Reverse(route.headers.len().min(MAX_HEADER_NAMES)),
        is_prefix: !regex,
        regex_priority: Reverse(if regex { route.regex_priority } else { 0 }),
        path_bytes: Reverse(path_bytes),
        age: index,
        pattern,
    };
    let entry = |pattern: usize, regex: Option<Regex>, prefix_bytes: Option<usize>| Entry {
        route: index,
        pattern,
        regex,
        prefix_bytes,
        methods: methods.clone(),
        headers: route.headers.clone().into(),
        hosts: route.hosts.clone().into(),
        snis: route.snis.clone().into(),
    };
    if route.paths.is_empty() {
        return vec![(precedence(false, 0, 0), entry(0, None, None), String::new())];
    }
    route
        .paths
        .iter()
        .enumerate()
        .map(|(at, path)| match path {
            PathPattern::Prefix(prefix) => (
                precedence(false, prefix.len(), at),
                entry(at, None, Some(prefix.len())),
                prefix.clone(),
            ),
            PathPattern::Regex(regex) => (
                precedence(true, regex.as_str().len(), at),
                entry(at, Some(regex.clone()), None),
                literal_prefix(regex.as_str()),
            ),
        })
        .collect()
}

/// Returns bytes with which everything that the expression matches starts; may be empty.
fn literal_prefix(pattern: &str) -> String {
    let Ok(hir) = regex_syntax::parse(pattern) else {
        return String::new();
    };
    let literals = Extractor::new().kind(ExtractKind::Prefix).extract(&hir);
    literals
        .longest_common_prefix()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_handshake_may_be_meant_by_a_wildcard() {
        for (wanted, name, matches) in [
            ("a.example", "a.example", true),
            ("a.example", "b.example", false),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("a.*", "a.example", true),
            ("a.*", "", false),
        ] {
            assert_eq!(sni_matches(wanted, name), matches, "{wanted} {name}");
        }
    }
}
