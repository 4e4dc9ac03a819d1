//! Sizes and pauses: what is over a limit is answered and does not reach an origin.

use crate::harness::{Gateway, Http2, Origin, Request, shop};

fn gateway(origin: &Origin, server: &str) -> Gateway {
    Gateway::start(&format!("server:\n{server}{}", shop(&[(origin, 1)])))
}

#[test]
fn a_long_uri_is_a_414() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {uri_bytes: 100}\n");
    let mut client = gateway.client();
    let target = |bytes: usize| format!("/{}?{}", "x".repeat(50), "q".repeat(bytes - 52));
    assert_eq!(client.get(&target(100)).status, 200);
    client.get(&target(101)).assert_own_answer(414, "URI too long");
    // The request was read whole, so the connection serves on.
    assert_eq!(client.get("/").status, 200);
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_large_header_is_a_431() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {header_bytes: 2KiB, headers: 10}\n");
    let mut client = gateway.client();
    let message = "Request header or cookie too large";
    let large = |bytes: usize| Request::get("/").header("X-Large", &"x".repeat(bytes));
    // `Host: shop.example` takes 16 bytes and the name of the field 7.
    assert_eq!(client.exchange(&large(2048 - 23)).status, 200);
    client.exchange(&large(2048 - 22)).assert_own_answer(431, message);
    let many = |count: usize| (0..count).fold(Request::get("/"), |request, _| request.header("X", "y"));
    assert_eq!(client.exchange(&many(9)).status, 200);
    client.exchange(&many(10)).assert_own_answer(431, message);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(origin.count(), 3);
}

#[test]
fn an_announced_body_over_the_limit_is_a_413_before_it_is_sent() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {body_bytes: 10}\n");
    assert_eq!(gateway.exchange(&Request::post("/", "0123456789")).status, 200);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    client.receive().assert_own_answer(413, "Payload too large");
    client.assert_closes();
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_body_that_turns_out_over_the_limit_is_a_413() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {body_bytes: 10}\n");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = gateway.client();
    client.send(format!("{head}5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"));
    assert_eq!(client.receive().status, 200);
    client.send(format!("{head}5\r\nhello\r\n6\r\n world\r\n"));
    client.receive().assert_own_answer(413, "Payload too large");
    client.assert_closes();
    // The origin never sees the second one whole.
    assert_eq!(origin.count(), 1);
}

#[test]
fn limits_apply_to_the_next_request_after_a_reload() {
    let origin = Origin::start("a");
    let config = |limit: &str| {
        format!(
            "server:\n  limits: {{body_bytes: {limit}}}\n{}",
            shop(&[(&origin, 1)])
        )
    };
    let gateway = Gateway::start(&config("unlimited"));
    let order = Request::post("/", "0123456789");
    let mut client = gateway.client();
    assert_eq!(client.exchange(&order).status, 200);
    gateway.apply(&config("9"));
    client
        .exchange(&order)
        .assert_own_answer(413, "Payload too large");
}

#[test]
fn a_body_that_stops_coming_is_a_408() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {body_idle: 200ms}\n");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    client.receive().assert_own_answer(408, "Request timeout");
    client.assert_closes();
    assert_eq!(origin.count(), 0);
}

/// The origin waits for the body, and not the other way round: it is not to blame, whichever time is over first.
#[test]
fn a_body_that_stops_coming_is_not_the_origins_fault() {
    let origin = Origin::start("a");
    let listeners = "server:\n  listeners: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0, h2c: true}]\n";
    let checks = "  healthchecks: {passive: {unhealthy: {timeouts: 1}}}\n";
    let gateway = Gateway::start(&format!(
        "{listeners}{}{checks}",
        shop(&[(&origin, 1)]).replace("host: shop", "host: shop, read_timeout: 200")
    ));
    // PUT may be tried again, and is not.
    for method in ["PUT", "POST"] {
        let mut client = gateway.client();
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"
        ));
        client.receive().assert_own_answer(408, "Request timeout");
        let mut client = Http2::connect(gateway.addresses()[1]);
        let mut stopped = client.open(&Request::new(method, "/"));
        client.write(&mut stopped, "half", false);
        let answer = client.answer(stopped);
        client.read(answer).assert_own_answer(408, "Request timeout");
    }
    assert_eq!(origin.count(), 0);
    let sum = |name: &str| gateway.metrics().sum(name, &[]);
    assert_eq!(sum("serin_upstream_retries_total"), None);
    assert_eq!(sum("serin_upstream_requests_total"), None);
    assert_eq!(gateway.get("/").text(), "a");
    // An origin that has everything and says nothing is slow indeed.
    origin.hold();
    let slow = gateway.exchange(&Request::post("/", "whole"));
    slow.assert_own_answer(504, "The upstream server is timing out");
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {keepalive: 1s}\n");
    let mut client = gateway.client();
    assert_eq!(client.get("/").status, 200);
    client.assert_closes();
}

#[test]
fn a_connection_serves_as_many_requests_as_allowed() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {requests_per_connection: 3}\n");
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_ne!(client.get("/").header("Connection"), Some("close"));
    }
    assert_eq!(client.get("/").header("Connection"), Some("close"));
    client.assert_closes();
}

#[test]
fn what_is_no_http_is_answered_400_and_the_gateway_lives_on() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  threads: 1\n");
    for bytes in [
        "\u{16}\u{3}\u{1}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{0}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
    ] {
        let mut client = gateway.client();
        client.send(bytes);
        assert_eq!(client.receive().status, 400, "{bytes:?}");
        client.read_to_end();
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(gateway.get("/").status, 200);
}
