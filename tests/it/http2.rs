//! Clients that speak HTTP/2, in plain text by prior knowledge.

use std::time::Duration;

use crate::harness::{Client, Gateway, Http2, Origin, Reply, Request, now, shop, targets, wait_until};

fn gateway(origin: &Origin, server: &str) -> Gateway {
    let listeners = "  listeners: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0, h2c: true}]\n";
    Gateway::start(&format!("server:\n{listeners}{server}{}", shop(&[(origin, 1)])))
}

fn connect(gateway: &Gateway) -> Http2 {
    Http2::connect(gateway.addresses()[1])
}

#[test]
fn requests_go_to_an_http_1_origin() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    let answer = client.get("/path?query");
    assert_eq!((answer.status, answer.text().as_str()), (200, "a"));
    assert!(
        answer
            .header("Via")
            .is_some_and(|via| via.starts_with("1.1 serin/"))
    );
    let answer = client.exchange(&Request::post("/", "body"));
    assert_eq!(answer.status, 200);
    let received = origin.wait_for(2);
    assert_eq!(received[0].target, "/path?query");
    assert_eq!(received[0].header("X-Forwarded-Host"), Some("shop.example"));
    assert!(
        received[0]
            .header("Via")
            .is_some_and(|via| via.starts_with("2 serin/"))
    );
    assert_eq!(received[1].body, b"body");
}

#[test]
fn many_requests_share_a_connection() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    let exchanges: Vec<_> = (0..50)
        .map(|n| client.send(&Request::get(&format!("/{n}"))))
        .collect();
    for exchange in exchanges {
        let answer = client.answer(exchange);
        assert_eq!(client.read(answer).status, 200);
    }
    assert_eq!(origin.count(), 50);
    let accepted = gateway.metrics().sum("serin_connections_accepted_total", &[]);
    assert_eq!(accepted, Some(1.0));
}

#[test]
fn answers_of_our_own_are_the_same() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {uri_bytes: 100, body_bytes: 10}\n");
    let mut client = connect(&gateway);
    client
        .get(&format!("/{}", "x".repeat(100)))
        .assert_own_answer(414, "URI too long");
    client
        .exchange(&Request::post("/", "0123456789a"))
        .assert_own_answer(413, "Payload too large");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(origin.count(), 1);
}

/// An origin's is its own, and where it has none, and with answers of Serin's own, it is the time.
#[test]
fn every_answer_has_one_date() {
    let (origin, gone) = (Origin::start("a"), Origin::refusing("gone"));
    let service = |name: &str| {
        format!(
            "- {{name: {name}, host: {name}, retries: 0, routes: [{{name: {name}, paths: [/{name}]}}]}}\n"
        )
    };
    let gateway = Gateway::start(&format!(
        "server:\n  listeners: [{{address: 127.0.0.1:0, h2c: true}}]\nservices:\n{}{}{}upstreams:\n- name: there\n{}- name: gone\n{}- name: empty\n",
        service("there"),
        service("gone"),
        service("empty"),
        targets(&[(&origin, 1)]),
        targets(&[(&gone, 1)]),
    ));
    let made = "Sun, 06 Nov 1994 08:49:37 GMT";
    let mut client = Http2::connect(gateway.address());
    let mut date_of = |path: &str, status: u16| {
        let exchange = client.send(&Request::get(path));
        let answer = client.answer(exchange);
        assert_eq!(answer.status, status, "{path}");
        let [date] = answer.headers.all("Date")[..] else {
            panic!("{path}: {:?}", answer.headers);
        };
        date.to_owned()
    };
    origin.answer(Reply::status(200).header("Date", made));
    assert_eq!(date_of("/there", 200), made);
    origin.answer_bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for (path, status) in [("/there", 200), ("/gone", 502), ("/empty", 503), ("/none", 404)] {
        let date = date_of(path, status);
        let is_date = date.len() == made.len() && date.ends_with(" GMT");
        assert!(is_date && date != made, "{path}: {date}");
    }
}

