//! What the origin sees of a request and the client of the answer, field by field.

use crate::harness::{Client, Gateway, Origin, Reply, Request, is_request_id, shop};

const TRUSTING: &str = "server:\n  trusted_ips: [127.0.0.1/32]\n";

/// A Service at the origin's address with Route fields of the test's own.
fn config(server: &str, origin: &Origin, route: &str) -> String {
    format!(
        "{server}services:\n- {{name: shop, url: 'http://{}', routes: [{{name: all, {route}}}]}}\n",
        origin.address()
    )
}

#[test]
fn the_origin_sees_its_own_host_unless_the_route_preserves_the_clients() {
    let origin = Origin::start("a");
    let host = |config: &str| {
        origin.forget();
        let gateway = Gateway::start(config);
        let response = gateway.exchange(&Request::get("/").host("client.example:1234"));
        assert_eq!(response.status, 200);
        origin.only().header("Host").unwrap().to_owned()
    };
    let address = origin.address().to_string();
    assert_eq!(host(&config("", &origin, "paths: [/]")), address);
    assert_eq!(
        host(&config("", &origin, "paths: [/], preserve_host: true")),
        "client.example:1234"
    );
    let upstream = |field: &str, route: &str| {
        format!(
            "services:\n- {{name: shop, host: pool, routes: [{{name: all, paths: [/]{route}}}]}}\n\
             upstreams:\n- {{name: pool, {field}targets: [{{target: '{address}'}}]}}\n"
        )
    };
    assert_eq!(host(&upstream("", "")), address);
    assert_eq!(host(&upstream("host_header: pool.example, ", "")), "pool.example");
    assert_eq!(
        host(&upstream("host_header: pool.example, ", ", preserve_host: true")),
        "client.example:1234"
    );
}

#[test]
fn a_target_with_a_name_is_called_by_name_and_port() {
    let origins = Origin::start_on_localhost("a");
    let port = origins[0].address().port();
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: shop, host: pool, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- {{name: pool, targets: [{{target: 'localhost:{port}'}}]}}\n"
    ));
    assert_eq!(gateway.get("/").status, 200);
    let received = origins.each_ref().map(Origin::received).concat();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("Host"), Some(&*format!("localhost:{port}")));
}

#[test]
fn forwarding_fields_tell_of_the_client() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/shop]"));
    let mut client = Client::connect_from([127, 0, 0, 9], gateway.address());
    client.exchange(&Request::get("/shop/a%2Fb?q=1").host("Client.example:1234"));
    let seen = origin.only();
    let port = gateway.address().port().to_string();
    for (name, value) in [
        ("X-Forwarded-For", "127.0.0.9"),
        ("X-Real-IP", "127.0.0.9"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "Client.example"),
        ("X-Forwarded-Port", &port),
        ("X-Forwarded-Path", "/shop/a%2Fb"),
        ("X-Forwarded-Prefix", "/shop"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.target, "/a%2Fb?q=1");
}

#[test]
fn the_prefix_is_told_only_when_one_was_stripped() {
    let origin = Origin::start("a");
    for (route, target, prefix) in [
        ("paths: [/shop], strip_path: false", "/shop/x", None),
        ("paths: [/]", "/shop/x", None),
        ("hosts: [shop.example]", "/shop/x", None),
        ("paths: [/shop]", "/shop/x", Some("/shop")),
        ("paths: ['~/v\\d+']", "/v12/x", Some("/v12")),
    ] {
        origin.forget();
        let gateway = Gateway::start(&config("", &origin, route));
        // A client's own is not believed either way.
        gateway.exchange(&Request::get(target).header("X-Forwarded-Prefix", "/forged"));
        assert_eq!(origin.only().header("X-Forwarded-Prefix"), prefix, "{route}");
    }
}

fn forged() -> Request {
    Request::get("/x")
        .header("X-Forwarded-For", "192.0.2.1, 192.0.2.2")
        .header("X-Forwarded-For", "192.0.2.3")
        .header("X-Real-IP", "192.0.2.4")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "edge.example")
        .header("X-Forwarded-Port", "443")
        .header("X-Forwarded-Path", "/edge")
        .header("X-Forwarded-Prefix", "/prefix")
}

