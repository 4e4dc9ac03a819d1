//! The table of `server`: settings of the process, which kong.conf holds in Kong.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Field, Kind, Record, format};
use crate::config::check::Scope;
use crate::model::ListenAddress;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const KIB: u64 = 1024;

/// Settings of the process.
pub(crate) static SERVER: Record = Record {
    fields: &[
        Field::new("threads", Kind::Integer { min: 1, max: 1024 }, "Worker threads of the proxy; by default one for each core.")
            .hint("leave it out for one on each core"),
        Field::new(
            "listeners",
            Kind::List { of: &Kind::Record(&LISTENER), min: 1, is_set: false },
            "Sockets on which clients are served.",
        )
        .or(|| json!([{"address": "0.0.0.0:8000", "tls": false, "h2c": false, "proxy_protocol": false}])),
        Field::new(
            "certificates",
            Kind::List { of: &Kind::Record(&super::certificate::FILES), min: 0, is_set: false },
            "Certificates in files, beside those among the entities; read again when the files change. The first is shown to whoever asks for an unknown name, unless an entity has the name *.",
        )
        .or(|| json!([])),
        Field::new("tls", Kind::Record(&TLS), "How clients may speak TLS.").or(|| json!({})),
        Field::new(
            "status",
            Kind::RecordOrFalse(&ADDRESS),
            "Address of metrics, readiness and liveness; false for none.",
        )
        .hint("such as {address: 127.0.0.1:8007}")
        .or(|| json!({"address": "127.0.0.1:8007"})),
        Field::new(
            "admin",
            Kind::RecordOrFalse(&ADMIN),
            "Admin API; false for none. On an address that other machines reach it needs a token.",
        )
        .hint("such as {address: 127.0.0.1:8001}")
        .or(|| json!({"address": "127.0.0.1:8001"})),
        Field::new(
            "store",
            Kind::Record(&STORE),
            "Where what outlives the process is kept: entities, what the file last said, the audit trail.",
        )
        .or(|| json!({})),
        Field::new(
            "secret",
            Kind::Text(&format::SECRET),
            "Keys the rings of Upstreams that hash what clients choose, and sticky sessions; at least 32 bytes. Without it, one is kept in secret_file.",
        )
        .secret(),
        Field::new(
            "secret_file",
            Kind::Text(&format::NON_EMPTY),
            "Where the secret is kept when it is not set; made on first need, readable by the owner only. By default serin.secret beside the store.",
        ),
        Field::new(
            "trusted_ips",
            Kind::List { of: &Kind::Text(&format::NETWORK), min: 0, is_set: false },
            "Addresses and networks of peers whose X-Forwarded-* and X-Real-IP are believed.",
        )
        .or(|| json!([])),
        Field::new("access_log", Kind::RecordOrFalse(&ACCESS_LOG), "Access log; false for none.").or(|| json!({})),
        Field::new("dns", Kind::Record(&DNS), "How names of Targets and Services are looked up.").or(|| json!({})),
        Field::new("limits", Kind::Record(&LIMITS), "Sizes a request may have, and how many connections there may be.").or(|| json!({})),
        Field::new(
            "underscores_in_headers",
            Kind::Choice { known: &["drop", "refuse", "keep"], kong_only: &[] },
            "What becomes of a request's fields whose names have an underscore, which many an origin cannot tell from a hyphen.",
        )
        .or(|| json!("drop"))
        .hint("drop: the request goes on without them; refuse: it is answered 400; keep: they are passed on"),
        Field::new("timeouts", Kind::Record(&TIMEOUTS), "How long clients may take, and what is left at a Target out of rotation.").or(|| json!({})),
        Field::new(
            "retries",
            Kind::Record(&RETRIES),
            "How much of the load on an Upstream may be second and further retries.",
        )
        .or(|| json!({})),
        Field::new(
            "variant_header",
            Kind::Boolean,
            "Tells every client which variant served it, in X-Serin-Variant.",
        )
        .or(|| json!(false)),
        Field::new("shutdown", Kind::Record(&SHUTDOWN), "What happens on SIGTERM.").or(|| json!({})),
        Field::new(
            "upgrade",
            Kind::RecordOrFalse(&UPGRADE),
            "How another process, started with `serin run --upgrade`, takes over without a request lost; false when none can.",
        )
        .or(|| json!({})),
    ],
    check,
};

