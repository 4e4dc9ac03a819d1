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
use super::identity::Identities;
use super::rows::Row;
use super::schema::format::{parse_network, split_host};
use super::schema::{target::DEFAULT_PORT, units};
use crate::model::{
    AccessLog, AccessLogFormat, Algorithm, Configuration, HashInput, Hashing, HeaderMatch, HostPattern,
    Limits, PathHandling, PathPattern, Protocol, Route, RouteProtocol, Secret, Service, Settings, Shutdown,
    Target, TargetHost, Timeouts, Upstream, ValueMatch, Weight,
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
                Err(error) => too_large(
                    &error,
                    "paths",
                    format!("{}.paths[{index}]", row.path),
                    row,
                    checker,
                ),
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
                    Err(error) => too_large(
                        &error,
                        "headers",
                        format!("{}.headers.{name}", row.path),
                        row,
                        checker,
                    ),
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

fn too_large(error: &regex::Error, field: &str, path: String, row: &Row<'_>, checker: &mut Checker<'_>) {
    let message = match error {
        regex::Error::CompiledTooBig(_) => "invalid regex: it is too large when compiled".to_owned(),
        error => format!("invalid regex: {error}"),
    };
    checker.error(
        row.span_of(field),
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
        _ => Algorithm::RoundRobin,
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
        shutdown: Shutdown {
            pre_stop_delay: duration(&server.shutdown.pre_stop_delay, defaults.shutdown.pre_stop_delay),
            drain: duration(&server.shutdown.drain, defaults.shutdown.drain),
        },
    }
}
