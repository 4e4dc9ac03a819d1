//! Entities and settings as operators write them, once they are checked.
//!
//! Plain fields, read off values that the table has judged and completed, so every field that has a
//! default is there. Only what Serin acts on is named; the table knows the rest. Ranges, choices and
//! documentation are in `schema`, which these shapes must agree with: the tests of `build` prove it.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A Service.
#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: Option<String>,
    pub(crate) protocol: String,
    pub(crate) tls_verify: Option<bool>,
    pub(crate) ca_certificates: Option<Vec<String>>,
    pub(crate) retries: u16,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: Option<String>,
    pub(crate) connect_timeout: u64,
    pub(crate) write_timeout: u64,
    pub(crate) read_timeout: u64,
    pub(crate) enabled: bool,
}

/// A Route.
#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    pub(crate) name: Option<String>,
    pub(crate) protocols: Vec<String>,
    pub(crate) https_redirect_status_code: u16,
    #[serde(default)]
    pub(crate) methods: Vec<String>,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
    #[serde(default)]
    pub(crate) snis: Vec<String>,
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
    pub(crate) regex_priority: i64,
    pub(crate) path_handling: String,
}

/// An Upstream.
#[derive(Debug, Deserialize)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) hash_on: String,
    pub(crate) hash_fallback: String,
    pub(crate) hash_on_header: Option<String>,
    pub(crate) hash_fallback_header: Option<String>,
    pub(crate) hash_on_cookie: Option<String>,
    pub(crate) hash_on_cookie_path: String,
    pub(crate) hash_on_query_arg: Option<String>,
    pub(crate) hash_fallback_query_arg: Option<String>,
    pub(crate) hash_on_uri_capture: Option<String>,
    pub(crate) hash_fallback_uri_capture: Option<String>,
    pub(crate) slots: u32,
    pub(crate) sticky_sessions_cookie: Option<String>,
    pub(crate) sticky_sessions_cookie_path: String,
    pub(crate) host_header: Option<String>,
    pub(crate) healthchecks: HealthChecks,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

/// `healthchecks`. Times are in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct HealthChecks {
    pub(crate) threshold: f64,
    pub(crate) active: ActiveChecks,
    pub(crate) passive: PassiveChecks,
}

/// `healthchecks.active`.
#[derive(Debug, Deserialize)]
pub(crate) struct ActiveChecks {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) timeout: f64,
    pub(crate) concurrency: usize,
    pub(crate) http_path: String,
    pub(crate) https_sni: Option<String>,
    pub(crate) https_verify_certificate: bool,
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
    pub(crate) healthy: Healthy,
    pub(crate) unhealthy: Unhealthy,
}

/// `healthchecks.passive`.
#[derive(Debug, Deserialize)]
pub(crate) struct PassiveChecks {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) healthy: Healthy,
    pub(crate) unhealthy: Unhealthy,
}

/// `healthy` of active and passive checks; only active ones have an interval.
#[derive(Debug, Deserialize)]
pub(crate) struct Healthy {
    #[serde(default)]
    pub(crate) interval: f64,
    pub(crate) http_statuses: Vec<u16>,
    pub(crate) successes: u8,
}

/// `unhealthy` of active and passive checks; only active ones have an interval.
#[derive(Debug, Deserialize)]
pub(crate) struct Unhealthy {
    #[serde(default)]
    pub(crate) interval: f64,
    pub(crate) http_statuses: Vec<u16>,
    pub(crate) tcp_failures: u8,
    pub(crate) timeouts: u8,
    pub(crate) http_failures: u8,
}

/// A Target.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) target: String,
    pub(crate) weight: u16,
}

/// A Consumer.
#[derive(Debug, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) username: Option<String>,
    pub(crate) custom_id: Option<String>,
}

/// A key for `key-auth`. Times are in seconds.
#[derive(Deserialize)]
pub(crate) struct KeyCredential {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) ttl: u64,
}

/// A name and a password for `basic-auth`.
#[derive(Deserialize)]
pub(crate) struct BasicCredential {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// The key of an issuer for `jwt`.
#[derive(Deserialize)]
pub(crate) struct JwtCredential {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) secret: String,
    pub(crate) algorithm: String,
    pub(crate) rsa_public_key: Option<String>,
}

/// An ACL group.
#[derive(Debug, Deserialize)]
pub(crate) struct Acl {
    pub(crate) group: String,
}

/// A certificate.
#[derive(Deserialize)]
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) cert_alt: Option<String>,
    pub(crate) key_alt: Option<String>,
}

/// A plugin.
#[derive(Debug, Deserialize)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) config: Map<String, Value>,
    pub(crate) protocols: Vec<String>,
}

/// `config` of `key-auth`.
#[derive(Debug, Deserialize)]
pub(crate) struct KeyAuth {
    pub(crate) key_names: Vec<String>,
    pub(crate) key_in_header: bool,
    pub(crate) key_in_query: bool,
    pub(crate) hide_credentials: bool,
    pub(crate) anonymous: Option<String>,
    pub(crate) run_on_preflight: bool,
    pub(crate) realm: Option<String>,
}

