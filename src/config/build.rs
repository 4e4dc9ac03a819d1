//! Checked rows to the model.
//!
//! Everything was judged by then, so this step only changes shapes: text to addresses, milliseconds to
//! durations, one entity's reference to another's id. What can still fail is what only trying shows: a
//! regular expression whose automaton is too large.

use std::time::Duration;

use http::HeaderName;
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::Checker;
use super::document as written;
use super::health;
use super::identity::Identities;
use super::mark::Span;
use super::rows::Row;
use super::schema::address::{parse_network, split_host};
use super::schema::{tag::slow_start, target::DEFAULT_PORT, units};
use crate::model::{
    AccessLog, AccessLogFormat, AddressFamily, Algorithm, Configuration, Dns, HashInput, Hashing,
    HeaderMatch, HostPattern, Limits, PathHandling, PathPattern, Protocol, RetryBudget, Route, RouteProtocol,
    Secret, Service, SessionCookie, Settings, Shutdown, Target, TargetHost, Timeouts, Upstream, ValueMatch,
    Weight,
};

/// Builds the model; whatever fails is reported, and the result is then not to be used.
pub(crate) fn build(
    rows: &[Row<'_>],
    identities: &Identities,
    server: Map<String, Value>,
    checker: &mut Checker<'_>,
) -> Configuration {
    let mut configuration = Configuration {
        settings: settings(server, checker),
        ..Configuration::default()
    };
    let mut routes: Vec<(f64, Route)> = Vec::new();
    let mut upstream_of_row = vec![None; rows.len()];
    for (index, row) in rows.iter().enumerate() {
        let id = identities.ids[index];
        let values = row.values.clone();
        match row.entity.name {
            "services" => {
                let Some(service) = read::<written::Service>(values, &row.path, checker) else {
                    continue;
                };
                configuration.services.push(Service {
                    id,
                    name: service.name,
                    protocol: Protocol::Http,
                    host: service.host,
                    port: service.port,
                    path: service.path,
                    retries: service.retries,
                    connect_timeout: Duration::from_millis(service.connect_timeout),
                    write_timeout: Duration::from_millis(service.write_timeout),
                    read_timeout: Duration::from_millis(service.read_timeout),
                    enabled: service.enabled,
                });
            }
            "routes" => {
                let created_at = values
                    .get("created_at")
                    .and_then(Value::as_f64)
                    .unwrap_or(f64::MAX);
                let service = identities.references[index].map(|row| identities.ids[row]);
                let Some(route) = read::<written::Route>(values, &row.path, checker) else {
                    continue;
                };
                let paths = paths(&route.paths, row, checker);
                let headers = headers(&route.headers, row, checker);
                routes.push((
                    created_at,
                    Route {
                        id,
                        name: route.name,
                        service,
                        protocols: route.protocols.iter().map(|one| route_protocol(one)).collect(),
                        https_redirect_status_code: route.https_redirect_status_code,
                        methods: route.methods,
                        hosts: route.hosts.iter().filter_map(|host| host_pattern(host)).collect(),
                        paths,
                        headers,
                        snis: route
                            .snis
                            .iter()
                            .map(|name| name.trim_end_matches('.').to_lowercase())
                            .collect(),
                        strip_path: route.strip_path,
                        preserve_host: route.preserve_host,
                        regex_priority: route.regex_priority,
                        path_handling: if route.path_handling == "v1" {
                            PathHandling::V1
                        } else {
                            PathHandling::V0
                        },
                    },
                ));
            }
            "upstreams" => {
                let Some(upstream) = read::<written::Upstream>(values, &row.path, checker) else {
                    continue;
                };
                upstream_of_row[index] = Some(configuration.upstreams.len());
                configuration.upstreams.push(Upstream {
                    id,
                    algorithm: algorithm(&upstream),
                    name: upstream.name,
                    health: health::health_checks(&upstream.healthchecks, row, checker),
                    slow_start: upstream
                        .tags
                        .iter()
                        .find_map(|tag| slow_start(tag).ok().flatten()),
                    host_header: upstream.host_header,
                    targets: Vec::new(),
                });
            }
            _ => {}
        }
    }
    // Targets may be listed before their Upstream.
    for (index, row) in rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.entity.name == "targets")
    {
        let upstream = identities.references[index].and_then(|row| upstream_of_row[row]);
        let target = read::<written::Target>(row.values.clone(), &row.path, checker);
        let (Some(upstream), Some(target)) = (upstream, target) else {
            continue;
        };
        let Ok((host, port)) = split_host(&target.target) else {
            continue;
        };
        configuration.upstreams[upstream].targets.push(Target {
            id: identities.ids[index],
            host: TargetHost::parse(host),
            port: port.unwrap_or(DEFAULT_PORT),
            weight: Weight::new(target.weight),
        });
    }
    // Stable, so Routes without a time keep the order of the source, behind those that have one.
    routes.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    configuration.routes = routes.into_iter().map(|(_, route)| route).collect();
    configuration
}

