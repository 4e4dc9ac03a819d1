//! What operators see: the status address, metrics, the access log.

use std::fs::File;
use std::io::{BufRead, BufReader};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use serde_json::Value;

use crate::harness::{Client, Gateway, Origin, Reply, Request, shop, targets, wait_until};

const NAMES: [&str; 28] = [
    "serin_access_log_dropped_total",
    "serin_build_info",
    "serin_config_drifted_entities",
    "serin_config_generation",
    "serin_config_last_reload_success_timestamp_seconds",
    "serin_config_last_reload_successful",
    "serin_config_reloads_total",
    "serin_config_restart_required",
    "serin_connections",
    "serin_connections_accepted_total",
    "serin_dns_lookups_total",
    "serin_http_request_duration_seconds_bucket",
    "serin_http_request_duration_seconds_count",
    "serin_http_request_duration_seconds_sum",
    "serin_http_requests_in_flight",
    "serin_http_requests_total",
    "serin_http_requests_waiting",
    "serin_panics_total",
    "serin_target_eligible",
    "serin_target_health",
    "serin_target_requests_in_flight",
    "serin_target_requests_total",
    "serin_target_upgraded_connections",
    "serin_upstream_duration_seconds_bucket",
    "serin_upstream_duration_seconds_count",
    "serin_upstream_duration_seconds_sum",
    "serin_upstream_requests_total",
    "serin_upstream_retries_total",
];

#[test]
fn the_status_address_answers_probes_and_nothing_else() {
    let gateway = Gateway::start("");
    for (target, status, body) in [
        ("/status/ready", 200, "{\"message\":\"ready\"}"),
        ("/status/live", 200, "{\"message\":\"alive\"}"),
        ("/nothing", 404, "{\"message\":\"Not found\"}"),
    ] {
        let response = gateway.get_status(target);
        assert_eq!((response.status, response.text().as_str()), (status, body));
    }
    let mut client = Client::connect(gateway.status_address());
    assert_eq!(client.exchange(&Request::post("/status", "")).status, 405);
    let metrics = gateway.get_status("/metrics");
    assert_eq!(
        metrics.header("Content-Type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
}

#[test]
fn status_describes_what_is_in_force() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&shop(&[(&origin, 1)]));
    let mut client = gateway.client();
    client.get("/");
    let status = gateway.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["generation"], 1);
    let configuration = &status["configuration"];
    for name in ["services", "routes", "upstreams"] {
        assert_eq!(configuration[name], 1, "{name}");
    }
    assert_eq!(configuration["last_reload"]["successful"], true);
    assert_eq!(configuration["last_reload"]["problems"], Value::Array(vec![]));
    assert_eq!(configuration["restart_required"], false);
    assert_eq!(status["server"]["connections_active"], 1);
    assert_eq!(status["server"]["connections_accepted"], 1);
}

#[test]
fn metrics_have_these_names() {
    let (origin, dead) = (Origin::start("a"), Origin::refusing("dead"));
    let config = shop(&[(&origin, 1), (&dead, 1)]) + "  - {target: \"nobody.invalid:1\", weight: 1}\n";
    let gateway = Gateway::start(&config);
    for _ in 0..2 {
        gateway.get("/");
    }
    gateway.reload_by_signal();
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "unchanged")], 1.0);
    gateway.wait_for_metric("serin_http_requests_total", &[], 2.0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.names(), NAMES);
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("pingora_version", "0.9.1"),
    ];
    assert_eq!(metrics.sum("serin_build_info", &build), Some(1.0));
}

#[test]
fn requests_are_counted_by_service_route_and_status_class() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: one, url: 'http://{}', routes: [{{name: x, paths: [/x]}}, {{name: y, paths: [/y]}}]}}\n\
         - {{name: two, url: 'http://{}', routes: [{{name: z, paths: [/z]}}]}}\n",
        a.address(),
        b.address()
    ));
    let mut client = gateway.client();
    for (status, count) in [(200, 7), (301, 2), (404, 3), (500, 4)] {
        a.answer(Reply::status(status));
        for _ in 0..count {
            client.get("/x");
        }
    }
    client.get("/y");
    client.get("/z");
    gateway.wait_for_metric("serin_http_requests_total", &[], 18.0);
    let metrics = gateway.metrics();
    for (service, route, class, count) in [
        ("one", "x", "2xx", 7.0),
        ("one", "x", "3xx", 2.0),
        ("one", "x", "4xx", 3.0),
        ("one", "x", "5xx", 4.0),
        ("one", "y", "5xx", 1.0),
        ("two", "z", "2xx", 1.0),
    ] {
        let labels = [("service", service), ("route", route), ("status_class", class)];
        assert_eq!(
            metrics.sum("serin_http_requests_total", &labels),
            Some(count),
            "{labels:?}"
        );
    }
    for (name, service, count) in [
        ("serin_upstream_requests_total", "one", 17.0),
        ("serin_upstream_requests_total", "two", 1.0),
        ("serin_http_request_duration_seconds_count", "one", 17.0),
        ("serin_upstream_duration_seconds_count", "one", 17.0),
    ] {
        let labels = [("service", service), ("variant", "stable")];
        assert_eq!(metrics.sum(name, &labels), Some(count), "{name}");
    }
    assert_eq!(metrics.sum("serin_connections", &[]), Some(1.0));
    assert_eq!(metrics.sum("serin_connections_accepted_total", &[]), Some(1.0));
}

