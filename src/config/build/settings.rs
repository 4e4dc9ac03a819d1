//! Settings of the process.

use std::time::Duration;

use serde_json::{Map, Value};

use super::certificate;
use crate::config::check::Checker;
use crate::config::document as written;
use crate::config::schema::address::parse_network;
use crate::config::schema::units;
use crate::model::{
    AccessLog, AccessLogFormat, AddressFamily, Admin, Dns, Limits, ListenProtocol, Listener, RetryBudget,
    Secret, Settings, Shutdown, Store, Timeouts, TlsVersion, Token, UnderscoresInHeaders, Upgrade,
};

/// Builds the settings; what is missing because of an error keeps its default.
pub(in crate::config) fn settings(server: Map<String, Value>, checker: &mut Checker<'_>) -> Settings {
    let defaults = Settings::default();
    let server: written::Server = match serde_json::from_value(Value::Object(server)) {
        Ok(server) => server,
        // Table and shape disagree, which is a defect.
        Err(error) => {
            let message = format!("this should have been found earlier: {error}");
            checker.error(None, "server", message, None);
            return defaults;
        }
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
    let mut certificates = Vec::with_capacity(server.certificates.len());
    for (index, written) in server.certificates.iter().enumerate() {
        match certificate::from_files(written) {
            Some(files) => certificates.push(files),
            None => {
                let message = "the files have changed while they were read";
                checker.error(None, format!("server.certificates[{index}]"), message, None);
            }
        }
    }
    Settings {
        certificates,
        tls_min_version: match &*server.tls.min_version {
            "1.3" => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        },
        threads: server.threads,
        listeners: server.listeners.iter().filter_map(listener).collect(),
        status: serde_json::from_value::<written::Address>(server.status)
            .ok()
            .map(|status| status.address),
        admin: serde_json::from_value(server.admin).ok().map(admin),
        store: match &*server.store.kind {
            "memory" => Store::Memory,
            _ => Store::Embedded(server.store.path),
        },
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
        limits: Limits {
            header_bytes: count(&server.limits.header_bytes, defaults.limits.header_bytes),
            headers: server.limits.headers,
            uri_bytes: count(&server.limits.uri_bytes, defaults.limits.uri_bytes),
            body_bytes: size(&server.limits.body_bytes),
            body_rate: size(&server.limits.body_rate).unwrap_or(defaults.limits.body_rate),
            connections: server.limits.connections,
            // The one word beside a number means that there is no limit.
            connections_per_ip: server
                .limits
                .connections_per_ip
                .as_u64()
                .and_then(|count| usize::try_from(count).ok()),
        },
        underscores_in_headers: match &*server.underscores_in_headers {
            "keep" => UnderscoresInHeaders::Keep,
            "refuse" => UnderscoresInHeaders::Refuse,
            _ => UnderscoresInHeaders::Drop,
        },
        timeouts: Timeouts {
            header: duration(&server.timeouts.header, defaults.timeouts.header),
            tls_handshake: duration(&server.timeouts.tls_handshake, defaults.timeouts.tls_handshake),
            body_idle: duration(&server.timeouts.body_idle, defaults.timeouts.body_idle),
            keepalive: duration(&server.timeouts.keepalive, defaults.timeouts.keepalive),
            requests_per_connection: server.timeouts.requests_per_connection,
            // The one word beside a time means that there is none.
            target_drain: units::parse_duration(&server.timeouts.target_drain),
        },
        retries: RetryBudget {
            budget_percent: server.retries.budget_percent,
            min_concurrent: server.retries.min_concurrent,
        },
        variant_header: server.variant_header,
        shutdown: Shutdown {
            pre_stop_delay: duration(&server.shutdown.pre_stop_delay, defaults.shutdown.pre_stop_delay),
            drain: duration(&server.shutdown.drain, defaults.shutdown.drain),
        },
        upgrade: serde_json::from_value::<written::Upgrade>(server.upgrade)
            .ok()
            .map(|upgrade| Upgrade {
                socket: upgrade.socket,
                deadline: duration(&upgrade.deadline, Upgrade::default().deadline),
            }),
    }
}

/// `None` where the address is wrong, which has been said.
fn listener(listener: &written::Listener) -> Option<Listener> {
    Some(Listener {
        address: listener.address.parse().ok()?,
        protocol: match (listener.tls, listener.h2c) {
            (true, _) => ListenProtocol::Https,
            (false, true) => ListenProtocol::H2c,
            (false, false) => ListenProtocol::Http,
        },
        proxy_protocol: listener.proxy_protocol,
    })
}

fn admin(admin: written::Admin) -> Admin {
    let token = |token: Option<String>| token.map(Token::new);
    Admin {
        address: admin.address,
        token: token(admin.token),
        token_file: admin.token_file,
        read_token: token(admin.read_token),
        hosts: admin.hosts,
        origins: admin.origins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;

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
            "server:\n  threads: 3\n  listeners: [{{address: '[::1]:0'}}, {{address: 127.0.0.1:9000, h2c: true}}, {{address: 127.0.0.1:9002, tls: true}}, {{address: 'unix:/s', proxy_protocol: true}}]\n  tls: {{min_version: '1.3'}}\n  status: false\n  admin: {{address: 127.0.0.1:9001, token: sixteen bytes of t, read_token: sixteen bytes of r, hosts: [admin.example], origins: ['https://a.example']}}\n  store: {{kind: memory}}\n  \
             secret: {secret}\n  secret_file: /tmp/s\n  trusted_ips: [10.0.0.0/8, '::1']\n  dns: {{resolvers: ['127.0.0.1:53'], family: ipv4}}\n  access_log: {{format: combined, path: /a}}\n  variant_header: true\n  \
             limits: {{header_bytes: 1KiB, headers: 7, uri_bytes: 100, body_bytes: 2MiB, body_rate: 1KiB, connections: 8, connections_per_ip: 9}}\n  underscores_in_headers: refuse\n  \
             timeouts: {{header: 1s, tls_handshake: 2s, body_idle: 500ms, keepalive: 1m30s, requests_per_connection: 5, target_drain: 5m}}\n  retries: {{budget_percent: 50, min_concurrent: 0}}\n  \
             shutdown: {{pre_stop_delay: 1s, drain: 0s}}\n  upgrade: {{socket: /run/s.sock, deadline: 5s}}"
        ))
        .settings;
        let expected = Settings {
            threads: Some(3),
            listeners: vec![
                Listener::http("[::1]:0".parse().unwrap()),
                Listener {
                    address: "127.0.0.1:9000".parse().unwrap(),
                    protocol: ListenProtocol::H2c,
                    proxy_protocol: false,
                },
                Listener {
                    address: "127.0.0.1:9002".parse().unwrap(),
                    protocol: ListenProtocol::Https,
                    proxy_protocol: false,
                },
                Listener {
                    address: "unix:/s".parse().unwrap(),
                    protocol: ListenProtocol::Http,
                    proxy_protocol: true,
                },
            ],
            certificates: Vec::new(),
            tls_min_version: TlsVersion::Tls13,
            status: None,
            admin: Some(Admin {
                address: "127.0.0.1:9001".parse().unwrap(),
                token: Some(Token::new("sixteen bytes of t")),
                token_file: None,
                read_token: Some(Token::new("sixteen bytes of r")),
                hosts: vec!["admin.example".to_owned()],
                origins: vec!["https://a.example".to_owned()],
            }),
            store: Store::Memory,
            secret: Secret::new(secret),
            secret_file: Some("/tmp/s".into()),
            trusted_ips: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            dns: Dns {
                resolvers: vec!["127.0.0.1:53".parse().unwrap()],
                family: AddressFamily::Ipv4,
            },
            access_log: Some(AccessLog {
                format: AccessLogFormat::Combined,
                path: "/a".into(),
            }),
            limits: Limits {
                header_bytes: 1024,
                headers: 7,
                uri_bytes: 100,
                body_bytes: Some(2 * 1024 * 1024),
                body_rate: 1024,
                connections: 8,
                connections_per_ip: Some(9),
            },
            underscores_in_headers: UnderscoresInHeaders::Refuse,
            timeouts: Timeouts {
                header: Duration::from_secs(1),
                tls_handshake: Duration::from_secs(2),
                body_idle: Duration::from_millis(500),
                keepalive: Duration::from_secs(90),
                requests_per_connection: 5,
                target_drain: Some(Duration::from_secs(300)),
            },
            retries: RetryBudget {
                budget_percent: 50,
                min_concurrent: 0,
            },
            variant_header: true,
            shutdown: Shutdown {
                pre_stop_delay: Duration::from_secs(1),
                drain: Duration::ZERO,
            },
            upgrade: Some(Upgrade {
                socket: Some("/run/s.sock".into()),
                deadline: Duration::from_secs(5),
            }),
        };
        assert_eq!(settings, expected);
    }
}