static LISTENER: Record = Record {
    fields: &[
    Field::new(
        "address",
        Kind::Text(&format::SOCKET_ADDRESS),
        "Address and port, e.g. 0.0.0.0:8000 or [::1]:8000, or a Unix socket, e.g. unix:/run/serin/http.sock.",
    )
    .required()
    .hint("such as 0.0.0.0:8000"),
    Field::new(
        "tls",
        Kind::Boolean,
        "Clients speak TLS here, and inside HTTP/2 or HTTP/1.1, as they agree by ALPN.",
    )
    .or(|| json!(false)),
    Field::new(
        "h2c",
        Kind::Boolean,
        "Clients speak HTTP/2 in plain text here, by prior knowledge, and nothing else.",
    )
    .or(|| json!(false)),
    Field::new(
        "proxy_protocol",
        Kind::Boolean,
        "Each connection begins with a header of the PROXY protocol, version 1 or 2, by which a load balancer among trusted_ips says who the client is; any other connection is closed.",
    )
    .or(|| json!(false)),
],
    check: |scope| {
        let is = |name| scope.value(name) == Some(&Value::Bool(true));
        if is("tls") && is("h2c") {
            let hint = "with tls, clients agree on HTTP/2 by ALPN; leave h2c out".to_owned();
            scope.error("h2c", "a listener is either 'tls' or 'h2c'", Some(hint));
        }
    },
};

static TLS: Record = Record::of(&[Field::new(
    "min_version",
    Kind::Choice {
        known: &["1.2", "1.3"],
        kong_only: &[],
    },
    "The earliest version that clients may speak.",
)
.or(|| json!("1.2"))]);

static ADDRESS: Record = Record::of(&[Field::new(
    "address",
    Kind::Text(&format::LISTEN_ADDRESS),
    "Address and port, e.g. 0.0.0.0:8000 or [::1]:8000.",
)
.required()
.hint("such as 0.0.0.0:8000")]);

static ADMIN: Record = Record {
    fields: &[
        Field::new(
            "address",
            Kind::Text(&format::LISTEN_ADDRESS),
            "Address and port, e.g. 127.0.0.1:8001.",
        )
        .or(|| json!("127.0.0.1:8001"))
        .hint("such as 127.0.0.1:8001"),
        Field::new(
            "token",
            Kind::Text(&format::TOKEN),
            "What clients show to be let in, as `Authorization: Bearer …` or `Kong-Admin-Token`; at least 16 bytes.",
        )
        .secret()
        .hint("for example the output of: openssl rand -hex 32"),
        Field::new(
            "token_file",
            Kind::Text(&format::NON_EMPTY),
            "A file that holds the token, in place of token; read at start.",
        ),
        Field::new(
            "read_token",
            Kind::Text(&format::TOKEN),
            "What clients show that may only read, and see no secret; at least 16 bytes.",
        )
        .secret()
        .hint("for example the output of: openssl rand -hex 32"),
        Field::new(
            "hosts",
            Kind::List { of: &Kind::TEXT, min: 0, is_set: true },
            "Names by which clients may address it, beside localhost and addresses; another name in Host is refused, since a web page could have made it resolve to this machine.",
        )
        .or(|| json!([])),
        Field::new(
            "origins",
            Kind::List { of: &Kind::TEXT, min: 0, is_set: true },
            "Web pages that may call it, by their Origin, e.g. https://admin.example.com; others are refused.",
        )
        .or(|| json!([])),
    ],
    check: check_admin,
};

static STORE: Record = Record {
    fields: &[
        Field::new(
            "kind",
            Kind::Choice {
                known: &["embedded", "memory"],
                kong_only: &[],
            },
            "embedded: in one file; memory: nothing outlives the process.",
        )
        .or(|| json!("embedded")),
        Field::new(
            "path",
            Kind::Text(&format::NON_EMPTY),
            "The file of an embedded store; made when it does not exist.",
        )
        .or(|| json!("serin.redb")),
    ],
    check: super::no_check,
};

/// Insists on a token where others than this machine can connect.
fn check_admin(scope: &mut Scope<'_, '_>) {
    let has_token = scope.is_given("token") || scope.is_given("token_file");
    if scope.is_given("token") && scope.is_given("token_file") {
        let hint = "keep one of them".to_owned();
        scope.error("token_file", "'token' is set already", Some(hint));
    }
    if scope.is_given("read_token") && !has_token {
        let hint =
            "set server.admin.token or server.admin.token_file too, for those who may change something";
        let message = "without 'token' everybody may change everything";
        scope.error("read_token", message, Some(hint.to_owned()));
    }
    let address = scope
        .text("address")
        .and_then(|text| text.parse::<SocketAddr>().ok());
    if address.is_some_and(|address| !address.ip().is_loopback()) && !has_token {
        let hint = "set server.admin.token (SERIN_SERVER_ADMIN_TOKEN) or server.admin.token_file, or listen on 127.0.0.1";
        scope.error(
            "address",
            "other machines reach this address, and there is no token",
            Some(hint.to_owned()),
        );
    }
}