/// What an origin does wrong is not the client's fault, whatever the client speaks.
#[test]
fn a_failed_try_is_followed_by_another_and_answered_for() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    bad.reset_before_header();
    let listeners = "  listeners: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0, h2c: true}]\n";
    let config = shop(&[(&good, 1), (&bad, 1)]).replace("host: shop", "host: shop, read_timeout: 300");
    let gateway = Gateway::start(&format!("server:\n{listeners}{config}"));
    let mut client = connect(&gateway);
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert_eq!((good.count(), bad.count()), (4, 2));
    let labels = [("service", "shop"), ("reason", "reset")];
    let retries = gateway.metrics().sum("serin_upstream_retries_total", &labels);
    assert_eq!(retries, Some(2.0));

    good.reset_before_header();
    let refused = "An invalid response was received from the upstream server";
    client.get("/").assert_own_answer(502, refused);
    good.hold();
    bad.hold();
    client
        .get("/")
        .assert_own_answer(504, "The upstream server is timing out");
}

#[test]
fn informational_answers_come_before_the_answer() {
    let origin = Origin::start("a");
    origin.answer_bytes(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    let mut exchange = client.send(&Request::get("/"));
    let (status, headers) = client.informational_to(&mut exchange).expect("a hint");
    assert_eq!((status, headers.get("Link")), (103, Some("</style.css>")));
    let answer = client.answer(exchange);
    assert_eq!(answer.headers.get("Link"), None);
    assert_eq!(client.read(answer).text(), "ok");
}

#[test]
fn an_origin_that_announces_without_end_is_not_followed() {
    let origin = Origin::start("a");
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(100);
    origin.answer_bytes(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    let mut exchange = client.send(&Request::get("/"));
    let hints = std::iter::from_fn(|| client.informational_to(&mut exchange));
    assert_eq!(hints.count(), 16);
    assert_eq!(client.answer(exchange).status, 200);
}

/// RFC 9113 §8.3.1. Each costs its own stream only.
#[test]
fn a_request_names_one_host_or_is_refused() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    let request = |hosts: &[&'static str]| {
        let mut request = Request::get("/");
        for host in hosts {
            request = request.header("Host", host);
        }
        request
    };
    // The client sends `:authority: shop.example` each time.
    for hosts in [
        &["other.example"][..],
        &["shop.example", "shop.example"],
        &["shop.example:80"],
    ] {
        client
            .exchange(&request(hosts))
            .assert_own_answer(400, "Bad request");
    }
    assert_eq!(client.exchange(&request(&["shop.example"])).status, 200);
    assert_eq!(origin.count(), 1);
    let unrouted = [("route", ""), ("status_class", "4xx")];
    let counted = gateway.metrics().sum("serin_http_requests_total", &unrouted);
    assert_eq!(counted, Some(3.0));
}

#[test]
fn a_body_that_stops_coming_is_a_408_and_the_others_go_on() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {body_idle: 200ms}\n");
    origin.stream();
    let mut client = connect(&gateway);
    let long = client.send(&Request::get("/long"));
    let mut long = client.answer(long);
    origin.send_part("one");
    assert_eq!(client.part(&mut long).as_deref(), Some(&b"one"[..]));
    let mut stopped = client.open(&Request::post("/stopped", ""));
    client.write(&mut stopped, "half", false);
    let answer = client.answer(stopped);
    client.read(answer).assert_own_answer(408, "Request timeout");
    // The origin has seen nothing whole, and what it has is not its fault.
    assert_eq!(origin.count(), 1);
    let requests = |class: &str| {
        let labels = [("status_class", class)];
        gateway.metrics().sum("serin_http_requests_total", &labels)
    };
    assert_eq!((requests("4xx"), requests("5xx")), (Some(1.0), None));
    origin.send_part("two");
    origin.end_stream();
    assert_eq!(client.read(long).text(), "two");
    origin.answer_name();
    assert_eq!(client.exchange(&Request::post("/", "whole")).text(), "a");
}

#[test]
fn a_body_may_take_as_long_as_it_likes_as_long_as_it_comes() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {body_idle: 400ms}\n");
    let mut client = connect(&gateway);
    let mut slow = client.open(&Request::post("/", ""));
    let begun = now();
    while now() - begun < Duration::from_millis(1000) {
        client.write(&mut slow, "x", false);
        let next = now() + Duration::from_millis(100);
        wait_until("it is time for the next part", || (now() >= next).then_some(()));
    }
    client.write(&mut slow, "y", true);
    let answer = client.answer(slow);
    assert_eq!(client.read(answer).text(), "a");
    // Once it is whole the client owes nothing more, however long the answer takes.
    origin.hold();
    let waiting = client.send(&Request::post("/", "body"));
    origin.wait_for(2);
    let next = now() + Duration::from_millis(600);
    wait_until("the pause is over", || (now() >= next).then_some(()));
    origin.answer_name();
    let answer = client.answer(waiting);
    assert_eq!(client.read(answer).text(), "a");
}

