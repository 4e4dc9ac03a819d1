//! A switch from blue to green while exchanges are under way on blue: what they become, how they are
//! counted, and what is closed once the time for it is over.
//!
//! That something is not closed is proven by what is: under a reload that sets the time to nothing, an
//! exchange on a Target out of rotation ends, and the one that must stay answers after that.

use crate::harness::{Client, Gateway, Http2, Origin, Request, targets, wait_until};

const IN_FLIGHT: &str = "serin_target_requests_in_flight";
const UPGRADED: &str = "serin_target_upgraded_connections";
const CLOSED: &str = "serin_drain_closed_total";

/// A Service on the Upstream `host`, one of these.
fn config(host: &str, target_drain: &str, upstreams: &[(&str, &[(&Origin, u32)])]) -> String {
    let mut text = format!(
        r#"server:
  timeouts: {{target_drain: {target_drain}}}
services:
- {{name: shop, host: {host}, routes: [{{name: all, paths: ["/"], strip_path: false}}]}}
upstreams:
"#
    );
    for (name, members) in upstreams {
        text += &format!("- name: {name}\n{}", targets(members));
    }
    text
}

/// Blue and green, one Target each.
fn both(host: &str, target_drain: &str, blue: &Origin, green: &Origin) -> String {
    let upstreams: [(&str, &[(&Origin, u32)]); 2] = [("blue", &[(blue, 1)]), ("green", &[(green, 1)])];
    config(host, target_drain, &upstreams)
}

fn open_websocket(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    let request = Request::get("/chat")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    client.send(request.to_bytes());
    assert_eq!(client.receive_head().0, 101);
    client
}

#[track_caller]
fn assert_echoes(websocket: &mut Client) {
    websocket.send("ping");
    assert_eq!(websocket.receive_bytes(4), b"ping");
}

fn open_stream(gateway: &Gateway, origin: &Origin) -> Client {
    origin.stream();
    let mut client = gateway.client();
    client.send(Request::get("/events").to_bytes());
    assert_eq!(client.receive_head().0, 200);
    origin.send_part("one");
    assert_eq!(client.receive_chunk().as_deref(), Some(&b"one"[..]));
    client
}

fn wait_until_gone(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) {
    wait_until(&format!("no {name} {labels:?}"), || {
        gateway.metrics().sum(name, labels).is_none().then_some(())
    });
}

#[test]
fn an_answer_begun_on_blue_ends_whole_on_blue() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "unlimited", &blue, &green));
    let mut client = open_stream(&gateway, &blue);
    gateway.apply(&both("green", "unlimited", &blue, &green));
    assert_eq!(gateway.get("/").text(), "green");
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 1.0);
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "green")], 0.0);
    blue.send_part("two");
    assert_eq!(client.receive_chunk().as_deref(), Some(&b"two"[..]));
    blue.end_stream();
    assert_eq!(client.receive_chunk(), None);
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 0.0);
    assert_eq!(blue.count(), 1);
    // The connection goes on, on green.
    assert_eq!(client.get("/").text(), "green");
}

#[test]
fn every_kind_of_exchange_is_counted_to_its_very_end() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "unlimited", &blue, &green));
    let target = blue.address().to_string();
    let labels = [("upstream", "blue"), ("target", target.as_str())];
    let check = |in_flight: f64, upgraded: f64| {
        gateway.wait_for_metric(IN_FLIGHT, &labels, in_flight);
        gateway.wait_for_metric(UPGRADED, &labels, upgraded);
    };
    check(0.0, 0.0);
    blue.upgrade();
    let mut websockets: Vec<Client> = (0..3).map(|_| open_websocket(&gateway)).collect();
    let mut events = open_stream(&gateway, &blue);
    blue.hold();
    let mut waiting = gateway.client();
    waiting.send(Request::get("/").to_bytes());
    blue.wait_for(5);
    let mut uploading = gateway.client();
    uploading.send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 10\r\n\r\n12345");
    let mut going = gateway.client();
    going.send(Request::get("/").to_bytes());
    blue.wait_for(6);
    check(7.0, 3.0);
    // Blue is no longer used, and then it is not even there.
    gateway.apply(&both("green", "unlimited", &blue, &green));
    check(7.0, 3.0);
    gateway.apply(&config("green", "unlimited", &[("green", &[(&green, 1)])]));
    check(7.0, 3.0);
    assert_eq!(gateway.get("/").text(), "green");
    // Clients that go away.
    drop(going);
    check(6.0, 3.0);
    drop(websockets.pop());
    check(5.0, 2.0);
    // An origin that breaks off, and one that ends in good order.
    websockets[0].send("reset");
    websockets[0].assert_closes();
    check(4.0, 1.0);
    assert_echoes(&mut websockets[1]);
    blue.end_stream();
    assert_eq!(events.receive_chunk(), None);
    check(3.0, 1.0);
    blue.answer_name();
    assert_eq!(waiting.receive().text(), "blue");
    check(2.0, 1.0);
    uploading.send("67890");
    assert_eq!(uploading.receive().text(), "blue");
    check(1.0, 1.0);
    drop(websockets);
    for name in [IN_FLIGHT, UPGRADED] {
        wait_until_gone(&gateway, name, &labels);
    }
}

