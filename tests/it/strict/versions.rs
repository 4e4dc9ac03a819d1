//! HTTP/1.0, `Expect`, and a change of protocol.

use super::origin::{StrictOrigin, Then};
use crate::harness::Gateway;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[test]
fn an_http_1_0_client_is_sent_no_coding() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    origin.answer("/chunked", CHUNKED, Then::Keep);
    origin.answer("/until-close", "HTTP/1.1 200 OK\r\n\r\nhello", Then::Close);
    for target in ["/chunked", "/until-close"] {
        for keep_alive in ["", "Connection: keep-alive\r\n"] {
            let mut client = gateway.client();
            client.send(format!("GET {target} HTTP/1.0\r\n{keep_alive}\r\n"));
            let answer = client.receive();
            assert_eq!((answer.status, &*answer.text()), (200, "hello"), "{target}");
            assert_eq!(answer.header("Transfer-Encoding"), None);
            assert_eq!(answer.header("Content-Length"), None);
            assert_eq!(
                answer.header("Connection"),
                Some("close"),
                "{target} {keep_alive:?}"
            );
            client.assert_closes();
        }
    }
    // Another client of the same answer gets it in chunks.
    assert_eq!(
        gateway.get("/chunked").header("Transfer-Encoding"),
        Some("chunked")
    );
}

#[test]
fn an_http_1_0_client_keeps_its_connection_only_if_it_asks() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.receive();
        assert_eq!(
            (answer.status, answer.header("Connection")),
            (200, Some("keep-alive"))
        );
    }
    client.send("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(client.receive().header("Connection"), Some("close"));
    client.assert_closes();
    assert_eq!(origin.take().len(), 3);
}

#[test]
fn an_http_1_0_client_is_sent_no_informational_answer() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let hints =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    origin.answer("/x", hints, Then::Keep);
    let mut client = gateway.client();
    client.send("POST /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let answer = client.receive();
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    client.assert_closes();
    let seen = origin.take_only();
    assert_eq!((seen.field("expect"), &*seen.body), (None, &b"hello"[..]));
    assert_eq!(gateway.client().get("/x").status, 103);
}

const EXPECTING: &str = "HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_client_that_waits_for_100_continue_gets_it_from_the_origin() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(format!("POST /x {EXPECTING}"));
        assert_eq!(client.receive().status, 100);
        client.send("hello");
        assert_eq!(client.receive().text(), "/x");
    }
    assert!(origin.take().iter().all(|seen| seen.body == b"hello"));
}

#[test]
fn a_client_that_waits_is_answered_without_the_origin_too() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config().replace("paths: [/]", "paths: [/shop]"));
    let mut client = gateway.client();
    client.send(format!("POST /elsewhere {EXPECTING}"));
    client
        .receive()
        .assert_own_answer(404, "no Route matched with those values");
    // The body may or may not come, so what comes next could be anything.
    client.assert_closes();
    assert_eq!(origin.take(), []);
}

#[test]
fn another_expectation_is_a_417() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    for version in ["1.0", "1.1"] {
        let mut client = gateway.client();
        client.send(format!(
            "GET /x HTTP/{version}\r\nHost: a\r\nExpect: a-miracle\r\n\r\n"
        ));
        client.receive().assert_own_answer(417, "Expectation failed");
    }
    assert_eq!(origin.take(), []);
}

#[test]
fn a_switch_to_what_was_not_asked_for_is_a_502() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let asking = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (version, fields, answer) in [
        ("1.1", "", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("1.0", asking, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (
            "1.1",
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ),
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        ),
        ("1.1", asking, "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("1.1", asking, ""),
    ] {
        let switch = format!("HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n");
        origin.answer("/x", switch, Then::Keep);
        let mut client = gateway.client();
        client.send(format!("GET /x HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
        let answer = client.receive();
        answer.assert_own_answer(502, "An invalid response was received from the upstream server");
        client.assert_closes();
        origin.take_only();
    }
}

#[test]
fn a_switch_that_was_asked_for_passes_with_no_more_than_it_needs() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, upgrade, X-Hop\r\nUpgrade: WebSocket\r\n\
                  X-Hop: 1\r\nKeep-Alive: 5\r\nSec-WebSocket-Accept: a\r\n\r\nframe";
    origin.answer("/x", switch, Then::Keep);
    let mut client = gateway.client();
    client
        .send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let (status, headers) = client.receive_head();
    assert_eq!(status, 101);
    for (name, value) in [
        ("Connection", Some("Upgrade")),
        ("Upgrade", Some("WebSocket")),
        ("Sec-WebSocket-Accept", Some("a")),
        ("X-Hop", None),
        ("Keep-Alive", None),
    ] {
        assert_eq!(headers.get(name), value, "{name}");
    }
    assert_eq!(client.receive_bytes(5), b"frame");
}