/// Reads a checked value into its shape. A failure means that table and shape disagree, which is a
/// defect; it is reported rather than allowed to end the process.
fn read<T: DeserializeOwned>(values: Map<String, Value>, path: &str, checker: &mut Checker<'_>) -> Option<T> {
    match serde_json::from_value(Value::Object(values)) {
        Ok(value) => Some(value),
        Err(error) => {
            checker.error(
                None,
                path,
                format!("this should have been found earlier: {error}"),
                None,
            );
            None
        }
    }
}

fn route_protocol(protocol: &str) -> RouteProtocol {
    if protocol == "https" {
        RouteProtocol::Https
    } else {
        RouteProtocol::Http
    }
}

fn host_pattern(text: &str) -> Option<HostPattern> {
    // A wildcard is no host name, so it is hidden while the port is taken off.
    let shown = text.to_ascii_lowercase();
    let (_, port) = split_host(&shown.replace('*', "x")).ok()?;
    let host = match port {
        Some(_) => shown.rsplit_once(':')?.0.to_owned(),
        None => shown,
    };
    Some(if let Some(suffix) = host.strip_prefix('*') {
        HostPattern::Suffix {
            suffix: suffix.to_owned(),
            port,
        }
    } else if let Some(prefix) = host.strip_suffix('*') {
        HostPattern::Prefix {
            prefix: prefix.to_owned(),
            port,
        }
    } else {
        HostPattern::Exact { host, port }
    })
}

fn paths(paths: &[String], row: &Row<'_>, checker: &mut Checker<'_>) -> Vec<PathPattern> {
    let mut patterns = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        match path.strip_prefix('~') {
            None => patterns.push(PathPattern::Prefix(path.clone())),
            Some(pattern) => match PathPattern::regex(pattern) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    let span = row.item_span("paths", index);
                    too_large(&error, span, format!("{}.paths[{index}]", row.path), checker)
                }
            },
        }
    }
    patterns
}

fn headers(headers: &Map<String, Value>, row: &Row<'_>, checker: &mut Checker<'_>) -> Vec<HeaderMatch> {
    let mut matches = Vec::with_capacity(headers.len());
    for (name, values) in headers {
        let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        let mut alternatives = Vec::new();
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            match value.strip_prefix("~*") {
                None => alternatives.push(ValueMatch::Exact(value.to_lowercase())),
                Some(pattern) => match Regex::new(pattern) {
                    Ok(regex) => alternatives.push(ValueMatch::Regex(regex)),
                    Err(error) => {
                        let span = row.span_of("headers");
                        too_large(&error, span, format!("{}.headers.{name}", row.path), checker)
                    }
                },
            }
        }
        matches.push(HeaderMatch {
            name: field,
            values: alternatives,
        });
    }
    matches
}

fn too_large(error: &regex::Error, span: Option<Span>, path: String, checker: &mut Checker<'_>) {
    let message = match error {
        regex::Error::CompiledTooBig(_) => "invalid regex: it is too large when compiled".to_owned(),
        error => format!("invalid regex: {error}"),
    };
    checker.error(
        span,
        path,
        message,
        Some("use smaller repetition counts".to_owned()),
    );
}