#[test]
fn a_retry_moves_the_count_to_the_other_target() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    let config = config("blue", "unlimited", &[("blue", &[(&one, 1), (&other, 1)])]);
    let gateway = Gateway::start(&config);
    for origin in [&one, &other] {
        origin.hold();
    }
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    let (first, second) = wait_until("the first try", || match (one.count(), other.count()) {
        (0, 0) => None,
        (0, _) => Some((&other, &one)),
        _ => Some((&one, &other)),
    });
    let in_flight = |origin: &Origin, value: f64| {
        let target = origin.address().to_string();
        gateway.wait_for_metric(IN_FLIGHT, &[("target", target.as_str())], value);
    };
    in_flight(first, 1.0);
    in_flight(second, 0.0);
    first.reset_before_header();
    second.wait_for(1);
    in_flight(first, 0.0);
    in_flight(second, 1.0);
    second.answer_name();
    assert_eq!(client.receive().text(), second.name());
    in_flight(second, 0.0);
}

#[test]
fn without_a_deadline_a_websocket_survives_the_switch() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "unlimited", &blue, &green));
    blue.upgrade();
    let mut websocket = open_websocket(&gateway);
    gateway.apply(&both("green", "unlimited", &blue, &green));
    assert_eq!(gateway.get("/").text(), "green");
    assert_echoes(&mut websocket);
    gateway.apply(&config("green", "unlimited", &[("green", &[(&green, 1)])]));
    assert_echoes(&mut websocket);
}

#[test]
fn what_is_idle_on_blue_is_closed_at_the_deadline_and_green_is_untouched() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "600s", &blue, &green));
    // Kept by its client, with nothing under way.
    let mut idle = gateway.client();
    assert_eq!(idle.get("/").text(), "blue");
    blue.upgrade();
    let mut on_blue = open_websocket(&gateway);
    gateway.apply(&both("green", "600s", &blue, &green));
    green.upgrade();
    let mut on_green = open_websocket(&gateway);
    assert_echoes(&mut on_blue);
    gateway.wait_for_metric(UPGRADED, &[("upstream", "blue")], 1.0);
    // The setting holds at once for what is under way.
    gateway.apply(&both("green", "0s", &blue, &green));
    on_blue.assert_closes();
    for name in [UPGRADED, IN_FLIGHT] {
        gateway.wait_for_metric(name, &[("upstream", "blue")], 0.0);
        gateway.wait_for_metric(name, &[("upstream", "green")], 1.0);
    }
    gateway.wait_for_metric(CLOSED, &[("upstream", "blue")], 1.0);
    assert_eq!(gateway.metrics().sum(CLOSED, &[("upstream", "green")]), None);
    assert_echoes(&mut on_green);
    green.answer_name();
    assert_eq!(idle.get("/").text(), "green");
    let lines = gateway.wait_for_lines("stdout", 2);
    let closed = lines.iter().find(|line| line.contains("/chat")).unwrap();
    let closed: serde_json::Value = serde_json::from_str(closed).unwrap();
    assert_eq!(
        (&closed["status"], &closed["upstream"]),
        (&101.into(), &"blue".into())
    );
    let error = closed["error"].as_str().unwrap();
    assert!(error.contains("target_drain"), "{error}");
    assert!(gateway.log_text().contains("closed what was left: 1"));
}

#[test]
fn a_deadline_that_passes_closes_by_itself() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "50ms", &blue, &green));
    blue.upgrade();
    let mut websocket = open_websocket(&gateway);
    assert_echoes(&mut websocket);
    gateway.apply(&config("green", "50ms", &[("green", &[(&green, 1)])]));
    websocket.assert_closes();
    // Counted under the name of an Upstream that is no longer there.
    gateway.wait_for_metric(CLOSED, &[("upstream", "blue")], 1.0);
    wait_until_gone(&gateway, IN_FLIGHT, &[("upstream", "blue")]);
}