#[test]
fn who_does_not_speak_http_2_is_closed() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {header: 200ms}\n");
    // Too short for a preface: it is waited for no longer than for a header.
    for bytes in ["", "GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
        let mut client = Client::connect(gateway.addresses()[1]);
        client.send(bytes);
        client.read_to_end();
    }
    let mut client = Client::connect(gateway.addresses()[1]);
    client.send(Request::get("/").to_bytes());
    client.read_to_end();
    assert_eq!(origin.count(), 0);
    assert_eq!(connect(&gateway).get("/").status, 200);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {keepalive: 1s}\n");
    let mut client = connect(&gateway);
    assert_eq!(client.get("/").status, 200);
    let idle_since = now();
    client.wait_for_close();
    assert!(now() - idle_since >= Duration::from_millis(900));
}

#[test]
fn a_stop_lets_what_is_under_way_end() {
    let origin = Origin::start("a");
    let mut gateway = gateway(&origin, "");
    origin.stream();
    let mut client = connect(&gateway);
    let exchange = client.send(&Request::get("/"));
    let mut answer = client.answer(exchange);
    origin.send_part("one");
    assert_eq!(client.part(&mut answer).as_deref(), Some(&b"one"[..]));
    gateway.terminate();
    gateway.wait_for_log("SIGTERM: not ready");
    origin.send_part("two");
    origin.end_stream();
    assert_eq!(client.read(answer).text(), "two");
    assert_eq!(client.wait_for_close(), None);
    assert!(gateway.wait_for_exit().success());
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_closed() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    origin.hold();
    let mut attacker = connect(&gateway);
    // CVE-2023-44487: streams are opened and reset at once, so that none counts as open.
    wait_until("the connection is closed", || {
        attacker.open_and_reset().is_err().then_some(())
    });
    origin.answer_name();
    assert_eq!(connect(&gateway).get("/").status, 200);
}

#[test]
fn a_header_list_without_an_end_closes_the_connection() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    let mut client = Client::connect(gateway.addresses()[1]);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // HEADERS without END_HEADERS, then CONTINUATION for ever (the flood of 2024).
    client.send([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    let field = [&[0x40, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let mut frame = vec![0, 0, field.len() as u8, 9, 0, 0, 0, 0, 1];
    frame.extend(&field);
    let mut sent = 0;
    wait_until("the connection is closed", || {
        sent += frame.len();
        client.try_send(&frame).is_err().then_some(())
    });
    assert!(sent < 8 * 1024 * 1024, "{sent}");
    assert_eq!(origin.count(), 0);
    assert_eq!(connect(&gateway).get("/").status, 200);
}

/// A field that is long once and then named by one byte each time: 5 KiB stand for 20 MiB.
#[test]
fn header_lists_that_are_too_long_close_the_connection_soon() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    let mut client = Client::connect(gateway.addresses()[1]);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let long = [&[0x40, 1, b'x', 0x7f, 0x81, 0x1e][..], &[b'y'; 4000]].concat();
    for n in 0..40_u8 {
        let first = if n == 0 { &long[..] } else { &[] };
        let block = [&[0x82, 0x84, 0x86, 0x41, 1, b'a'], first, &[0xbe; 5000]].concat();
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        let frame = [&[0, length[0], length[1], 1, 5, 0, 0, 0, 2 * n + 1], &block[..]].concat();
        if client.try_send(frame).is_err() {
            break;
        }
    }
    let ping: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    wait_until("the connection is closed", || {
        client.try_send(ping).is_err().then_some(())
    });
    assert_eq!(origin.count(), 0);
    assert_eq!(connect(&gateway).get("/").status, 200);
}

#[test]
fn a_connection_serves_as_many_requests_as_allowed_and_says_goodbye() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {requests_per_connection: 3}\n");
    let mut client = connect(&gateway);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(client.wait_for_close(), None);
    // What was asked for by then is answered.
    let mut client = connect(&gateway);
    let exchanges: Vec<_> = (0..3).map(|_| client.send(&Request::get("/"))).collect();
    for exchange in exchanges {
        let answer = client.answer(exchange);
        assert_eq!(client.read(answer).text(), "a");
    }
    assert_eq!(client.wait_for_close(), None);
}
