//! The compiled route table against a naive matcher that reads Kong's rules off one by one.
//!
//! Routes and requests are drawn from small alphabets, so that most requests match several Routes
//! and precedence decides. The naive matcher walks all Routes and all their paths and keeps the best.

use std::cmp::Ordering;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serin::model::{HeaderMatch, HostPattern, PathPattern, Route, RouteProtocol, ValueMatch};
use serin::snapshot::{Matched, Router, Subject};

const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const HOSTS: [&str; 6] = [
    "shop.test",
    "www.shop.test",
    "*.shop.test",
    "*.test",
    "shop.*",
    "www.*",
];
const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/ab", "~/a", "~/a/\\w+", "~/[ab]+/c$"];
const HEADERS: [(&str, &str); 4] = [
    ("x-one", "1"),
    ("x-one", "2"),
    ("x-two", "~*^b"),
    ("x-three", "c"),
];
const SNIS: [&str; 2] = ["shop.test", "www.shop.test"];
const REQUEST_HOSTS: [&str; 5] = [
    "shop.test",
    "www.shop.test",
    "a.b.shop.test",
    "shop.example",
    "other",
];
const REQUEST_PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab/c", "/abc", "/b/c"];

#[derive(Debug, Clone)]
struct Request {
    method: Method,
    host: &'static str,
    port: u16,
    path: &'static str,
    headers: HeaderMap,
    sni: Option<&'static str>,
}

fn host(text: &str, port: Option<u16>) -> HostPattern {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(suffix), _) => HostPattern::Suffix {
            suffix: suffix.to_owned(),
            port,
        },
        (_, Some(prefix)) => HostPattern::Prefix {
            prefix: prefix.to_owned(),
            port,
        },
        _ => HostPattern::Exact {
            host: text.to_owned(),
            port,
        },
    }
}

fn path(text: &str) -> PathPattern {
    match text.strip_prefix('~') {
        Some(pattern) => PathPattern::regex(pattern).unwrap(),
        None => PathPattern::Prefix(text.to_owned()),
    }
}

fn header((name, value): (&'static str, &str)) -> HeaderMatch {
    let value = match value.strip_prefix("~*") {
        Some(pattern) => ValueMatch::Regex(regex::Regex::new(pattern).unwrap()),
        None => ValueMatch::Exact(value.to_owned()),
    };
    HeaderMatch {
        name: HeaderName::from_static(name),
        values: vec![value],
    }
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let port = select(vec![None, None, Some(8000)]);
    let route = (
        subsequence(METHODS.to_vec(), 0..=2),
        subsequence(SNIS.to_vec(), 0..=2),
        proptest::collection::vec((select(HOSTS.to_vec()), port), 0..=2),
        subsequence(PATHS.to_vec(), 0..=3),
        subsequence(HEADERS.to_vec(), 0..=2),
        -1i64..=1,
    );
    let route = route.prop_map(|(methods, snis, hosts, paths, headers, regex_priority)| Route {
        snis: snis.into_iter().map(str::to_owned).collect(),
        id: uuid::Uuid::nil(),
        name: None,
        service: None,
        protocols: vec![RouteProtocol::Http],
        is_grpc: false,
        https_redirect_status_code: 426,
        methods: methods.into_iter().map(str::to_owned).collect(),
        hosts: hosts.into_iter().map(|(text, port)| host(text, port)).collect(),
        paths: paths.into_iter().map(path).collect(),
        headers: headers.into_iter().map(header).collect(),
        strip_path: true,
        preserve_host: false,
        regex_priority,
        path_handling: Default::default(),
    });
    proptest::collection::vec(route, 1..=12)
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = (
        select(METHODS.to_vec()),
        select(vec![None, Some("shop.test"), Some("other")]),
        select(REQUEST_HOSTS.to_vec()),
        select(vec![8000, 9000]),
        select(REQUEST_PATHS.to_vec()),
        subsequence(
            vec![
                ("x-one", "1"),
                ("x-one", "2"),
                ("x-two", "B2"),
                ("x-two", "bee"),
                ("x-three", "C"),
            ],
            0..=3,
        ),
    );
    let request = request.prop_map(|(method, sni, host, port, path, fields)| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Request {
            method: method.parse().unwrap(),
            host,
            port,
            path,
            headers,
            sni,
        }
    });
    proptest::collection::vec(request, 1..=8)
}

/// One of a Route's paths that a request matches, as the naive matcher sees it.
struct Candidate<'a> {
    index: usize,
    pattern: usize,
    route: &'a Route,
    path_bytes: Option<usize>,
}