#[test]
fn a_switch_back_cancels_it() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&both("blue", "600s", &blue, &green));
    for origin in [&blue, &green] {
        origin.upgrade();
    }
    let mut on_blue = open_websocket(&gateway);
    gateway.apply(&both("green", "600s", &blue, &green));
    let mut on_green = open_websocket(&gateway);
    gateway.apply(&both("blue", "600s", &blue, &green));
    gateway.apply(&both("blue", "0s", &blue, &green));
    on_green.assert_closes();
    assert_echoes(&mut on_blue);
}

/// Each way to take a Target out, beside those that stay: one in rotation and one that is unhealthy.
#[test]
fn weight_zero_and_removed_targets_are_out_and_unhealthy_ones_are_not() {
    let names = ["light", "removed", "unhealthy", "stays"];
    let origins = names.map(Origin::start);
    let [light, removed, unhealthy, stays] = &origins;
    let checks = "  healthchecks: {passive: {unhealthy: {http_failures: 1}}}\n";
    let config =
        |drain: &str, targets: &[(&Origin, u32)]| config("blue", drain, &[("blue", targets)]) + checks;
    let all = origins.each_ref().map(|origin| (origin, 1));
    let gateway = Gateway::start(&config("600s", &all));
    for origin in &origins {
        origin.upgrade();
    }
    // Round robin: one on each.
    let mut websockets: Vec<Client> = (0..4).map(|_| open_websocket(&gateway)).collect();
    for origin in &origins {
        assert_eq!(origin.count(), 1, "{}", origin.name());
        origin.answer_name();
    }
    unhealthy.answer(crate::harness::Reply::status(500));
    let state = |origin: &Origin| {
        let target = origin.address().to_string();
        [
            ("target".to_owned(), target),
            ("state".to_owned(), "UNHEALTHY".to_owned()),
        ]
    };
    wait_until("an unhealthy target", || {
        gateway.get("/");
        let [target, state] = state(unhealthy);
        let labels = [(&*target.0, &*target.1), (&*state.0, &*state.1)];
        (gateway.metrics().sum("serin_target_health", &labels) == Some(1.0)).then_some(())
    });
    let left = [(light, 0), (unhealthy, 1), (stays, 1)];
    gateway.apply(&config("600s", &left));
    gateway.wait_for_metric(UPGRADED, &[("upstream", "blue")], 4.0);
    gateway.apply(&config("0s", &left));
    gateway.wait_for_metric(UPGRADED, &[("upstream", "blue")], 2.0);
    gateway.wait_for_metric(CLOSED, &[("upstream", "blue")], 2.0);
    let at = |origin: &Origin| {
        let target = origin.address().to_string();
        gateway.metrics().sum(UPGRADED, &[("target", target.as_str())])
    };
    assert_eq!(
        [at(light), at(removed), at(unhealthy), at(stays)],
        [Some(0.0), None, Some(1.0), Some(1.0)]
    );
    // Whichever clients those are: two are closed, two go on.
    let mut open = 0;
    for websocket in &mut websockets {
        if websocket.try_send("ping").is_ok() && websocket.read_up_to(4) == b"ping" {
            open += 1;
        }
    }
    assert_eq!(open, 2);
    // Nobody is blamed for it.
    let [target, state] = state(stays);
    let labels = [(&*target.0, &*target.1), (&*state.0, &*state.1)];
    assert_eq!(gateway.metrics().sum("serin_target_health", &labels), Some(0.0));
    let changes = gateway
        .metrics()
        .sum("serin_target_health_changes_total", &[("to", "unhealthy")]);
    assert_eq!(changes, Some(1.0));
}