static DNS: Record = Record::of(&[
    Field::new(
        "resolvers",
        Kind::List {
            of: &Kind::Text(&format::LISTEN_ADDRESS),
            min: 0,
            is_set: true,
        },
        "Name servers, each an address and a port; none stands for those of /etc/resolv.conf.",
    )
    .or(|| json!([])),
    Field::new(
        "family",
        Kind::Choice {
            known: &["any", "ipv4", "ipv6"],
            kong_only: &[],
        },
        "Addresses of a name that are used: all, or those of one family.",
    )
    .or(|| json!("any")),
]);

static ACCESS_LOG: Record = Record::of(&[
    Field::new(
        "format",
        Kind::Choice {
            known: &["json", "combined"],
            kong_only: &[],
        },
        "One JSON object a line, or Apache's combined format.",
    )
    .or(|| json!("json")),
    Field::new(
        "path",
        Kind::Text(&format::NON_EMPTY),
        "File that is appended to; /dev/stdout and /dev/stderr work.",
    )
    .or(|| json!("/dev/stdout")),
]);

// Pingora itself takes 256 fields and just under 1 MiB of header, so the ranges end where it does.
static LIMITS: Record = Record::of(&[
    Field::new(
        "header_bytes",
        Kind::Size {
            min: KIB,
            max: 1024 * KIB,
            or_unlimited: false,
        },
        "Sum of header names and values; over it 431.",
    )
    .or(|| json!("32KiB")),
    Field::new(
        "headers",
        Kind::Integer { min: 1, max: 256 },
        "Number of header fields; over it 431.",
    )
    .or(|| json!(100)),
    Field::new(
        "uri_bytes",
        Kind::Size {
            min: 64,
            max: 1024 * KIB,
            or_unlimited: false,
        },
        "Length of path and query; over it 414.",
    )
    .or(|| json!("8KiB")),
    Field::new(
        "body_bytes",
        Kind::Size {
            min: 0,
            max: 1 << 50,
            or_unlimited: true,
        },
        "Length of the body; over it 413.",
    )
    .or(|| json!("unlimited")),
    Field::new(
        "body_rate",
        Kind::Size {
            min: 0,
            max: 1 << 30,
            or_unlimited: false,
        },
        "Bytes a second that a body must bring on average, from the 10th second until the origin answers; below it 408. 0 for no such limit. gRPC is exempt.",
    )
    .or(|| json!(240)),
    Field::new(
        "connections",
        Kind::Integer { min: 1, max: 10_000_000 },
        "Connections of all clients; one more is closed at once.",
    )
    .or(|| json!(65536)),
    Field::new(
        "connections_per_ip",
        Kind::Count { max: 10_000_000 },
        "Connections of one client address; one more is closed at once.",
    )
    .hint("a number, or 'unlimited'")
    .or(|| json!("unlimited")),
]);

static TIMEOUTS: Record = Record::of(&[
    Field::new(
        "header",
        Kind::Duration {
            min: MILLISECOND,
            max: HOUR,
            or_unlimited: false,
        },
        "Time for a request's header from its first byte to its end, and for the preface of HTTP/2; over it 408.",
    )
    .or(|| json!("10s")),
    Field::new(
        "tls_handshake",
        Kind::Duration {
            min: MILLISECOND,
            max: HOUR,
            or_unlimited: false,
        },
        "Time for a TLS handshake; over it the connection is closed.",
    )
    .or(|| json!("10s")),
    Field::new(
        "body_idle",
        Kind::Duration {
            min: MILLISECOND,
            max: DAY,
            or_unlimited: false,
        },
        "Longest pause within a request's body.",
    )
    .or(|| json!("60s")),
    Field::new(
        "keepalive",
        Kind::Duration {
            min: SECOND,
            max: DAY,
            or_unlimited: false,
        },
        "How long an idle connection is kept.",
    )
    .or(|| json!("75s")),
    Field::new(
        "target_drain",
        Kind::Duration {
            min: Duration::ZERO,
            max: WEEK,
            or_unlimited: true,
        },
        "How long requests and connections may go on at a Target that a change has taken out of rotation; then they are closed.",
    )
    .or(|| json!("unlimited")),
    Field::new(
        "requests_per_connection",
        Kind::Integer {
            min: 1,
            max: u32::MAX as i64,
        },
        "Requests after which a connection is closed.",
    )
    .or(|| json!(10000)),
]);