/// `config` of `basic-auth`.
#[derive(Debug, Deserialize)]
pub(crate) struct BasicAuth {
    pub(crate) hide_credentials: bool,
    pub(crate) anonymous: Option<String>,
    pub(crate) realm: Option<String>,
}

/// `config` of `jwt`. Times are in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Jwt {
    pub(crate) uri_param_names: Vec<String>,
    pub(crate) header_names: Vec<String>,
    pub(crate) cookie_names: Vec<String>,
    pub(crate) key_claim_name: String,
    pub(crate) secret_is_base64: bool,
    #[serde(default)]
    pub(crate) claims_to_verify: Vec<String>,
    pub(crate) maximum_expiration: f64,
    pub(crate) run_on_preflight: bool,
    pub(crate) anonymous: Option<String>,
    pub(crate) realm: Option<String>,
}

/// `config` of `acl`.
#[derive(Debug, Deserialize)]
pub(crate) struct AclConfig {
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    #[serde(default)]
    pub(crate) deny: Vec<String>,
    pub(crate) hide_groups_header: bool,
    pub(crate) include_consumer_groups: bool,
}

/// `config` of `canary`. Times are in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Canary {
    pub(crate) start: Option<f64>,
    pub(crate) duration: f64,
    pub(crate) percentage: Option<f64>,
    pub(crate) steps: NonZeroU32,
    pub(crate) hash: String,
    pub(crate) hash_header: Option<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    pub(crate) upstream_host: Option<String>,
    pub(crate) upstream_port: Option<u16>,
    pub(crate) upstream_uri: Option<String>,
    pub(crate) upstream_fallback: bool,
    pub(crate) canary_by_header_name: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) salt: Option<String>,
    pub(crate) groups_then_percentage: bool,
}

/// The `server` key. Sizes, times and what may be `false` stay values: `units` reads them.
#[derive(Debug, Deserialize)]
pub(crate) struct Server {
    pub(crate) threads: Option<usize>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) certificates: Vec<CertificateFiles>,
    pub(crate) tls: Tls,
    pub(crate) status: Value,
    pub(crate) admin: Value,
    pub(crate) store: Store,
    pub(crate) secret: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) trusted_ips: Vec<String>,
    pub(crate) access_log: Value,
    pub(crate) dns: Dns,
    pub(crate) limits: Limits,
    pub(crate) underscores_in_headers: String,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: Retries,
    pub(crate) variant_header: bool,
    pub(crate) shutdown: Shutdown,
    pub(crate) upgrade: Value,
}

/// One of `server.listeners`.
#[derive(Debug, Deserialize)]
pub(crate) struct Listener {
    pub(crate) address: String,
    pub(crate) tls: bool,
    pub(crate) h2c: bool,
    pub(crate) proxy_protocol: bool,
}

/// One of `server.certificates`.
#[derive(Debug, Deserialize)]
pub(crate) struct CertificateFiles {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) snis: Vec<String>,
}

/// `server.tls`.
#[derive(Debug, Deserialize)]
pub(crate) struct Tls {
    pub(crate) min_version: String,
}

/// An address to listen on.
#[derive(Debug, Deserialize)]
pub(crate) struct Address {
    pub(crate) address: std::net::SocketAddr,
}

/// `server.admin`, where it is not `false`.
#[derive(Deserialize)]
pub(crate) struct Admin {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) read_token: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
}

/// `server.store`.
#[derive(Debug, Deserialize)]
pub(crate) struct Store {
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
}

/// `server.dns`.
#[derive(Debug, Deserialize)]
pub(crate) struct Dns {
    pub(crate) resolvers: Vec<std::net::SocketAddr>,
    pub(crate) family: String,
}

/// `server.limits`.
#[derive(Debug, Deserialize)]
pub(crate) struct Limits {
    pub(crate) header_bytes: Value,
    pub(crate) headers: usize,
    pub(crate) uri_bytes: Value,
    pub(crate) body_bytes: Value,
    pub(crate) body_rate: Value,
    pub(crate) connections: usize,
    pub(crate) connections_per_ip: Value,
}

/// `server.timeouts`.
#[derive(Debug, Deserialize)]
pub(crate) struct Timeouts {
    pub(crate) header: Value,
    pub(crate) tls_handshake: Value,
    pub(crate) body_idle: Value,
    pub(crate) keepalive: Value,
    pub(crate) requests_per_connection: u32,
    pub(crate) target_drain: Value,
}

/// `server.retries`.
#[derive(Debug, Deserialize)]
pub(crate) struct Retries {
    pub(crate) budget_percent: u8,
    pub(crate) min_concurrent: u32,
}

/// `server.shutdown`.
#[derive(Debug, Deserialize)]
pub(crate) struct Shutdown {
    pub(crate) pre_stop_delay: Value,
    pub(crate) drain: Value,
}

/// `server.upgrade`, where it is not `false`.
#[derive(Debug, Deserialize)]
pub(crate) struct Upgrade {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) deadline: Value,
}

/// `server.access_log`, where it is not `false`.
#[derive(Debug, Deserialize)]
pub(crate) struct AccessLog {
    pub(crate) format: String,
    pub(crate) path: PathBuf,
}