#[test]
fn a_peer_that_is_not_trusted_is_not_believed_but_its_chain_is_kept() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(TRUSTING, &origin, "paths: [/]"));
    let mut client = Client::connect_from([127, 0, 0, 2], gateway.address());
    client.exchange(&forged());
    let seen = origin.only();
    let port = gateway.address().port().to_string();
    for (name, value) in [
        (
            "X-Forwarded-For",
            Some("192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.2"),
        ),
        ("X-Real-IP", Some("127.0.0.2")),
        ("X-Forwarded-Proto", Some("http")),
        ("X-Forwarded-Host", Some("shop.example")),
        ("X-Forwarded-Port", Some(port.as_str())),
        ("X-Forwarded-Path", Some("/x")),
        ("X-Forwarded-Prefix", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[test]
fn a_trusted_peer_is_believed() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(TRUSTING, &origin, "paths: [/]"));
    gateway.exchange(&forged());
    let seen = origin.only();
    for (name, value) in [
        ("X-Forwarded-For", "192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"),
        ("X-Real-IP", "192.0.2.3"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "edge.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Path", "/edge"),
        ("X-Forwarded-Prefix", "/prefix"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[test]
fn via_is_appended_in_both_directions() {
    let origin = Origin::start("a");
    origin.answer(Reply::status(200).header("Via", "1.0 cache"));
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let own = format!("1.1 serin/{}", env!("CARGO_PKG_VERSION"));
    let request = Request::get("/")
        .header("Via", "1.0 fred")
        .header("Via", "1.1 wilma");
    let response = gateway.exchange(&request);
    assert_eq!(
        origin.only().header("Via"),
        Some(&*format!("1.0 fred, 1.1 wilma, {own}"))
    );
    assert_eq!(response.header("Via"), Some(&*format!("1.0 cache, {own}")));

    origin.answer_name();
    origin.forget();
    let response = gateway.get("/");
    assert_eq!(origin.only().header("Via"), Some(&*own));
    assert_eq!(response.header("Via"), Some(&*own));
}

#[test]
fn each_request_has_an_id_that_no_client_can_choose() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let chosen = "0123456789abcdef0123456789abcdef";
    let response = gateway.exchange(&Request::get("/").header("X-Kong-Request-Id", chosen));
    let id = response.header("X-Kong-Request-Id").unwrap();
    assert!(is_request_id(id), "{id}");
    assert_ne!(id, chosen);
    assert_eq!(origin.only().header("X-Kong-Request-Id"), Some(id));
}

#[test]
fn the_answer_tells_its_latencies_and_keeps_the_origins_server() {
    let origin = Origin::start("a");
    origin.answer(Reply::status(201).header("Server", "origin/1").body("made"));
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (201, "made"));
    assert_eq!(response.header("Server"), Some("origin/1"));
    for name in ["X-Kong-Upstream-Latency", "X-Kong-Proxy-Latency"] {
        let latency = response.header(name).unwrap();
        assert!(latency.parse::<u64>().is_ok(), "{name}: {latency}");
    }
    assert_eq!(response.header("X-Kong-Response-Latency"), None);

    origin.answer_name();
    let own = format!("serin/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(gateway.get("/").header("Server"), Some(&*own));
}

#[test]
fn what_is_for_one_hop_only_stays_there() {
    let origin = Origin::start("a");
    origin.answer(
        Reply::status(200)
            .header("Connection", "keep-alive, X-Private")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("X-Private", "for the gateway")
            .header("X-Public", "for the client"),
    );
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    let request = Request::get("/")
        .header("Connection", "keep-alive, X-Hop")
        .header("X-Hop", "for the gateway")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy", "http://evil.example")
        .header("Upgrade", "h2c")
        .header("TE", "gzip")
        .header("X-Serin-Debug", "1")
        .header("Authorization", "Basic eDp5")
        .header("Proxy-Authorization", "Basic eDp5");
    let response = client.exchange(&request);
    let seen = origin.only();
    for name in [
        "X-Hop",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy",
        "Upgrade",
        "TE",
        "X-Serin-Debug",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("Authorization"), Some("Basic eDp5"));
    for name in ["Keep-Alive", "Proxy-Connection", "X-Private"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("X-Public"), Some("for the client"));
    // The connection to the client is the gateway's own business.
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn debug_headers_are_for_trusted_peers_who_ask() {
    let origin = Origin::start("a");
    let address = origin.address().to_string();
    let gateway = Gateway::start(&format!(
        "{TRUSTING}services:\n- {{name: shop, host: pool, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- {{name: pool, targets: [{{target: '{address}'}}]}}\n"
    ));
    let asking = Request::get("/").header("X-Serin-Debug", "1");
    let response = gateway.exchange(&asking);
    for (name, value) in [
        ("X-Serin-Generation", "1"),
        ("X-Serin-Route", "all"),
        ("X-Serin-Service", "shop"),
        ("X-Serin-Upstream", "pool"),
        ("X-Serin-Target", &address),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let mut stranger = Client::connect_from([127, 0, 0, 2], gateway.address());
    for response in [gateway.get("/"), stranger.exchange(&asking)] {
        assert_eq!(response.header("X-Serin-Generation"), None);
        assert_eq!(response.header("X-Serin-Target"), None);
    }
}

#[test]
fn bodies_pass_in_both_directions_as_they_come() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    origin.stream();
    client.send(
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    assert_eq!(origin.wait_for(1)[0].body, b"hello world");
    let (status, headers) = client.receive_head();
    assert_eq!((status, headers.get("Transfer-Encoding")), (200, Some("chunked")));
    for part in ["one", "two", "three"] {
        // The next part is sent only when this one has arrived, so nothing waits for the end.
        origin.send_part(part);
        assert_eq!(client.receive_chunk().as_deref(), Some(part.as_bytes()));
    }
    origin.end_stream();
    assert_eq!(client.receive_chunk(), None);
    origin.answer_name();
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn informational_answers_come_before_the_answer() {
    let origin = Origin::start("a");
    origin.answer_bytes(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    let (status, headers) = client.receive_head();
    assert_eq!((status, headers.get("Link")), (103, Some("</style.css>")));
    assert_eq!(client.receive().text(), "ok");
}

#[test]
fn a_body_that_ends_with_the_connection_leaves_the_clients_open() {
    let origin = Origin::start("a");
    origin.answer_bytes("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "until the end");
    assert_eq!(client.get("/").text(), "until the end");
}

/// RFC 9112 §6.1: `Transfer-Encoding` wins, `Content-Length` does not go on, and the connection is
/// not used again.
#[test]
fn a_body_framed_in_two_ways_cannot_hide_a_request() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.receive().header("Connection"), Some("close"));
    client.assert_closes();
    let seen = origin.only();
    assert_eq!(seen.body, b"abc");
    assert_eq!(seen.header("Content-Length"), None);
}

fn upgrade(target: &str) -> Request {
    Request::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
}

#[test]
fn a_websocket_is_passed_through_in_both_directions() {
    let origin = Origin::start("a");
    origin.upgrade();
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    client.send(upgrade("/chat").to_bytes());
    let (status, headers) = client.receive_head();
    assert_eq!((status, headers.get("Upgrade")), (101, Some("websocket")));
    for message in ["one", "two"] {
        client.send(message);
        assert_eq!(client.receive_bytes(3), message.as_bytes());
    }
    let seen = origin.only();
    assert_eq!(seen.header("Upgrade"), Some("websocket"));
    assert_eq!(seen.header("Connection"), Some("Upgrade"));
    drop(client);
    let line = &gateway.wait_for_lines("stdout", 1)[0];
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["status"], 101);
    assert_eq!(line["upstream_status"], 101);
}

#[test]
fn a_websocket_that_breaks_is_not_opened_again_elsewhere() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1), (&b, 1)]));
    for origin in [&a, &b] {
        origin.upgrade();
    }
    let mut client = gateway.client();
    client.send(upgrade("/chat").to_bytes());
    assert_eq!(client.receive_head().0, 101);
    client.send("reset");
    client.assert_closes();
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    assert_eq!(a.count() + b.count(), 1);
    assert_eq!(gateway.metrics().sum("serin_upstream_retries_total", &[]), None);
}

#[test]
fn an_http_1_0_client_is_served_and_its_connection_closed() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = client.receive();
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    client.assert_closes();
}

#[test]
fn what_follows_a_request_unasked_is_not_served_on_its_connection() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config("", &origin, "paths: [/]"));
    let mut client = gateway.client();
    let two = [Request::get("/one"), Request::get("/two")].map(|request| request.to_bytes());
    client.send(two.concat());
    assert_eq!(client.receive().status, 200);
    client.assert_closes();
    assert_eq!(origin.only().target, "/one");
}