fn algorithm(upstream: &written::Upstream) -> Algorithm {
    let input = |kind: &str,
                 header: &Option<String>,
                 query_arg: &Option<String>,
                 uri_capture: &Option<String>| match kind {
        "ip" => Some(HashInput::Ip),
        "path" => Some(HashInput::Path),
        "header" => header
            .as_ref()
            .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .map(HashInput::Header),
        "cookie" => upstream.hash_on_cookie.clone().map(|name| HashInput::Cookie {
            name,
            path: upstream.hash_on_cookie_path.clone(),
        }),
        "query_arg" => query_arg.clone().map(HashInput::QueryArg),
        "uri_capture" => uri_capture.clone().map(HashInput::UriCapture),
        _ => None,
    };
    let first = input(
        &upstream.hash_on,
        &upstream.hash_on_header,
        &upstream.hash_on_query_arg,
        &upstream.hash_on_uri_capture,
    );
    let fallback = input(
        &upstream.hash_fallback,
        &upstream.hash_fallback_header,
        &upstream.hash_fallback_query_arg,
        &upstream.hash_fallback_uri_capture,
    );
    match first {
        Some(input) if upstream.algorithm == "consistent-hashing" => Algorithm::ConsistentHashing(Hashing {
            input,
            fallback,
            slots: upstream.slots,
        }),
        _ => match (upstream.algorithm.as_str(), &upstream.sticky_sessions_cookie) {
            ("least-connections", _) => Algorithm::LeastConnections,
            ("latency", _) => Algorithm::Latency,
            ("sticky-sessions", Some(name)) => Algorithm::StickySessions(SessionCookie {
                name: name.clone(),
                path: upstream.sticky_sessions_cookie_path.clone(),
            }),
            _ => Algorithm::RoundRobin,
        },
    }
}

