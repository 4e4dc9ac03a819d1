//! Requests put together at random out of what makes trouble, from a fixed seed. Whatever the client is told,
//! the strict origin must never see a byte that it complains about nor a request within a request, and the
//! next client must be served.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::origin::StrictOrigin;
use crate::harness::{Gateway, Request};

const CASES: u32 = 400;

const METHODS: &[&str] = &[
    "GET", "POST", "OPTIONS", "HEAD", "TRACE", "G\u{0}T", "get", "PO ST", "",
];
const TARGETS: &[&str] = &[
    "/x",
    "/x?q=%",
    "*",
    "x",
    "//a/b",
    "/%00",
    "/%2e%2e/y",
    "http://a/x",
    "http://b/x",
    "http://a@b/x",
    "/x#f",
    "/\u{fc}",
    "",
];
const VERSIONS: &[&str] = &[
    "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", "",
];
const FIELDS: &[&str] = &[
    "Host: a",
    "Host: a",
    "Host: b:70000",
    "Content-Length: 5",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: 5\u{b}",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer_Encoding: chunked",
    " Transfer-Encoding: chunked",
    "Connection: close",
    "Connection: keep-alive, X-A, Host",
    "Connection: transfer-encoding, content-length",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X-A",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Expect: something",
    "X-A: 1",
    "X_A: 2",
    "X-A",
    ": x",
    "Cookie: a=1",
    "Cookie: b=2",
    "X-Forwarded-For: 1.2.3.4",
    "Via: 1.1 serin/0",
];
const ENDS: &[&str] = &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"];
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n",
    "5\r\nhelloGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
    "0\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
    "helloGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
];

/// Each bears the number of its case, so that what the origin sees can be told apart: a client that has
/// stopped sending may be let go before the origin has got what was forwarded for it.
fn request(case: u32) -> impl Strategy<Value = String> {
    let pick = |all: &'static [&'static str]| prop::sample::select(all);
    let field = (pick(FIELDS), pick(ENDS)).prop_map(|(field, end)| format!("{field}{end}"));
    let line = (pick(METHODS), pick(TARGETS), pick(VERSIONS), pick(ENDS));
    let fields = prop::collection::vec(field, 0..7);
    (line, any::<bool>(), fields, pick(BODIES)).prop_map(
        move |((method, target, version, end), has_host, fields, body)| {
            let host = if has_host { "Host: a\r\n" } else { "" };
            format!(
                "{method} {target} {version}{end}{host}X-Case: {case}\r\n{}\r\n{body}",
                fields.concat()
            )
        },
    )
}

#[test]
fn nothing_that_is_put_together_reaches_an_origin_in_two_readings() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&format!(
        "server:\n  timeouts: {{header: 500ms, body_idle: 500ms}}\n{}",
        origin.config()
    ));
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::with_cases(CASES), seed);
    let mut arrived = HashSet::new();
    for case in 0..CASES {
        let bytes = request(case).new_tree(&mut runner).unwrap().current();
        let mut client = gateway.client();
        client.send(&bytes);
        client.end_sending();
        client.read_to_end();
        let last = gateway.exchange(&Request::get("/last")).text();
        assert_eq!(last, "/last", "{bytes:?}");
        // Complains for the origin.
        for message in origin.take() {
            match message.field("x-case") {
                Some(case) => {
                    let is_first = arrived.insert(case.to_owned());
                    assert!(is_first, "two requests of case {case}, then {message:?}");
                }
                None => assert_eq!(message.target, "/last", "{bytes:?} became {message:?}"),
            }
        }
    }
    let arrived = arrived.len();
    assert!(arrived > 5, "hardly anything arrives: {arrived} of {CASES}");
}
