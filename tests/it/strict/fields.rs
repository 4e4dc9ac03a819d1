//! Fields: those that end here, those that are joined, those with an underscore, and loops.

use super::origin::{StrictOrigin, Then};
use crate::harness::{Gateway, Request, wait_until};

#[test]
fn fields_for_one_hop_do_not_reach_the_client() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-One, keep-alive\r\nConnection: x-two, Content-Length\r\nX-One: 1\r\nX-Two: 2\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
                  Upgrade: h2c\r\nX-Three: 3\r\nContent-Length: 2\r\n\r\nok";
    origin.answer("/x", answer, Then::Keep);
    let response = gateway.get("/x");
    for name in [
        "X-One",
        "X-Two",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Upgrade",
    ] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("X-Three"), Some("3"));
    assert_eq!(response.header("Connection"), Some("keep-alive"));
    assert_eq!(response.text(), "ok");
}

#[test]
fn a_method_that_is_refused_is_told_which_are_not() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let mut client = gateway.client();
    let response = client.exchange(&Request::new("TRACE", "/x").header("Cookie", "secret"));
    response.assert_own_answer(405, "Method not allowed");
    assert_eq!(
        response.header("Allow"),
        Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    );
    assert_eq!(client.get("/x").status, 200);
    assert_eq!(origin.take_only().method, "GET");
}

#[test]
fn an_answer_has_one_date_and_it_is_the_origins() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    assert!(gateway.get("/x").header("Date").is_some());
    assert!(gateway.get("/%00").header("Date").is_some());
    let made = "Sun, 06 Nov 1994 08:49:37 GMT";
    let answer = format!("HTTP/1.1 200 OK\r\nDate: {made}\r\nContent-Length: 2\r\n\r\nok");
    origin.answer("/old", answer, Then::Keep);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/old");
        assert_eq!((response.header("Date"), &*response.text()), (Some(made), "ok"));
        assert_ne!(client.get("/x").header("Date"), Some(made));
        // The field is about the answer of the origin alone.
        assert_ne!(gateway.get("/%00").header("Date"), Some(made));
    }
}

#[test]
fn a_client_cannot_take_away_what_is_said_of_it() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let names = [
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-path",
        "via",
        "x-kong-request-id",
    ];
    for name in names {
        let status = gateway
            .exchange(&Request::get("/x").header("Connection", name))
            .status;
        let seen = origin.take();
        match name {
            "x-forwarded-host" => assert_eq!((status, seen.len()), (400, 0)),
            name => assert!(seen[0].field(name).is_some(), "{name}: {seen:?}"),
        }
    }
}

#[test]
fn cookies_reach_the_origin_in_one_field() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let request = Request::get("/x")
        .header("Cookie", "a=1; b=2")
        .header("Cookie", "c=3");
    assert_eq!(gateway.exchange(&request).status, 200);
    assert_eq!(origin.take_only().field("cookie"), Some("a=1; b=2; c=3"));
}

fn underscored() -> Request {
    Request::get("/x")
        .header("X_Real_IP", "192.0.2.1")
        .header("x_a", "1")
        .header("X-A", "2")
}

#[test]
fn underscored_fields_are_dropped_and_counted() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    assert_eq!(gateway.exchange(&underscored()).status, 200);
    let seen = origin.take_only();
    assert_eq!(
        (seen.field("x-a"), seen.field("x-real-ip")),
        (Some("2"), Some("127.0.0.1"))
    );
    gateway.wait_for_metric("serin_http_underscored_headers_total", &[("action", "drop")], 2.0);
}

#[test]
fn underscored_fields_can_be_refused_or_kept_from_one_request_to_the_next() {
    let origin = StrictOrigin::start();
    let kept = crate::harness::Origin::start("kept");
    let config =
        |action: &str, config: &str| format!("server:\n  underscores_in_headers: {action}\n{config}");
    let gateway = Gateway::start(&config("refuse", &origin.config()));
    let mut client = gateway.client();
    client
        .exchange(&underscored())
        .assert_own_answer(400, "Bad request");
    client.assert_closes();
    gateway.wait_for_metric(
        "serin_http_underscored_headers_total",
        &[("action", "refuse")],
        2.0,
    );
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(origin.take().len(), 1);

    gateway.apply(&config("keep", &crate::harness::shop(&[(&kept, 1)])));
    assert_eq!(gateway.exchange(&underscored()).status, 200);
    assert_eq!(kept.only().header("x_real_ip"), Some("192.0.2.1"));
}

/// The gateway is its own origin: each request comes back as another one, until it has come too often.
#[test]
fn a_loop_is_ended_with_508() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let address = gateway.address();
    // The addresses stay as they are: a reload does not touch listeners.
    gateway.apply(&format!(
        "services:\n- {{name: loop, url: 'http://{address}', routes: [{{name: all, paths: [/]}}]}}\n"
    ));
    let response = gateway.get("/x");
    assert_eq!(response.status, 508);
    assert!(response.text().contains("Loop detected"), "{}", response.text());
    // The request of the client, and one for each hop that may be behind it.
    let lines = gateway.wait_for_lines("stdout", 12);
    assert!(
        lines.iter().all(|line| line.contains("\"status\":508")),
        "{lines:#?}"
    );
    wait_until("nothing is left of the loop", || {
        let in_flight = gateway.metrics().sum("serin_http_requests_in_flight", &[])?;
        (in_flight == 0.0).then_some(())
    });
    assert_eq!(origin.take(), []);
}
