//! The table of Services.

use serde_json::json;

use super::{
    CREATED_AT, Child, Entity, Field, ID, Kind, TAGS, UPDATED_AT, Unique, address, format, plugin, route,
};
use crate::config::check::Scope;

/// A timeout in milliseconds, as Kong takes it.
const TIMEOUT: Kind = Kind::Integer {
    min: 1,
    max: (1 << 31) - 2,
};

/// Schemes under which an origin is spoken to.
pub(crate) const PROTOCOL: Kind = Kind::Choice {
    known: &["http", "https", "grpc", "grpcs"],
    kong_only: &["tcp", "tls", "tls_passthrough", "udp"],
};

/// Services.
pub(crate) static SERVICES: Entity = Entity {
    name: "services",
    key: "name",
    doc: "An application behind the proxy, reached through its host.",
    fields: &[
        ID,
        Field::new("name", Kind::Text(&format::NAME), "Name of the Service; unique."),
        Field::new("retries", Kind::Integer { min: 0, max: 32767 }, "Further tries after the first one failed.")
            .or(|| json!(5))
            .hint("0 for a single try"),
        Field::new("protocol", PROTOCOL, "How the origin is spoken to: HTTP/1.1, or HTTP/2 with grpc, in plain text or, with https and grpcs, by TLS.").or(|| json!("http")),
        Field::new(
            "host",
            Kind::Text(&format::SERVICE_HOST),
            "Name of an Upstream, or else a host name or address that is dialled directly.",
        )
        .required_unless("url")
        .hint("give 'host', the name of an Upstream or a host name, or the short form 'url: http://host:port/path'"),
        Field::new("port", Kind::PORT, "Port, used when host is not the name of an Upstream.").or(|| json!(80)),
        Field::new("path", Kind::Text(&format::SERVICE_PATH), "Path put before the request's own."),
        Field::new("connect_timeout", TIMEOUT, "Time to open a connection to a Target, in milliseconds.")
            .or(|| json!(60000))
            .hint("milliseconds: 60000 is a minute"),
        Field::new("write_timeout", TIMEOUT, "Time between two writes to a Target, in milliseconds.")
            .or(|| json!(60000))
            .hint("milliseconds: 60000 is a minute"),
        Field::new("read_timeout", TIMEOUT, "Time between two reads from a Target, in milliseconds.")
            .or(|| json!(60000))
            .hint("milliseconds: 60000 is a minute"),
        TAGS,
        Field::new("client_certificate", Kind::Reference("certificates"), "Certificate shown to the origin, with https."),
        Field::new(
            "tls_verify",
            Kind::Boolean,
            "Whether the origin's certificate is verified, with https and grpcs; null stands for true.",
        ),
        Field::new("tls_verify_depth", Kind::Integer { min: 0, max: 64 }, "Longest chain of certificates of the origin.")
            .without_effect("a chain may always have up to six certificates between the origin's and the authority's"),
        Field::new(
            "ca_certificates",
            Kind::List { of: &Kind::Text(&format::UUID), min: 0, is_set: false },
            "Authorities by which the origin's certificate is verified, by id; without any, those of the system.",
        ),
        Field::new("enabled", Kind::Boolean, "A Service that is not enabled has no Routes in the table.").or(|| json!(true)),
        CREATED_AT,
        UPDATED_AT,
        Field::new(
            "url",
            Kind::Text(&format::URL),
            "Short form of protocol, host, port and path, e.g. http://shop.internal:8080/api.",
        )
        .shorthand(),
    ],
    unique: &[Unique::of(&["name"])],
    children: &[
        Child { entity: &route::ROUTES, parent: "service" },
        Child { entity: &plugin::PLUGINS, parent: "service" },
    ],
    check,
};

/// Expands `url`, and refuses TLS settings where no TLS is spoken.
fn check(scope: &mut Scope<'_, '_>) {
    if scope.is_given("url") {
        expand_url(scope);
    }
    if scope
        .text("protocol")
        .is_some_and(|protocol| protocol != "https" && protocol != "grpcs")
    {
        for field in [
            "client_certificate",
            "tls_verify",
            "tls_verify_depth",
            "ca_certificates",
        ] {
            if scope.is_given(field) {
                let message =
                    "value must be null: failed conditional validation given value of field 'protocol'";
                let hint = format!("'{field}' needs protocol 'https' or 'grpcs'; leave it out");
                scope.error(field, message, Some(hint));
            }
        }
    }
    if scope
        .text("protocol")
        .is_some_and(|protocol| protocol.starts_with("grpc"))
        && scope.text("path").is_some()
    {
        let hint = "a path of gRPC names the method that is called; leave it out".to_owned();
        let message = "value must be null: failed conditional validation given value of field 'protocol'";
        scope.error("path", message, Some(hint));
    }
    if scope.value("tls_verify") == Some(&json!(false)) {
        let hint = "whoever is on the way can read and change everything; give 'ca_certificates' for a private authority";
        scope.warn("tls_verify", "the origin's certificate is not verified", hint);
    }
}

fn expand_url(scope: &mut Scope<'_, '_>) {
    for field in ["protocol", "host", "port", "path"] {
        if scope.is_given(field) {
            let url = scope.place_of("url");
            let message = format!("'{field}' is set by 'url' already");
            scope.error(
                field,
                message,
                Some(format!(
                    "keep either 'url' ({url}), or protocol, host, port and path"
                )),
            );
        }
    }
    let Some(url) = scope.text("url").and_then(address::Url::parse) else {
        return;
    };
    if let Some((message, hint)) = crate::config::check::refuse_choice(&PROTOCOL, &url.protocol) {
        scope.error("url", message, hint);
    }
    let port = url
        .port
        .unwrap_or(if ["https", "grpcs"].contains(&&*url.protocol) {
            443
        } else {
            80
        });
    scope.set("protocol", json!(url.protocol));
    scope.set("host", json!(url.host));
    scope.set("port", json!(port));
    scope.set("path", json!(url.path));
    scope.set("url", json!(null));
}