/// A request that waits is told so; one that is being answered is cut off, whoever waits for whom.
#[test]
fn requests_and_answers_under_way_end_at_the_deadline_too() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let checks = "  healthchecks: {passive: {unhealthy: {tcp_failures: 1, timeouts: 1, http_failures: 1}}}\n";
    let config = |host, drain| {
        let upstreams: [(&str, &[(&Origin, u32)]); 2] = [("green", &[(&green, 1)]), ("blue", &[(&blue, 1)])];
        config(host, drain, &upstreams) + checks
    };
    let gateway = Gateway::start(&config("blue", "600s"));
    let mut streaming = open_stream(&gateway, &blue);
    // More than the buffers on the way hold goes to one of two, so that the gateway waits for its client.
    let mut stuck = gateway.client();
    stuck.send(Request::get("/").to_bytes());
    assert_eq!(stuck.receive_head().0, 200);
    blue.send_part(vec![b'x'; 64 << 20]);
    blue.hold();
    let mut waiting = gateway.client();
    waiting.send(Request::get("/").to_bytes());
    blue.wait_for(3);
    let mut uploading = gateway.client();
    uploading.send("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 10\r\n\r\n12345");
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 4.0);
    gateway.apply(&config("green", "600s"));
    gateway.apply(&config("green", "0s"));
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 0.0);
    gateway.wait_for_metric(CLOSED, &[("upstream", "blue")], 4.0);
    for client in [&mut waiting, &mut uploading] {
        let answer = client.receive();
        answer.assert_own_answer(504, "The upstream server is timing out");
        assert_eq!(answer.header("Connection"), Some("close"));
        client.assert_closes();
    }
    // One of them has got a part of it.
    for client in [&mut streaming, &mut stuck] {
        client.read_to_end();
    }
    let health = gateway.get_status("/upstreams/blue/health");
    let health: serde_json::Value = serde_json::from_slice(&health.body).unwrap();
    assert_eq!(health["data"][0]["health"], "HEALTHY", "{health}");
    assert_eq!(gateway.metrics().sum("serin_upstream_retries_total", &[]), None);
    assert_eq!(green.count(), 0);
}

/// With HTTP/2 a stream is an exchange: those at the Target that is out end, and the connection serves on.
#[test]
fn streams_of_a_shared_connection_end_at_the_deadline_and_the_others_go_on() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let config = |host, drain| {
        let text = both(host, drain, &blue, &green);
        text.replace(
            "server:\n",
            "server:\n  listeners: [{address: 127.0.0.1:0, h2c: true}]\n",
        )
    };
    let gateway = Gateway::start(&config("blue", "600s"));
    let mut client = Http2::connect(gateway.address());
    let begin = |client: &mut Http2, origin: &Origin| {
        origin.stream();
        let exchange = client.send(&Request::get("/events"));
        client.answer(exchange)
    };
    let streams = [begin(&mut client, &blue), begin(&mut client, &blue)];
    // More than the client takes without reading goes to one of two, so that the gateway waits for it.
    blue.send_part(vec![b'x'; 16 << 20]);
    blue.hold();
    let waiting = client.send(&Request::get("/"));
    blue.wait_for(3);
    let mut uploading = client.open(&Request::post("/", ""));
    client.write(&mut uploading, "half", false);
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 4.0);
    gateway.apply(&config("green", "600s"));
    let mut on_green = begin(&mut client, &green);
    gateway.apply(&config("green", "0s"));
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "blue")], 0.0);
    gateway.wait_for_metric(CLOSED, &[("upstream", "blue")], 4.0);
    for exchange in [waiting, uploading] {
        let answer = client.answer(exchange);
        let answer = client.read(answer);
        answer.assert_own_answer(504, "The upstream server is timing out");
    }
    for answer in streams {
        assert_eq!(client.break_of(answer), Some(h2::Reason::CANCEL));
    }
    green.send_part("two");
    assert_eq!(client.part(&mut on_green).as_deref(), Some(&b"two"[..]));
    green.end_stream();
    assert_eq!(client.read(on_green).text(), "");
    green.answer_name();
    assert_eq!(client.get("/").text(), "green");
    assert_eq!(gateway.metrics().sum("serin_upstream_retries_total", &[]), None);
    let accepted = gateway.metrics().sum("serin_connections_accepted_total", &[]);
    assert_eq!(accepted, Some(1.0));
}

/// A Service's own host is an Upstream of one Target.
#[test]
fn a_host_that_is_no_upstream_drains_like_one() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let config = |origin: &Origin, drain: &str| {
        format!(
            r#"server:
  timeouts: {{target_drain: {drain}}}
services:
- {{name: shop, host: 127.0.0.1, port: {}, routes: [{{name: all, paths: ["/"]}}]}}
"#,
            origin.address().port()
        )
    };
    let gateway = Gateway::start(&config(&blue, "600s"));
    blue.upgrade();
    let mut websocket = open_websocket(&gateway);
    gateway.apply(&config(&green, "600s"));
    let target = blue.address().to_string();
    let labels = [("upstream", target.as_str()), ("target", target.as_str())];
    gateway.wait_for_metric(UPGRADED, &labels, 1.0);
    assert_echoes(&mut websocket);
    gateway.apply(&config(&green, "0s"));
    websocket.assert_closes();
    wait_until_gone(&gateway, UPGRADED, &labels);
    gateway.wait_for_metric(CLOSED, &[("upstream", target.as_str())], 1.0);
}