/// What finds no Route belongs to nobody, and yet somebody has to see it.
#[test]
fn requests_without_a_route_are_counted_too() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&format!(
        "server:\n  limits: {{uri_bytes: 64}}\nservices:\n- {{name: shop, url: 'http://{}', routes: [{{name: r, paths: [/shop]}}]}}\n",
        origin.address()
    ));
    gateway.get("/nothing");
    gateway.get(&format!("/shop/{}", "x".repeat(64)));
    let labels = [("service", ""), ("route", ""), ("status_class", "4xx")];
    gateway.wait_for_metric("serin_http_requests_total", &labels, 2.0);
}

#[test]
fn in_flight_goes_up_and_down() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1), (&b, 1)]));
    a.hold();
    b.hold();
    let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(Request::get("/").to_bytes());
    }
    a.wait_for(2);
    b.wait_for(2);
    let gauge = |target: &Origin, value: f64| {
        let target = target.address().to_string();
        let labels = [("upstream", "shop"), ("target", target.as_str())];
        gateway.wait_for_metric("serin_target_requests_in_flight", &labels, value);
    };
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 4.0);
    gauge(&a, 2.0);
    gauge(&b, 2.0);
    assert_eq!(gateway.status()["server"]["requests_in_flight"], 4);
    a.answer_name();
    gauge(&a, 0.0);
    gauge(&b, 2.0);
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 2.0);
    // Clients that go away take their requests with them.
    drop(clients);
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    gauge(&b, 0.0);
    gateway.wait_for_metric("serin_connections", &[], 0.0);
}

#[test]
fn a_target_out_of_rotation_shows_its_requests_until_they_end() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1), (&b, 1)]));
    let target = a.address().to_string();
    let labels = [("upstream", "shop"), ("target", target.as_str())];
    a.hold();
    let mut clients: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(Request::get("/").to_bytes());
    }
    a.wait_for(1);
    b.wait_for(1);
    gateway.apply(&shop(&[(&a, 0), (&b, 1)]));
    gateway.wait_for_metric("serin_target_eligible", &labels, 0.0);
    gateway.wait_for_metric("serin_target_requests_in_flight", &labels, 1.0);
    gateway.apply(&shop(&[(&b, 1)]));
    gateway.wait_for_metric("serin_target_requests_in_flight", &labels, 1.0);
    a.answer_name();
    wait_until("the series of a Target that is gone and idle", || {
        gateway
            .metrics()
            .sum("serin_target_requests_in_flight", &labels)
            .is_none()
            .then_some(())
    });
}

#[test]
fn tries_are_counted_by_target() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 3), (&b, 1)]));
    let mut client = gateway.client();
    for _ in 0..40 {
        client.get("/");
    }
    for (origin, count) in [(&a, 30.0), (&b, 10.0)] {
        let target = origin.address().to_string();
        let labels = [("upstream", "shop"), ("target", target.as_str())];
        assert_eq!(
            gateway.metrics().sum("serin_target_requests_total", &labels),
            Some(count)
        );
    }
}

/// A Service, a Route and an Upstream of one name.
fn named(name: &str, origin: &Origin) -> String {
    format!(
        "services:\n- {{name: '{name}', host: '{name}', routes: [{{name: '{name}', paths: [/]}}]}}\n\
         upstreams:\n- name: '{name}'\n{}",
        targets(&[(origin, 1)])
    )
}

#[test]
fn series_of_what_is_gone_are_gone() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&named("old", &a));
    gateway.get("/");
    gateway.wait_for_metric("serin_http_requests_total", &[("service", "old")], 1.0);
    gateway.apply(&named("new", &b));
    gateway.get("/");
    gateway.wait_for_metric("serin_http_requests_total", &[("service", "new")], 1.0);
    assert_gone(&gateway, "old", &a);
}

/// Looks for any trace of a Service, its Route, its Upstream and a Target.
fn assert_gone(gateway: &Gateway, name: &str, target: &Origin) {
    let text = gateway.get_status("/metrics").text();
    for trace in [format!("\"{name}\""), format!("\"{}\"", target.address())] {
        let left: Vec<_> = text.lines().filter(|line| line.contains(&trace)).collect();
        assert!(left.is_empty(), "{left:#?}");
    }
}

/// A request that was under way when its Route left ends on the old generation, and must not bring
/// series back that nobody would ever take away again.
#[test]
fn series_of_what_is_gone_do_not_come_back_with_a_late_answer() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&named("old", &a));
    a.hold();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    a.wait_for(1);
    gateway.apply(&named("new", &b));
    a.answer_name();
    assert_eq!(client.receive().text(), "a");
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    assert_gone(&gateway, "old", &a);
}

