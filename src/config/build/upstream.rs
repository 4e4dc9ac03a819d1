//! Upstreams and their Targets.

use std::sync::Arc;

use http::HeaderName;

use super::{Findings, is_kind, read};
use crate::config::document as written;
use crate::config::health;
use crate::config::schema::address::split_host;
use crate::config::schema::{tag::slow_start, target::DEFAULT_PORT};
use crate::entity::Entity;
use crate::model::{Algorithm, HashInput, Hashing, SessionCookie, Target, TargetHost, Upstream, Weight};

/// Builds an Upstream; its Targets follow it.
pub(super) fn upstream(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Upstream> {
    let (entity, targets) = from.split_first()?;
    let upstream = read::<written::Upstream>(&entity.values, entity, findings)?;
    Some(Upstream {
        id: entity.id,
        algorithm: algorithm(&upstream),
        health: health::health_checks(&upstream.healthchecks, entity, findings),
        slow_start: upstream
            .tags
            .iter()
            .find_map(|tag| slow_start(tag).ok().flatten()),
        host_header: upstream.host_header,
        targets: (targets.iter())
            .filter(|entity| is_kind(entity, "targets"))
            .filter_map(|entity| target(entity, findings))
            .collect(),
        name: upstream.name,
    })
}

fn target(entity: &Entity, findings: &mut Findings) -> Option<Target> {
    let target = read::<written::Target>(&entity.values, entity, findings)?;
    let (host, port) = split_host(&target.target).ok()?;
    Some(Target {
        id: entity.id,
        host: TargetHost::parse(host),
        port: port.unwrap_or(DEFAULT_PORT),
        weight: Weight::new(target.weight),
    })
}

fn algorithm(upstream: &written::Upstream) -> Algorithm {
    let input = |kind: &str,
                 header: &Option<String>,
                 query_arg: &Option<String>,
                 uri_capture: &Option<String>| match kind {
        "consumer" => Some(HashInput::Consumer),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;

    fn check_algorithm(fields: &str, expected: Algorithm) {
        let upstream = format!("upstreams: [{{name: a, {fields}, targets: [{{target: 'a:1'}}]}}]");
        assert_eq!(load(&upstream).upstreams[0].algorithm, expected, "{fields}");
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