/// Builds the settings; what is missing because of an error keeps its default.
fn settings(server: Map<String, Value>, checker: &mut Checker<'_>) -> Settings {
    let defaults = Settings::default();
    let Some(server) = read::<written::Server>(server, "server", checker) else {
        return defaults;
    };
    let duration = |value: &Value, default: Duration| units::parse_duration(value).unwrap_or(default);
    let size = |value: &Value| match units::parse_size(value) {
        Some(units::Size::Bytes(bytes)) => Some(bytes),
        _ => None,
    };
    let count = |value: &Value, default: usize| {
        size(value)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(default)
    };
    Settings {
        threads: server.threads,
        listeners: server.listeners.iter().map(|listener| listener.address).collect(),
        status: serde_json::from_value::<written::Address>(server.status)
            .ok()
            .map(|status| status.address),
        secret: server.secret.and_then(Secret::new),
        secret_file: server.secret_file,
        dns: Dns {
            resolvers: server.dns.resolvers,
            family: match &*server.dns.family {
                "ipv4" => AddressFamily::Ipv4,
                "ipv6" => AddressFamily::Ipv6,
                _ => AddressFamily::Any,
            },
        },
        trusted_ips: server
            .trusted_ips
            .iter()
            .filter_map(|text| parse_network(text))
            .collect(),
        access_log: serde_json::from_value::<written::AccessLog>(server.access_log)
            .ok()
            .map(|log| AccessLog {
                format: if log.format == "combined" {
                    AccessLogFormat::Combined
                } else {
                    AccessLogFormat::Json
                },
                path: log.path,
            }),
        variant_header: false,
        limits: Limits {
            header_bytes: count(&server.limits.header_bytes, defaults.limits.header_bytes),
            headers: server.limits.headers,
            uri_bytes: count(&server.limits.uri_bytes, defaults.limits.uri_bytes),
            body_bytes: size(&server.limits.body_bytes),
        },
        timeouts: Timeouts {
            body_idle: duration(&server.timeouts.body_idle, defaults.timeouts.body_idle),
            keepalive: duration(&server.timeouts.keepalive, defaults.timeouts.keepalive),
            requests_per_connection: server.timeouts.requests_per_connection,
        },
        retries: RetryBudget {
            budget_percent: server.retries.budget_percent,
            min_concurrent: server.retries.min_concurrent,
        },
        shutdown: Shutdown {
            pre_stop_delay: duration(&server.shutdown.pre_stop_delay, defaults.shutdown.pre_stop_delay),
            drain: duration(&server.shutdown.drain, defaults.shutdown.drain),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load_text};

    fn load(text: &str) -> Configuration {
        let text = format!("_format_version: \"3.0\"\n{text}");
        match load_text("f.yaml", &text, &Overrides::default()) {
            Ok(loaded) => loaded.configuration,
            Err(report) => panic!("{report}"),
        }
    }

    fn check_algorithm(fields: &str, expected: Algorithm) {
        let upstream = format!("upstreams: [{{name: a, {fields}, targets: [{{target: 'a:1'}}]}}]");
        assert_eq!(load(&upstream).upstreams[0].algorithm, expected, "{fields}");
    }

    /// The defaults are in the table, for operators, and in the model, for programs: they must not differ.
    #[test]
    fn the_tables_defaults_of_the_server_are_those_of_the_model() {
        assert_eq!(load("").settings, Settings::default());
        let all =
            "server: {status: null, access_log: {}, limits: null, timeouts: {}, shutdown: {drain: null}}";
        assert_eq!(load(all).settings, Settings::default());
    }

    #[test]
    fn every_setting_arrives() {
        let secret = "0123456789abcdef0123456789abcdef";
        let settings = load(&format!(
            "server:\n  threads: 3\n  listeners: [{{address: '[::1]:0'}}, {{address: 127.0.0.1:9000}}]\n  status: false\n  \
             secret: {secret}\n  secret_file: /tmp/s\n  trusted_ips: [10.0.0.0/8, '::1']\n  dns: {{resolvers: ['127.0.0.1:53'], family: ipv4}}\n  access_log: {{format: combined, path: /a}}\n  \
             limits: {{header_bytes: 1KiB, headers: 7, uri_bytes: 100, body_bytes: 2MiB}}\n  \
             timeouts: {{body_idle: 500ms, keepalive: 1m30s, requests_per_connection: 5}}\n  retries: {{budget_percent: 50, min_concurrent: 0}}\n  \
             shutdown: {{pre_stop_delay: 1s, drain: 0s}}"
        ))
        .settings;
        let expected = Settings {
            threads: Some(3),
            listeners: vec!["[::1]:0".parse().unwrap(), "127.0.0.1:9000".parse().unwrap()],
            status: None,
            secret: Secret::new(secret),
            secret_file: "/tmp/s".into(),
            trusted_ips: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            dns: Dns {
                resolvers: vec!["127.0.0.1:53".parse().unwrap()],
                family: AddressFamily::Ipv4,
            },
            access_log: Some(AccessLog {
                format: AccessLogFormat::Combined,
                path: "/a".into(),
            }),
            variant_header: false,
            limits: Limits {
                header_bytes: 1024,
                headers: 7,
                uri_bytes: 100,
                body_bytes: Some(2 * 1024 * 1024),
            },
            timeouts: Timeouts {
                body_idle: Duration::from_millis(500),
                keepalive: Duration::from_secs(90),
                requests_per_connection: 5,
            },
            retries: RetryBudget {
                budget_percent: 50,
                min_concurrent: 0,
            },
            shutdown: Shutdown {
                pre_stop_delay: Duration::from_secs(1),
                drain: Duration::ZERO,
            },
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_service_has_kongs_defaults_and_a_url_is_expanded() {
        let services =
            load("services: [{name: a, host: b}, {name: c, url: 'http://d:81/e', enabled: false}]").services;
        let minute = Duration::from_secs(60);
        let first = Service {
            id: services[0].id,
            name: Some("a".into()),
            protocol: Protocol::Http,
            host: "b".into(),
            port: 80,
            path: None,
            retries: 5,
            connect_timeout: minute,
            write_timeout: minute,
            read_timeout: minute,
            enabled: true,
        };
        assert_eq!(services[0], first);
        let second = &services[1];
        assert_eq!(
            (
                second.host.as_str(),
                second.port,
                second.path.as_deref(),
                second.enabled
            ),
            ("d", 81, Some("/e"), false)
        );
    }

    #[test]
    fn conditions_of_a_route_are_taken_apart() {
        let route = &load(
            "routes:\n- hosts: [A.example, '*.b.example:81', 'c.*', '[::1]:80']\n  paths: [/p, '~/q|/r']\n  methods: [GET]\n  \
             headers: {X-Team: [Blue, '~*^re']}\n  protocols: [https]\n  strip_path: false\n  path_handling: v1\n  regex_priority: -1",
        )
        .routes[0];
        assert_eq!(
            route.hosts,
            [
                HostPattern::Exact {
                    host: "a.example".into(),
                    port: None
                },
                HostPattern::Suffix {
                    suffix: ".b.example".into(),
                    port: Some(81)
                },
                HostPattern::Prefix {
                    prefix: "c.".into(),
                    port: None
                },
                HostPattern::Exact {
                    host: "[::1]".into(),
                    port: Some(80)
                },
            ]
        );
        let sources: Vec<_> = route.paths.iter().map(PathPattern::source).collect();
        assert_eq!(sources, ["/p", "~/q|/r"]);
        let PathPattern::Regex(regex) = &route.paths[1] else {
            panic!("a regular expression")
        };
        assert!(
            regex.is_match("/rest") && !regex.is_match("/x/r"),
            "both alternatives are anchored"
        );
        assert_eq!(route.headers[0].name, "x-team");
        assert_eq!(route.headers[0].values[0], ValueMatch::Exact("blue".into()));
        assert!(matches!(&route.headers[0].values[1], ValueMatch::Regex(regex) if regex.as_str() == "^re"));
        assert_eq!(route.protocols, [RouteProtocol::Https]);
        assert_eq!(
            (route.strip_path, route.path_handling, route.regex_priority),
            (false, PathHandling::V1, -1)
        );
    }

    #[test]
    fn routes_are_ordered_by_age_and_then_by_source() {
        let routes = load(
            "routes:\n- {name: b, paths: [/]}\n- {name: young, paths: [/], created_at: 20}\n- {name: old, paths: [/], created_at: 10}\n- {name: a, paths: [/]}",
        )
        .routes;
        let names: Vec<_> = routes.iter().map(Route::label).collect();
        assert_eq!(names, ["old", "young", "b", "a"]);
    }

    #[test]
    fn targets_are_found_nested_and_apart() {
        let upstreams = load(
            "targets:\n- {upstream: a, target: '[::1]', weight: 0}\nupstreams:\n- name: a\n  targets: [{target: B.example:80}]\n",
        )
        .upstreams;
        let labels: Vec<_> = upstreams[0]
            .targets
            .iter()
            .map(|target| (target.label(), target.weight.get()))
            .collect();
        assert_eq!(
            labels,
            [("[::1]:8000".to_owned(), 0), ("b.example:80".to_owned(), 100)]
        );
    }

    #[test]
    fn hashing_takes_its_input_from_the_fields_that_belong_to_it() {
        let hashing = |input, fallback, slots| {
            Algorithm::ConsistentHashing(Hashing {
                input,
                fallback,
                slots,
            })
        };
        let header = |name: &'static str| HashInput::Header(HeaderName::from_static(name));
        for (fields, algorithm) in [
            ("algorithm: least-connections", Algorithm::LeastConnections),
            ("algorithm: latency, slots: 20, hash_on: none", Algorithm::Latency),
            // decK writes both; the algorithm is what is meant.
            (
                "algorithm: least-connections, hash_on: ip",
                Algorithm::LeastConnections,
            ),
            (
                "algorithm: latency, hash_on: header, hash_fallback: ip",
                Algorithm::Latency,
            ),
        ] {
            check_algorithm(fields, algorithm);
        }
        let session = |path: &str| {
            Algorithm::StickySessions(SessionCookie {
                name: "session".to_owned(),
                path: path.to_owned(),
            })
        };
        let sticky = "algorithm: sticky-sessions, sticky_sessions_cookie: session";
        check_algorithm(sticky, session("/"));
        check_algorithm(
            &format!("{sticky}, sticky_sessions_cookie_path: /shop"),
            session("/shop"),
        );
        check_algorithm("slots: 20", Algorithm::RoundRobin);
        check_algorithm("hash_on: ip", hashing(HashInput::Ip, None, 10_000));
        check_algorithm(
            "algorithm: consistent-hashing, hash_on: header, hash_on_header: X-A, hash_fallback: header, hash_fallback_header: X-B, slots: 20",
            hashing(header("x-a"), Some(header("x-b")), 20),
        );
        let cookie = HashInput::Cookie {
            name: "sid".into(),
            path: "/p".into(),
        };
        check_algorithm(
            "hash_on: cookie, hash_on_cookie: sid, hash_on_cookie_path: /p",
            hashing(cookie, None, 10_000),
        );
        check_algorithm(
            "hash_on: uri_capture, hash_on_uri_capture: id, hash_fallback: query_arg, hash_fallback_query_arg: q",
            hashing(
                HashInput::UriCapture("id".into()),
                Some(HashInput::QueryArg("q".into())),
                10_000,
            ),
        );
        check_algorithm(
            "hash_on: path, hash_fallback: ip",
            hashing(HashInput::Path, Some(HashInput::Ip), 10_000),
        );
    }
}
