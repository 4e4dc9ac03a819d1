//! Answers of the gateway's own: which status and text, in which format.

use crate::harness::{Gateway, Origin, Request, Response, is_request_id, shop};

const NO_ROUTE: &str = "no Route matched with those values";

/// Removes the request id, which must be the one in the header, from a body.
fn body_without_id(response: &Response) -> String {
    let id = response.header("X-Kong-Request-Id").unwrap();
    assert!(is_request_id(id), "{id}");
    let text = response.text();
    assert!(text.contains(id), "{text}");
    text.replace(id, "ID")
}

/// Insists on an answer of the gateway's own in a format by its last name.
#[track_caller]
fn check(response: &Response, status: u16, format: &str, message: &str) {
    let (content_type, body) = match format {
        "json" => (
            "application/json",
            format!("{{\"message\":\"{message}\",\"request_id\":\"ID\"}}"),
        ),
        "plain" => ("text/plain", format!("{message}\nrequest_id: ID\n")),
        "html" => (
            "text/html",
            format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n\
                 \x20 <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: ID</p>\n  </body>\n</html>\n"
            ),
        ),
        "xml" => (
            "application/xml",
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n\
                 \x20 <requestid>ID</requestid>\n</error>\n"
            ),
        ),
        other => panic!("{other} is no format"),
    };
    assert_eq!((response.status, body_without_id(response)), (status, body));
    let content_type = format!("{content_type}; charset=utf-8");
    assert_eq!(response.header("Content-Type"), Some(&*content_type));
    assert_eq!(response.header("Vary"), Some("Accept"));
    assert_eq!(
        response.header("Content-Length"),
        Some(&*response.body.len().to_string())
    );
}

#[test]
fn a_client_gets_the_format_it_likes_best() {
    let gateway = Gateway::start("services: []\n");
    let mut client = gateway.client();
    check(&client.get("/"), 404, "json", NO_ROUTE);
    for (accept, format) in [
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/plain", "plain"),
        ("text/html", "html"),
        ("application/xml", "xml"),
        ("image/png", "json"),
        ("text/html;q=0.5, application/xml;q=0.6", "xml"),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "html",
        ),
        ("application/json;q=0, */*", "plain"),
        ("nonsense;;q=", "json"),
    ] {
        let response = client.exchange(&Request::get("/").header("Accept", accept));
        check(&response, 404, format, NO_ROUTE);
    }
    let two_lines = Request::get("/")
        .header("Accept", "text/html;q=0.1")
        .header("Accept", "text/plain");
    check(&client.exchange(&two_lines), 404, "plain", NO_ROUTE);
}

#[test]
fn every_answer_of_our_own_has_kongs_text_in_every_format() {
    let (gone, mute, silent) = (
        Origin::refusing("gone"),
        Origin::start("mute"),
        Origin::start("silent"),
    );
    mute.hold();
    silent.reset_before_header();
    let gateway = Gateway::start(&format!(
        r#"server:
  limits: {{body_bytes: 10, uri_bytes: 64, header_bytes: 1KiB}}
  timeouts: {{body_idle: 200ms}}
services:
- {{name: gone, url: "http://{}", routes: [{{paths: [/gone]}}]}}
- {{name: mute, url: "http://{}", read_timeout: 100, retries: 0, routes: [{{paths: [/mute]}}]}}
- {{name: patient, url: "http://{}", routes: [{{paths: [/patient]}}]}}
- {{name: silent, url: "http://{}", routes: [{{paths: [/silent]}}]}}
- {{name: lost, host: nowhere.invalid, routes: [{{paths: [/lost]}}]}}
- {{name: empty, host: empty, routes: [{{paths: [/empty]}}]}}
- {{name: secure, host: empty, routes: [{{paths: [/secure], protocols: [https]}}]}}
routes:
- {{name: alone, paths: [/alone]}}
upstreams:
- {{name: empty}}
"#,
        gone.address(),
        mute.address(),
        mute.address(),
        silent.address()
    ));
    let long = format!("/{}", "x".repeat(64));
    let broken = "An invalid response was received from the upstream server";
    let field = "y".repeat(1024);
    for (format, accept) in [
        ("json", "application/json"),
        ("plain", "text/plain"),
        ("html", "text/html"),
        ("xml", "application/xml"),
    ] {
        let get = |target: &str| Request::get(target).header("Accept", accept);
        for (request, status, message) in [
            (get("/nothing"), 404, NO_ROUTE),
            (get("/gone"), 502, broken),
            (get("/silent"), 502, broken),
            (get("/mute"), 504, "The upstream server is timing out"),
            (get("/lost"), 503, "name resolution failed"),
            (get("/empty"), 503, "failure to get a peer from the ring-balancer"),
            (get("/alone"), 503, "no Service found with those values"),
            (get("/secure"), 426, "Please use HTTPS protocol"),
            (get(&long), 414, "URI too long"),
            (
                get("/").header("X-Long", &field),
                431,
                "Request header or cookie too large",
            ),
            (
                Request::post("/gone", "eleven byte").header("Accept", accept),
                413,
                "Payload too large",
            ),
        ] {
            check(&gateway.exchange(&request), status, format, message);
        }

        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nAccept: {accept}\r\n\r\n"));
        check(&client.receive(), 400, format, "Bad request");

        // Of ten bytes three come.
        let mut client = gateway.client();
        client.send(format!(
            "POST /patient HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nContent-Length: 10\r\n\r\nabc"
        ));
        check(&client.receive(), 408, format, "Request timeout");
    }
}

#[test]
fn head_gets_the_fields_without_the_body_and_the_connection_serves_on() {
    let origin = Origin::start("a");
    let config = shop(&[(&origin, 1)]).replace("paths: [\"/\"]", "paths: [\"/shop\"]");
    let gateway = Gateway::start(&config);
    let mut client = gateway.client();
    let html = |method: &str| Request::new(method, "/").header("Accept", "text/html");
    let full = client.exchange(&html("GET"));
    check(&full, 404, "html", NO_ROUTE);
    let head = client.exchange(&html("HEAD"));
    assert_eq!((head.status, head.body.len()), (404, 0));
    for field in ["Content-Type", "Content-Length", "Vary"] {
        assert_eq!(head.header(field), full.header(field), "{field}");
    }
    assert_eq!(client.get("/shop").text(), "a");
}

/// An origin's own error is the origin's to phrase.
#[test]
fn an_origins_error_is_passed_on_as_it_is() {
    let origin = Origin::start("a");
    origin.answer(
        crate::harness::Reply::status(503)
            .header("Content-Type", "text/x")
            .body("busy"),
    );
    let gateway = Gateway::start(&shop(&[(&origin, 1)]));
    let response = gateway.exchange(&Request::get("/").header("Accept", "text/html"));
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    assert_eq!(response.header("Content-Type"), Some("text/x"));
    assert_eq!(response.header("Vary"), None);
}
