//! Routes: conditions taken apart, regular expressions compiled.

use std::sync::Arc;

use http::HeaderName;
use regex::Regex;
use serde_json::{Map, Value};

use super::{Findings, read};
use crate::config::document as written;
use crate::config::schema::address::split_host;
use crate::entity::Entity;
use crate::model::{HeaderMatch, HostPattern, PathHandling, PathPattern, Route, RouteProtocol, ValueMatch};

/// Builds a Route.
pub(super) fn route(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Route> {
    let entity = from.first()?;
    let route = read::<written::Route>(&entity.values, entity, findings)?;
    let paths = paths(&route.paths, entity, findings);
    let headers = headers(&route.headers, entity, findings);
    Some(Route {
        id: entity.id,
        name: route.name,
        service: entity.reference("service"),
        protocols: route.protocols.iter().map(|one| route_protocol(one)).collect(),
        is_grpc: route.protocols.iter().any(|one| one.starts_with("grpc")),
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
    })
}

pub(super) fn route_protocol(protocol: &str) -> RouteProtocol {
    if matches!(protocol, "https" | "grpcs") {
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

fn paths(paths: &[String], entity: &Entity, findings: &mut Findings) -> Vec<PathPattern> {
    let mut patterns = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        match path.strip_prefix('~') {
            None => patterns.push(PathPattern::Prefix(path.clone())),
            Some(pattern) => match PathPattern::regex(pattern) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    let place = ("paths", Some(index));
                    too_large(&error, entity, place, format!("paths[{index}]"), findings)
                }
            },
        }
    }
    patterns
}

fn headers(headers: &Map<String, Value>, entity: &Entity, findings: &mut Findings) -> Vec<HeaderMatch> {
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
                        let place = ("headers", None);
                        too_large(&error, entity, place, format!("headers.{name}"), findings)
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

fn too_large(
    error: &regex::Error,
    entity: &Entity,
    place: (&'static str, Option<usize>),
    path: String,
    findings: &mut Findings,
) {
    let message = match error {
        regex::Error::CompiledTooBig(_) => "invalid regex: it is too large when compiled".to_owned(),
        error => format!("invalid regex: {error}"),
    };
    findings.error(
        entity,
        place,
        path,
        message,
        Some("use smaller repetition counts"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;

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
        let names: Vec<_> = routes.iter().map(|route| route.label()).collect();
        assert_eq!(names, ["old", "young", "b", "a"]);
    }
}
