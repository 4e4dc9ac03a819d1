//! Blue and green by one PATCH, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::harness::{Client, Gateway, Http2, Origin, Request, Response, now, wait_until};

const SWITCHES: usize = 31;
/// Connections that are kept over all switches; more than one for each of the two workers.
const KEPT: usize = 6;
/// Clients that open a connection for each request.
const NEW: usize = 2;
/// Connections of HTTP/2 that are kept over all switches.
const HTTP_2: usize = 4;

/// How a client is connected.
#[derive(Clone, Copy)]
enum By {
    Kept,
    New,
    Http2,
}

/// A request: when it began and ended, and who answered.
type Seen = (Instant, Instant, String);

fn colours(blue: &Origin, green: &Origin) -> String {
    format!(
        r#"server:
  threads: 2
  listeners: [{{address: 127.0.0.1:0}}, {{address: 127.0.0.1:0, h2c: true}}]
services:
- {{name: checkout, host: blue, routes: [{{name: all, paths: [/]}}]}}
upstreams:
- {{name: blue, targets: [{{target: "{}"}}]}}
- {{name: green, targets: [{{target: "{}"}}]}}
"#,
        blue.address(),
        green.address()
    )
}

/// Asks until it is told to stop. Every request has to be answered, and by one of the two.
fn ask(gateway: &Gateway, by: By, is_over: &AtomicBool) -> Vec<Seen> {
    let request = Request::get("/");
    let mut ask: Box<dyn FnMut() -> Response> = match by {
        By::Kept => {
            let mut client = gateway.persistent_client();
            Box::new(move || client.exchange(&request))
        }
        By::New => Box::new(move || gateway.exchange(&request)),
        By::Http2 => {
            let mut client = Http2::connect(gateway.addresses()[1]);
            Box::new(move || client.exchange(&request))
        }
    };
    let mut seen = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let begun = now();
        let answer = ask();
        assert_eq!(answer.status, 200, "{}", answer.text());
        seen.push((begun, now(), answer.text()));
    }
    seen
}

/// Requests go on over kept and new connections and over HTTP/2. What begins after a switch was answered, and ends before the
/// next is asked for, is served by the new colour; nothing fails.
#[test]
fn thirty_one_switches_fail_no_request_and_leave_none_behind() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&colours(&blue, &green));
    let is_over = AtomicBool::new(false);
    let mut periods: Vec<(Instant, Instant, &str)> = Vec::new();
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let kinds = [vec![By::Kept; KEPT], vec![By::New; NEW], vec![By::Http2; HTTP_2]].concat();
        let clients: Vec<_> = kinds
            .into_iter()
            .map(|by| {
                let (gateway, is_over) = (&gateway, &is_over);
                scope.spawn(move || ask(gateway, by, is_over))
            })
            .collect();
        let mut admin = gateway.admin();
        for switch in 0..SWITCHES {
            let (to, origin) = match switch % 2 {
                0 => ("green", &green),
                _ => ("blue", &blue),
            };
            admin
                .send("PATCH", "/services/checkout", json!({"host": to}))
                .expect(200);
            let answered = now();
            let before = origin.count();
            wait_until("requests by the new colour", || {
                (origin.count() > before + 20).then_some(())
            });
            periods.push((answered, now(), to));
        }
        is_over.store(true, Ordering::Release);
        let all = clients.into_iter().flat_map(|client| client.join().unwrap());
        all.collect()
    });
    for (from, to, colour) in &periods {
        let within = seen.iter().filter(|(begun, ended, _)| from < begun && ended < to);
        let by: Vec<&str> = within.map(|(.., by)| &**by).collect();
        assert!(
            !by.is_empty() && by.iter().all(|by| by == colour),
            "{colour}: {by:?}"
        );
    }
}

#[test]
fn an_answer_begun_on_blue_ends_on_blue_and_a_rollback_is_a_switch() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    blue.stream();
    let gateway = Gateway::start(&colours(&blue, &green));
    let mut admin = gateway.admin();
    let mut reader = gateway.client();
    reader.send(Request::get("/stream").to_bytes());
    assert_eq!(reader.receive_head().0, 200);
    blue.send_part("first");
    assert_eq!(reader.receive_chunk().unwrap(), b"first");

    let switched = admin.send("PATCH", "/services/checkout", json!({"host": "green"}));
    assert_eq!(switched.response.header("x-serin-in-flight"), Some("blue=1"));
    assert_eq!(gateway.get("/").text(), "green");
    let drain = admin.get("/upstreams/blue/drain").expect(200);
    assert_eq!(
        (&drain["is_drained"], &drain["in_flight"]),
        (&json!(false), &json!(1))
    );

    blue.send_part("last");
    assert_eq!(reader.receive_chunk().unwrap(), b"last");
    blue.end_stream();
    assert_eq!(reader.receive_chunk(), None);
    wait_until("blue is drained", || {
        (admin.get("/upstreams/blue/drain").body["is_drained"] == true).then_some(())
    });
    blue.answer_name();
    admin
        .send("PATCH", "/services/checkout", json!({"host": "blue"}))
        .expect(200);
    assert_eq!(Client::connect(gateway.address()).get("/").text(), "blue");
}
