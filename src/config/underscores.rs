//! What `serin check` says of headers that no request shows: those with an underscore in their name, where
//! `server.underscores_in_headers` does not keep them.

use serde_json::{Map, Value};

use super::check::Checker;
use super::rows::Row;

/// Warns of each field that goes by such a header. It is allowed: a file may be meant for several gateways.
pub(super) fn warn(rows: &[Row], server: &Map<String, Value>, checker: &mut Checker<'_>) {
    let action = server.get("underscores_in_headers").and_then(Value::as_str);
    let Some(action @ ("drop" | "refuse")) = action else {
        return;
    };
    for row in rows {
        let (record, fields) = match row.entity.name {
            "routes" => (None, &["headers"][..]),
            "upstreams" => (None, &["hash_on_header", "hash_fallback_header"][..]),
            "plugins" => (
                Some("config"),
                &[
                    "key_names",
                    "header_names",
                    "hash_header",
                    "canary_by_header_name",
                ][..],
            ),
            _ => continue,
        };
        let value = |field: &str| match record {
            Some(record) => row.values.get(record)?.get(field),
            None => row.values.get(field),
        };
        let is_in_header = record.is_none() || value("key_in_header") != Some(&Value::Bool(false));
        for field in fields
            .iter()
            .filter(|field| is_in_header || **field != "key_names")
        {
            let Some(name) = value(field).and_then(underscored) else {
                continue;
            };
            let (span, path) = match record {
                Some(record) => (
                    row.inner_span(record, field),
                    format!("{}.{record}.{field}", row.path),
                ),
                None => (row.span_of(field), format!("{}.{field}", row.path)),
            };
            let message =
                format!("no request shows the header '{name}': server.underscores_in_headers is {action}");
            let hint = "name it with hyphens, or set server.underscores_in_headers: keep".to_owned();
            checker.warn(span, path, message, Some(hint));
        }
    }
}

/// Returns the first name with an underscore: the value itself, an item of it, or a key.
fn underscored(value: &Value) -> Option<&str> {
    let is_such = |name: &&str| name.contains('_');
    match value {
        Value::String(name) => Some(&**name).filter(is_such),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(is_such),
        Value::Object(names) => names.keys().map(String::as_str).find(is_such),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text};

    fn check(action: &str, warnings: &[&str]) {
        let text = format!(
            "_format_version: '3.0'\nserver: {{underscores_in_headers: {action}}}\nservices:\n- name: a\n  url: http://127.0.0.1:1\n  \
             routes: [{{name: r, headers: {{x_a: [b], X-A: [b]}}}}]\n  plugins:\n  \
             - {{name: key-auth, config: {{key_names: [apikey, api_key]}}}}\n\
             - {{name: h, host: u, routes: [{{paths: [/h]}}], plugins: [{{name: key-auth, config: {{key_names: [api_key], key_in_header: false}}}}]}}\n\
             upstreams: [{{name: u, hash_on: header, hash_on_header: x_user, targets: [{{target: '127.0.0.1:1'}}]}}]\n"
        );
        let loaded = load_text("f.yaml", &text, &Overrides::default()).unwrap();
        let found: Vec<_> = loaded
            .warnings
            .iter()
            .filter_map(|problem| problem.message.strip_prefix("no request shows the header "))
            .collect();
        assert_eq!(found, warnings, "{action}");
    }

    #[test]
    fn a_header_that_no_request_shows_is_warned_of() {
        for action in ["drop", "refuse"] {
            let warning = |name: &str| format!("'{name}': server.underscores_in_headers is {action}");
            let warnings = ["x_a", "api_key", "x_user"].map(warning);
            check(action, &warnings.each_ref().map(String::as_str));
        }
        check("keep", &[]);
    }
}