static RETRIES: Record = Record::of(&[
    Field::new(
        "budget_percent",
        Kind::Integer { min: 0, max: 100 },
        "Share of an Upstream's requests in flight that may be on a second or further retry, in percent.",
    )
    .or(|| json!(20))
    .hint("percent: 20 is one in five; 100 leaves only a Service's 'retries' as limit"),
    Field::new(
        "min_concurrent",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        "Such retries that are allowed at a time however few requests are in flight.",
    )
    .or(|| json!(3)),
]);

static SHUTDOWN: Record = Record::of(&[
    Field::new(
        "pre_stop_delay",
        Kind::Duration {
            min: Duration::ZERO,
            max: HOUR,
            or_unlimited: false,
        },
        "How long the proxy goes on accepting after it has reported itself not ready.",
    )
    .or(|| json!("0s")),
    Field::new(
        "drain",
        Kind::Duration {
            min: Duration::ZERO,
            max: DAY,
            or_unlimited: false,
        },
        "How long requests in flight may take after that.",
    )
    .or(|| json!("30s")),
]);

static UPGRADE: Record = Record::of(&[
    Field::new(
        "socket",
        Kind::Text(&format::NON_EMPTY),
        "Unix socket at which it asks, in a folder that not everybody may write to; by default the path of the store with the extension .sock, and none for a store in memory.",
    )
    .hint("such as /run/serin/serin.sock"),
    Field::new(
        "deadline",
        Kind::Duration {
            min: SECOND,
            max: HOUR,
            or_unlimited: false,
        },
        "How long it may take to serve once it has the sockets; after that the running process goes on.",
    )
    .or(|| json!("60s")),
]);

fn check(scope: &mut Scope<'_, '_>) {
    check_addresses(scope);
    check_proxy_protocol(scope);
}

/// Whom nobody is to listen to, nobody can be heard by.
fn check_proxy_protocol(scope: &mut Scope<'_, '_>) {
    let is_given = |value: &Value| value.as_array().is_some_and(|all| !all.is_empty());
    if scope.value("trusted_ips").is_some_and(is_given) {
        return;
    }
    let is_deaf = |listener: &Value| {
        let is_inet = listener["address"]
            .as_str()
            .is_some_and(|address| !address.starts_with("unix:"));
        is_inet && listener["proxy_protocol"] == true
    };
    let listeners = scope.value("listeners").and_then(Value::as_array);
    let deaf = listeners.and_then(|all| all.iter().position(is_deaf));
    if let Some(index) = deaf {
        let message = "nobody may speak it, since 'trusted_ips' is empty: every connection would be closed";
        let hint = "list the addresses of the load balancers under server.trusted_ips".to_owned();
        scope.error_item(
            "listeners",
            index,
            "proxy_protocol",
            message.to_owned(),
            Some(hint),
        );
    }
}

/// An address can be bound once; port 0 takes a free port each time.
fn check_addresses(scope: &mut Scope<'_, '_>) {
    let bound = |value: &Value| -> Option<ListenAddress> {
        let address: ListenAddress = value["address"].as_str()?.parse().ok()?;
        let is_any_port = matches!(&address, ListenAddress::Inet(address) if address.port() == 0);
        (!is_any_port).then_some(address)
    };
    let listeners: Vec<Option<ListenAddress>> = scope
        .value("listeners")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |all| all.iter().map(bound).collect());
    let others = ["status", "admin"].map(|name| (name, scope.value(name).and_then(bound)));
    if let [(_, Some(status)), (_, Some(admin))] = &others
        && status == admin
    {
        let hint = format!(
            "server.status ({}) needs an address of its own",
            scope.place_of("status")
        );
        let message = format!("the address {admin} is that of server.status too");
        scope.error("admin", message, Some(hint));
    }
    for (index, address) in listeners.iter().enumerate() {
        let Some(address) = address else { continue };
        if let Some(first) = listeners[..index]
            .iter()
            .position(|other| other.as_ref() == Some(address))
        {
            let hint = format!(
                "first given at {}",
                scope.place_of_item("listeners", first, "address")
            );
            let message = format!("the address {address} is listened on already");
            scope.error_item("listeners", index, "address", message, Some(hint));
        }
        for (name, _) in others.iter().filter(|(_, other)| other.as_ref() == Some(address)) {
            let place = scope.place_of(name);
            let hint = format!("server.{name} ({place}) needs an address of its own");
            let message = format!("the address {address} is that of server.{name} too");
            scope.error_item("listeners", index, "address", message, Some(hint));
        }
    }
}
