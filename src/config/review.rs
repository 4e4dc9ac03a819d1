//! Rules over several rows, once it is known which row is which.

use serde_json::Value;

use super::check::Checker;
use super::identity::Identities;
use super::rows::Row;

/// Reports what only several rows, or a row and its document, can tell, and warns of what is hardly meant.
/// `is_kept` says that a store remembers when entities were made.
pub(crate) fn review(rows: &[Row], identities: &Identities, is_kept: bool, checker: &mut Checker<'_>) {
    let mut weights: Vec<Vec<u64>> = vec![Vec::new(); rows.len()];
    for (row, reference) in rows.iter().zip(&identities.references) {
        if let (Some(upstream), "targets") = (reference, row.entity.name) {
            // A weight that is wrong has its own message, and counts as one.
            weights[*upstream].push(row.values.get("weight").and_then(Value::as_u64).unwrap_or(1));
        }
    }
    for (row, weights) in rows.iter().zip(weights) {
        match row.entity.name {
            "upstreams" if weights.is_empty() => warn_at(
                row,
                "name",
                "has no targets: requests to it are answered 503",
                checker,
            ),
            "upstreams" if weights.iter().all(|weight| *weight == 0) => {
                warn_at(
                    row,
                    "name",
                    "all targets have weight 0: requests to it are answered 503",
                    checker,
                );
            }
            "routes" if row.parent.is_none() && row.written.get("service").is_none_or(Value::is_null) => {
                warn_at(
                    row,
                    "name",
                    "has no service: requests that match it are answered 503",
                    checker,
                );
            }
            "basicauth_credentials" => check_password(row, checker),
            "plugins" => check_anonymous(row, identities, checker),
            _ => {}
        }
    }
    let plugins = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.entity.name == "plugins");
    for (index, row) in plugins {
        if row.values.get("name").and_then(Value::as_str) == Some("canary") {
            check_canary(index, rows, identities, checker);
            if !is_kept {
                check_start(row, checker);
            }
        }
    }
}

/// Insists on a start of a ramp where nothing outlives the process: after a restart it would begin anew.
fn check_start(row: &Row, checker: &mut Checker<'_>) {
    let field = |name: &str| row.values.get("config").and_then(|config| config.get(name));
    let is_group = matches!(field("hash").and_then(Value::as_str), Some("allow" | "deny"));
    let is_ramp = !is_group && field("percentage").is_none() && field("start").is_none();
    if is_ramp && !row.values.contains_key("created_at") && row.values.contains_key("config") {
        let hint = "when the ramp starts, in seconds since 1970 (the output of date +%s); or give 'percentage' for a fixed share, or keep a store (server.store.kind: embedded), which remembers when the plugin was made";
        let path = format!("{}.config.start", row.path);
        checker.error(
            row.inner_span("config", "start"),
            path,
            "required field missing",
            Some(hint.to_owned()),
        );
    }
}

/// Warns of what an Upstream makes pointless: a port, and a fallback that only failed tries can set off.
fn check_canary(index: usize, rows: &[Row], identities: &Identities, checker: &mut Checker<'_>) {
    let row = &rows[index];
    let field = |name: &str| row.values.get("config").and_then(|config| config.get(name));
    let service = identities.references[index].map(|service| &rows[service]);
    let host = field("upstream_host").or_else(|| service?.values.get("host"));
    let Some(upstream) = host
        .and_then(Value::as_str)
        .and_then(|host| identities.find("upstreams", host))
    else {
        return;
    };
    let name = rows[upstream].written_text("name").unwrap_or_default();
    let mut warn = |field: &str, message: String, hint: &str| {
        let path = format!("{}.config.{field}", row.path);
        checker.warn(
            row.inner_span("config", field),
            path,
            message,
            Some(hint.to_owned()),
        );
    };
    if field("upstream_port").is_some() {
        let message =
            format!("without effect: '{name}' is an upstream, whose targets have ports of their own");
        warn("upstream_port", message, "leave it out");
    }
    let is_checked = rows[upstream]
        .values
        .get("healthchecks")
        .is_some_and(is_health_checked);
    if field("upstream_fallback") == Some(&Value::Bool(true)) && !is_checked {
        let message = format!(
            "upstream '{name}' has no health checks: each request finds out by itself that it is down"
        );
        warn(
            "upstream_fallback",
            message,
            "give the upstream 'healthchecks', active or passive",
        );
    }
}

/// Says whether checks are on, by Kong's rule: an interval, or a passive counter of failures.
fn is_health_checked(checks: &Value) -> bool {
    let is_set = |pointer: &str| {
        let number = checks.pointer(pointer).and_then(Value::as_f64);
        number.is_some_and(|number| number > 0.0)
    };
    [
        "/active/healthy/interval",
        "/active/unhealthy/interval",
        "/passive/unhealthy/tcp_failures",
        "/passive/unhealthy/timeouts",
        "/passive/unhealthy/http_failures",
    ]
    .into_iter()
    .any(is_set)
}

/// Insists that a password which is said to be hashed already looks like it.
fn check_password(row: &Row, checker: &mut Checker<'_>) {
    let Some(password) = row.values.get("password").and_then(Value::as_str) else {
        return;
    };
    if !row.is_transformed && parse_hash(password).is_none() {
        let hint = "with _transform: false it is the SHA-1 of the password followed by the consumer's id; to write the password itself, remove _transform";
        let path = format!("{}.password", row.path);
        let message = "expected 40 hexadecimal digits";
        checker.error(row.span_of("password"), path, message, Some(hint.to_owned()));
    }
}

/// Reads a SHA-1 in hexadecimal digits.
pub(crate) fn parse_hash(text: &str) -> Option<[u8; 20]> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .filter_map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok())
        .collect();
    bytes.try_into().ok().filter(|_| text.len() == 40)
}

/// Warns of an anonymous Consumer that is none: requests without credentials are then answered 500.
fn check_anonymous(row: &Row, identities: &Identities, checker: &mut Checker<'_>) {
    let anonymous = row
        .values
        .get("config")
        .and_then(|config| config.get("anonymous"));
    let Some(name) = anonymous.and_then(Value::as_str) else {
        return;
    };
    if identities.find("consumers", name).is_none() {
        let hint = "give the id or the username of one of the consumers; until then requests without credentials are answered 500";
        let path = format!("{}.config.anonymous", row.path);
        let message = format!("anonymous consumer {name} is configured but doesn't exist");
        checker.warn(
            row.inner_span("config", "anonymous"),
            path,
            message,
            Some(hint.to_owned()),
        );
    }
}

fn warn_at(row: &Row, field: &str, message: &str, checker: &mut Checker<'_>) {
    checker.warn(row.span_of(field), &row.path, message, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_forty_hexadecimal_digits() {
        assert_eq!(parse_hash(&"0f".repeat(20)), Some([15; 20]));
        for wrong in ["", "0f", &"0g".repeat(20), &"0f".repeat(21), &"0".repeat(39)] {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }
}