#[test]
fn the_access_log_is_json_with_these_fields() {
    let (a, b) = (Origin::start("a"), Origin::refusing("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1), (&b, 1)]));
    let mut client = gateway.client();
    let request = |user: &str| {
        Request::post("/cart?user=1", "an order")
            .header("User-Agent", user)
            .host("Shop.example:80")
    };
    let id = client
        .exchange(&request("one \"quoted\""))
        .header("X-Kong-Request-Id")
        .unwrap()
        .to_owned();
    client.exchange(&request("two"));
    let lines = gateway.wait_for_lines("stdout", 2);
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = &lines[0];
    let target = a.address().to_string();
    for (field, value) in [
        ("request_id", Value::from(id)),
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "Shop.example:80".into()),
        ("path", "/cart?user=1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes_sent", 1.into()),
        ("bytes_received", 8.into()),
        ("service", "shop".into()),
        ("route", "all".into()),
        ("consumer", Value::Null),
        ("upstream", "shop".into()),
        ("target", target.into()),
        ("upstream_status", 200.into()),
        ("generation", 1.into()),
        ("user_agent", "one \"quoted\"".into()),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
    assert!(line["duration_ms"].as_f64().unwrap() >= line["upstream_ms"].as_f64().unwrap());
    // One of the two found the dead target first.
    let mut tries: Vec<_> = lines.iter().map(|line| line["tries"].as_u64().unwrap()).collect();
    tries.sort_unstable();
    assert_eq!(tries, [1, 2]);
}

#[test]
fn the_access_log_says_why() {
    let dead = Origin::refusing("dead");
    let gateway = Gateway::start(&shop(&[(&dead, 1)]));
    gateway.get("/");
    let line = &gateway.wait_for_lines("stdout", 1)[0];
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["status"], 502);
    assert_eq!(line["upstream_status"], Value::Null);
    let error = line["error"].as_str().unwrap();
    assert!(error.contains(&dead.address().to_string()), "{error}");
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[test]
fn the_access_log_can_be_combined_and_go_to_a_file() {
    let origin = Origin::start("a");
    let log = "server:\n  access_log: {format: combined, path: access.log}\n";
    let gateway = Gateway::start(&format!("{log}{}", shop(&[(&origin, 1)])));
    gateway.exchange(
        &Request::get("/a?b=c")
            .header("Referer", "http://example/\"x\"")
            .header("User-Agent", "test/1"),
    );
    let line = &gateway.wait_for_lines("access.log", 1)[0];
    let (client, rest) = line.split_once(" - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(client, "127.0.0.1");
    assert!(time.ends_with(" +0000") && time.len() == 26, "{time}");
    assert_eq!(
        rest,
        "\"GET /a?b=c HTTP/1.1\" 200 1 \"http://example/\\\"x\\\"\" \"test/1\""
    );
}

#[test]
fn the_access_log_can_be_changed_and_switched_off_live() {
    let origin = Origin::start("a");
    let config = |log: &str| format!("server:\n  access_log: {log}\n{}", shop(&[(&origin, 1)]));
    let gateway = Gateway::start(&config("{path: one.log}"));
    let mut client = gateway.client();
    client.get("/1");
    gateway.wait_for_lines("one.log", 1);
    gateway.apply(&config("{path: two.log}"));
    client.get("/2");
    gateway.wait_for_lines("two.log", 1);
    gateway.apply(&config("false"));
    client.get("/3");
    gateway.apply(&config("{path: two.log}"));
    client.get("/4");
    let lines = gateway.wait_for_lines("two.log", 2);
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("\"/4\""), "{}", lines[1]);
    assert_eq!(gateway.wait_for_lines("one.log", 1).len(), 1);
}

/// The log is a pipe that is opened and not read. 36,000 lines are more than queue (32,768), pipe
/// and writer (together 128 KiB, some 500 lines) hold, so some are dropped and counted; no request
/// is. Read at last, the pipe yields exactly the lines that were not dropped.
#[test]
fn a_stalled_reader_of_the_access_log_costs_lines_and_no_requests() {
    const THREADS: usize = 4;
    const REQUESTS: usize = 9_000;
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    // Opened without waiting for a writer, since the gateway waits for a reader.
    let reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let gateway = Gateway::start(&format!(
        "server:\n  access_log: {{path: '{}'}}\nroutes:\n- {{name: lonely, paths: [/]}}\n",
        pipe.display()
    ));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..REQUESTS {
                    assert_eq!(client.get("/").status, 503);
                }
            });
        }
    });
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    let metrics = gateway.metrics();
    let dropped = metrics.sum("serin_access_log_dropped_total", &[]).unwrap() as usize;
    assert!(dropped > 0);

    rustix::fs::fcntl_setfl(&reader, OFlags::empty()).unwrap();
    let lines = BufReader::new(File::from(reader)).lines();
    assert_eq!(
        lines
            .take(THREADS * REQUESTS - dropped)
            .filter(Result::is_ok)
            .count()
            + dropped,
        THREADS * REQUESTS
    );
    let after = gateway.metrics().sum("serin_access_log_dropped_total", &[]);
    assert_eq!(after, Some(dropped as f64));
}