fn naive(routes: &[Route], request: &Request) -> Option<Matched> {
    let mut best: Option<Candidate<'_>> = None;
    for (index, route) in routes.iter().enumerate() {
        if !attributes_match(route, request) {
            continue;
        }
        for (pattern, path_bytes) in path_matches(route, request.path) {
            let candidate = Candidate {
                index,
                pattern,
                route,
                path_bytes,
            };
            if best
                .as_ref()
                .is_none_or(|best| precedence(&candidate, best) == Ordering::Greater)
            {
                best = Some(candidate);
            }
        }
    }
    best.map(|best| Matched {
        route: best.index,
        path_bytes: best.path_bytes,
        pattern: best.pattern,
    })
}

fn attributes_match(route: &Route, request: &Request) -> bool {
    let method = route.methods.is_empty()
        || route
            .methods
            .iter()
            .any(|method| method == request.method.as_str());
    let host = route.hosts.is_empty()
        || route.hosts.iter().any(|host| {
            let (name, port) = match host {
                HostPattern::Exact { host, port } => (request.host == host, port),
                HostPattern::Suffix { suffix, port } => (request.host.ends_with(suffix.as_str()), port),
                HostPattern::Prefix { prefix, port } => (request.host.starts_with(prefix.as_str()), port),
            };
            name && port.is_none_or(|port| port == request.port)
        });
    let headers = route.headers.iter().all(|condition| {
        request.headers.get_all(&condition.name).iter().any(|value| {
            let value = value.to_str().unwrap();
            condition.values.iter().any(|wanted| match wanted {
                ValueMatch::Exact(text) => value.to_lowercase() == *text,
                ValueMatch::Regex(regex) => regex.is_match(value),
            })
        })
    });
    let sni = route.snis.is_empty()
        || request
            .sni
            .is_none_or(|name| route.snis.iter().any(|wanted| wanted == name));
    method && host && headers && sni
}

fn path_matches(route: &Route, path: &str) -> Vec<(usize, Option<usize>)> {
    if route.paths.is_empty() {
        return vec![(0, None)];
    }
    let bytes = |pattern: &PathPattern| match pattern {
        PathPattern::Prefix(prefix) => path.starts_with(prefix.as_str()).then_some(prefix.len()),
        PathPattern::Regex(regex) => regex.find(path).map(|found| found.end()),
    };
    route
        .paths
        .iter()
        .enumerate()
        .filter_map(|(at, pattern)| Some((at, Some(bytes(pattern)?))))
        .collect()
}

/// Kong's order, read off: kinds of attributes, plain hosts, header names, regular expressions, their
/// priority, length of the path, age.
fn precedence(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let kinds = |route: &Route| {
        [
            route.methods.is_empty(),
            route.hosts.is_empty(),
            route.headers.is_empty(),
            route.paths.is_empty(),
            route.snis.is_empty(),
        ]
        .iter()
        .filter(|is_empty| !**is_empty)
        .count()
    };
    let is_plain = |route: &Route| {
        !route.hosts.is_empty()
            && route
                .hosts
                .iter()
                .all(|host| matches!(host, HostPattern::Exact { .. }))
    };
    let pattern = |candidate: &Candidate<'_>| candidate.route.paths.get(candidate.pattern).cloned();
    let is_regex = |candidate: &Candidate<'_>| matches!(pattern(candidate), Some(PathPattern::Regex(_)));
    let priority = |candidate: &Candidate<'_>| {
        if is_regex(candidate) {
            candidate.route.regex_priority
        } else {
            0
        }
    };
    let length = |candidate: &Candidate<'_>| match pattern(candidate) {
        Some(PathPattern::Regex(regex)) => regex.as_str().len(),
        Some(PathPattern::Prefix(prefix)) => prefix.len(),
        None => 0,
    };
    kinds(a.route)
        .cmp(&kinds(b.route))
        .then(is_plain(a.route).cmp(&is_plain(b.route)))
        .then(a.route.headers.len().cmp(&b.route.headers.len()))
        .then(is_regex(a).cmp(&is_regex(b)))
        .then(priority(a).cmp(&priority(b)))
        .then(length(a).cmp(&length(b)))
        .then(b.index.cmp(&a.index))
        .then(b.pattern.cmp(&a.pattern))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_table_agrees_with_the_rules(routes in routes(), requests in requests()) {
        let router = Router::build(&routes);
        for request in &requests {
            let subject = Subject {
                method: &request.method,
                host: request.host,
                port: request.port,
                path: request.path,
                headers: &request.headers,
                sni: request.sni,
            };
            prop_assert_eq!(router.find(&subject), naive(&routes, request), "{:?}", request);
        }
    }
}
