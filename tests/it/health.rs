//! Health checks. Origins are told to fail and asked what they saw; the gateway's own view is read
//! from its metrics. Where a test says "out", it waits for that state and then counts exactly.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::harness::{Gateway, HANG_LIMIT, Origin, Reply, Request, now, targets, wait_until};

const NO_TARGET: &str = "failure to get a peer from the ring-balancer";
/// Both ways within a fraction of a second.
const QUICK: &str = "{type: http, http_path: /health, timeout: 0.5, \
    healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1, http_failures: 1, timeouts: 1}}";

/// A Service on an Upstream with these checks.
pub fn checked(service: &str, upstream: &str, origins: &[&Origin]) -> String {
    let equal: Vec<_> = origins.iter().map(|origin| (*origin, 100)).collect();
    format!(
        "services:\n- {{name: shop, host: shop, {service}, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- name: shop\n  {}\n{}",
        upstream.replace('\n', "\n  "),
        targets(&equal)
    )
}

pub fn active(checks: &str) -> String {
    format!("healthchecks: {{active: {checks}}}")
}

pub fn passive(unhealthy: &str) -> String {
    format!("healthchecks: {{passive: {{unhealthy: {unhealthy}}}}}")
}

pub fn wait_for_health(gateway: &Gateway, origin: &Origin, state: &str) {
    let target = origin.address().to_string();
    gateway.wait_for_metric(
        "serin_target_health",
        &[("target", &target), ("state", state)],
        1.0,
    );
}

pub fn assert_health(gateway: &Gateway, origin: &Origin, state: &str) {
    let target = origin.address().to_string();
    let labels = [("target", &*target), ("state", state)];
    assert_eq!(
        gateway.metrics().sum("serin_target_health", &labels),
        Some(1.0),
        "{state}"
    );
}

/// Requests but for probes.
fn requests(origin: &Origin) -> usize {
    origin
        .received()
        .iter()
        .filter(|request| request.target != "/health")
        .count()
}

fn probes(origin: &Origin) -> usize {
    origin.count() - requests(origin)
}

fn retries(gateway: &Gateway) -> f64 {
    gateway
        .metrics()
        .sum("serin_upstream_retries_total", &[])
        .unwrap_or_default()
}

/// Clients that send one GET after the other until dropped state says stop, and what they saw.
struct Load<'a> {
    gateway: &'a Gateway,
    answered: AtomicU64,
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl<'a> Load<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        Self {
            gateway,
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Runs `during` under load and returns how many answers there were and how many were not 200.
    fn run(self, during: impl FnOnce(&Self)) -> (u64, u64) {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = self.gateway.persistent_client();
                    while !self.is_over.load(Ordering::Relaxed) {
                        let status = client
                            .try_exchange(&Request::get("/"))
                            .map(|answer| answer.status);
                        if !matches!(status, Ok(200)) {
                            self.failed.fetch_add(1, Ordering::Relaxed);
                        }
                        self.answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            during(&self);
            self.is_over.store(true, Ordering::Relaxed);
        });
        (self.answered.into_inner(), self.failed.into_inner())
    }

    /// Waits for more answers.
    fn wait_for(&self, more: u64) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        wait_until("answers under load", || {
            (self.answered.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }
}

#[test]
fn an_origin_killed_under_load_costs_no_get_and_leaves_the_rotation() {
    let (stays, mut dies) = (Origin::start("stays"), Origin::start("dies"));
    let gateway = Gateway::start(&checked("retries: 5", &active(QUICK), &[&stays, &dies]));
    let (_, failed) = Load::new(&gateway).run(|load| {
        load.wait_for(200);
        dies.refuse();
        wait_for_health(&gateway, &dies, "UNHEALTHY");
        // Whoever chose it before has tried again by now; from here on nobody does.
        load.wait_for(20);
        let before = retries(&gateway);
        load.wait_for(200);
        assert_eq!(retries(&gateway), before);
        dies.accept();
        wait_for_health(&gateway, &dies, "HEALTHY");
        let seen = requests(&dies);
        wait_until("requests at the origin that is back", || {
            (requests(&dies) > seen + 20).then_some(())
        });
    });
    assert_eq!(failed, 0, "\n{}", gateway.log_text());
    let changes = |to| {
        let target = dies.address().to_string();
        let labels = [("upstream", "shop"), ("target", &*target), ("to", to)];
        gateway
            .metrics()
            .sum("serin_target_health_changes_total", &labels)
    };
    assert_eq!((changes("unhealthy"), changes("healthy")), (Some(1.0), Some(1.0)));
    gateway.wait_for_log("is healthy: its probes succeed");
}

#[test]
fn a_flapping_origin_costs_no_get() {
    let (stays, mut flaps) = (Origin::start("stays"), Origin::start("flaps"));
    let gateway = Gateway::start(&checked("retries: 5", &active(QUICK), &[&stays, &flaps]));
    let (answered, failed) = Load::new(&gateway).run(|load| {
        for _ in 0..4 {
            flaps.refuse();
            wait_for_health(&gateway, &flaps, "UNHEALTHY");
            load.wait_for(50);
            flaps.accept();
            wait_for_health(&gateway, &flaps, "HEALTHY");
            load.wait_for(50);
        }
    });
    assert_eq!(failed, 0, "of {answered}\n{}", gateway.log_text());
}

#[test]
fn without_a_healthy_target_the_answer_is_503_on_a_kept_connection_until_one_is_back() {
    let (mut one, mut other) = (Origin::start("one"), Origin::start("other"));
    let gateway = Gateway::start(&checked("retries: 5", &active(QUICK), &[&one, &other]));
    let mut client = gateway.client();
    assert_eq!(client.get("/").status, 200);
    one.refuse();
    other.refuse();
    wait_for_health(&gateway, &one, "UNHEALTHY");
    wait_for_health(&gateway, &other, "UNHEALTHY");
    gateway.wait_for_log("answers 503: 0 of its weight of 200 is healthy");
    for _ in 0..20 {
        client.get("/").assert_own_answer(503, NO_TARGET);
    }
    let health = health_of(&gateway, "?balancer_health=1");
    assert_eq!(health["data"]["health"], "UNHEALTHY");
    other.accept();
    // The very same connection: none of the answers closed it.
    let served = wait_until("an answer", || {
        Some(client.get("/")).filter(|answer| answer.status != 503)
    });
    assert_eq!((served.status, served.text()), (200, "other".to_owned()));
    gateway.wait_for_log("upstream shop serves again");
}

#[test]
fn a_target_that_is_down_at_the_start_gets_no_request() {
    let (up, down) = (Origin::start("up"), Origin::refusing("down"));
    let checks = "{type: tcp, healthy: {interval: 60000, successes: 1}, unhealthy: {interval: 60000, tcp_failures: 3}}";
    let gateway = Gateway::start(&checked("retries: 0", &active(checks), &[&up, &down]));
    assert_health(&gateway, &down, "UNHEALTHY");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "up");
    }
    // Three failures for one, one success for the other; the next are due at a place within hours.
    let count = |outcome| {
        let labels = [("upstream", "shop"), ("outcome", outcome)];
        gateway.metrics().sum("serin_health_probes_total", &labels)
    };
    assert_eq!((count("tcp_failure"), count("success")), (Some(3.0), Some(1.0)));
}

#[test]
fn passive_checks_count_exactly() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    let gateway = Gateway::start(&checked(
        "retries: 5",
        &passive("{http_failures: 3}"),
        &[&good, &bad],
    ));
    // A status in neither list says nothing, however often.
    bad.answer(Reply::status(404));
    for _ in 0..10 {
        gateway.get("/");
    }
    bad.forget();
    bad.answer(Reply::status(503));
    // They take turns: four requests are two for each.
    for _ in 0..4 {
        gateway.get("/");
    }
    assert_eq!(bad.count(), 2);
    assert_health(&gateway, &bad, "HEALTHY");
    for _ in 0..2 {
        gateway.get("/");
    }
    wait_for_health(&gateway, &bad, "UNHEALTHY");
    bad.answer_name();
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "good");
    }
    assert_eq!(bad.count(), 3);
    gateway.wait_for_log("is out: requests were answered by a failing status");
}

#[test]
fn a_failed_try_counts_once_whatever_the_request_ends_as() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    bad.reset_before_header();
    let gateway = Gateway::start(&checked(
        "retries: 5",
        &passive("{tcp_failures: 4}"),
        &[&good, &bad],
    ));
    for _ in 0..6 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(bad.count(), 3);
    assert_health(&gateway, &bad, "HEALTHY");
    for _ in 0..2 {
        gateway.get("/");
    }
    wait_for_health(&gateway, &bad, "UNHEALTHY");
    assert_eq!(bad.count(), 4);
}

#[test]
fn timeouts_count_as_timeouts() {
    let slow = Origin::start("slow");
    slow.hold();
    let checks = passive("{tcp_failures: 1, http_failures: 1, timeouts: 2}");
    let gateway = Gateway::start(&checked("retries: 0, read_timeout: 100", &checks, &[&slow]));
    assert_eq!(gateway.exchange(&Request::post("/", "an order")).status, 504);
    assert_health(&gateway, &slow, "HEALTHY");
    assert_eq!(gateway.exchange(&Request::post("/", "an order")).status, 504);
    wait_for_health(&gateway, &slow, "UNHEALTHY");
    gateway.wait_for_log("is out: requests took too long");
    gateway.get("/").assert_own_answer(503, NO_TARGET);
}

#[test]
fn a_client_that_hangs_up_is_not_held_against_the_target() {
    let origin = Origin::start("origin");
    origin.hold();
    let checks = passive("{tcp_failures: 1, http_failures: 1, timeouts: 1}");
    let gateway = Gateway::start(&checked("retries: 0", &checks, &[&origin]));
    for count in 1..=3 {
        let mut client = gateway.client();
        client.send(Request::post("/", "an order").to_bytes());
        origin.wait_for(count);
        drop(client);
    }
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    assert_health(&gateway, &origin, "HEALTHY");
    origin.answer_name();
    assert_eq!(gateway.get("/").text(), "origin");
}

#[test]
fn what_passive_checks_took_out_is_probed_at_the_unhealthy_interval_and_comes_back() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    let checks = "healthchecks:\n  active: {http_path: /health, healthy: {interval: 3600, successes: 2}, unhealthy: {interval: 0.1, http_failures: 1}}\n  \
        passive: {unhealthy: {http_failures: 1}}";
    let gateway = Gateway::start(&checked("retries: 5", checks, &[&good, &bad]));
    // The first look; the next is an hour away.
    assert_eq!((probes(&good), probes(&bad)), (1, 1));
    bad.answer(Reply::status(500));
    gateway.get("/");
    gateway.get("/");
    wait_for_health(&gateway, &bad, "UNHEALTHY");
    bad.wait_for(2 + 5);
    assert_eq!(requests(&bad), 1);
    bad.answer_name();
    wait_for_health(&gateway, &bad, "HEALTHY");
    let seen = probes(&bad);
    for _ in 0..4 {
        gateway.get("/");
    }
    assert_eq!(requests(&bad), 3);
    assert_eq!(probes(&bad), seen);
    assert_eq!(probes(&good), 1);
}

#[test]
fn thresholds_say_how_much_must_be_left() {
    for (threshold, serves_without_one, serves_without_two) in
        [(0, true, true), (50, true, false), (100, false, false)]
    {
        let mut origins: Vec<Origin> = (0..4).map(|number| Origin::start(&number.to_string())).collect();
        let checks = format!("healthchecks: {{threshold: {threshold}, active: {QUICK}}}");
        let all: Vec<&Origin> = origins.iter().collect();
        let gateway = Gateway::start(&checked("retries: 0", &checks, &all));
        let serves = || match gateway.get("/").status {
            200 => true,
            503 => false,
            other => panic!("{other}"),
        };
        assert!(serves(), "threshold {threshold}");
        origins[0].refuse();
        wait_for_health(&gateway, &origins[0], "UNHEALTHY");
        assert_eq!(serves(), serves_without_one, "threshold {threshold}, one down");
        origins[1].refuse();
        wait_for_health(&gateway, &origins[1], "UNHEALTHY");
        assert_eq!(serves(), serves_without_two, "threshold {threshold}, two down");
        origins[0].accept();
        origins[1].accept();
        wait_until("an answer", || serves().then_some(()));
    }
}

#[test]
fn no_reload_resets_health() {
    let (good, bad, added) = (
        Origin::start("good"),
        Origin::start("bad"),
        Origin::start("added"),
    );
    let checks = passive("{http_failures: 1}");
    let gateway = Gateway::start(&checked("retries: 5", &checks, &[&good, &bad]));
    bad.answer(Reply::status(500));
    gateway.get("/");
    gateway.get("/");
    wait_for_health(&gateway, &bad, "UNHEALTHY");
    bad.answer_name();
    let served = |gateway: &Gateway| {
        bad.forget();
        for _ in 0..10 {
            assert_eq!(gateway.get("/").status, 200);
        }
        bad.count()
    };
    // Another weight, another Target, other checks.
    gateway.apply(&checked("retries: 5", &checks, &[&good, &bad]).replace("weight: 100", "weight: 7"));
    assert_eq!(served(&gateway), 0);
    gateway.apply(&checked("retries: 5", &checks, &[&good, &bad, &added]));
    assert_eq!(served(&gateway), 0);
    let other_checks = passive("{http_failures: 2, timeouts: 1}");
    gateway.apply(&checked("retries: 4", &other_checks, &[&added, &bad, &good]));
    assert_eq!(served(&gateway), 0);
    assert_health(&gateway, &bad, "UNHEALTHY");
    // Taken out and put back.
    gateway.apply(&checked("retries: 4", &other_checks, &[&good]));
    gateway.apply(&checked("retries: 4", &other_checks, &[&good, &bad]));
    assert_eq!(served(&gateway), 0);
    // Without checks every Target is taken as it is; and later checks begin anew.
    gateway.apply(&checked("retries: 4", "slots: 100", &[&good, &bad]));
    assert_eq!(served(&gateway), 5);
    assert_health(&gateway, &bad, "HEALTHCHECKS_OFF");
    gateway.apply(&checked("retries: 4", &checks, &[&good, &bad]));
    assert_eq!(served(&gateway), 5);
    assert_health(&gateway, &bad, "HEALTHY");
}

#[test]
fn probes_follow_a_reload() {
    let (first, second) = (Origin::start("first"), Origin::start("second"));
    let gateway = Gateway::start(&checked("retries: 0", &active(QUICK), &[&first]));
    first.wait_for(3);
    gateway.apply(&checked(
        "retries: 0",
        &active(&QUICK.replace("/health", "/other")),
        &[&second],
    ));
    second.wait_for(3);
    assert!(second.received().iter().all(|probe| probe.target == "/other"));
    // One may have been on its way.
    let seen = first.count();
    second.wait_for(13);
    assert!(first.count() <= seen + 1);
    gateway.apply(&checked("retries: 0", "slots: 100", &[&second]));
    let seen = second.count();
    for _ in 0..20 {
        gateway.get("/");
    }
    assert!(second.count() <= seen + 21);
}

#[test]
fn a_probe_asks_what_it_is_told_to_ask() {
    let (plain, named) = (Origin::start("plain"), Origin::start("named"));
    let checks = "{http_path: \"/ready/deep\", healthy: {interval: 3600}, headers: {X-Token: [a, b], User-Agent: [probe]}}";
    let _gateway = Gateway::start(&checked("retries: 0", &active(checks), &[&plain]));
    let probe = plain.only();
    assert_eq!((&*probe.method, &*probe.target), ("GET", "/ready/deep"));
    assert_eq!(probe.header("Host"), Some("127.0.0.1"));
    assert_eq!(probe.headers.all("X-Token"), ["a", "b"]);
    assert_eq!(probe.header("User-Agent"), Some("probe"));
    assert_eq!(probe.header("Connection"), Some("close"));
    assert_eq!(probe.body, b"");

    let checks = format!(
        "host_header: shop.internal:8080\n{}",
        active("{healthy: {interval: 3600}}")
    );
    let _gateway = Gateway::start(&checked("retries: 0", &checks, &[&named]));
    let probe = named.only();
    assert_eq!(
        (&*probe.target, probe.header("Host")),
        ("/", Some("shop.internal:8080"))
    );
    assert!(probe.header("User-Agent").unwrap().starts_with("serin/"));
}

#[test]
fn a_probe_ends_in_time_whatever_the_target_does() {
    let (hangs, streams, speaks_no_tls) = (
        Origin::start("hangs"),
        Origin::start("streams"),
        Origin::start("plain"),
    );
    hangs.hold();
    streams.stream();
    let checks =
        "{timeout: 0.2, healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, timeouts: 1}}";
    let started = now();
    let gateway = Gateway::start(&checked("retries: 0", &active(checks), &[&hangs, &streams]));
    assert_health(&gateway, &hangs, "UNHEALTHY");
    gateway.wait_for_log("is out: its probes took too long");
    // The header is enough: the body that never ends is not waited for.
    assert_health(&gateway, &streams, "HEALTHY");
    streams.wait_for(5);
    assert_health(&gateway, &streams, "HEALTHY");
    assert!(now() - started < HANG_LIMIT);
    drop(gateway);

    // A probe by TLS says nothing in the clear; what this origin takes it for is its affair.
    let checks =
        "{type: https, timeout: 0.2, healthy: {interval: 60}, unhealthy: {tcp_failures: 1, timeouts: 1}}";
    let gateway = Gateway::start(&checked("retries: 0", &active(checks), &[&speaks_no_tls]));
    assert_health(&gateway, &speaks_no_tls, "UNHEALTHY");
    assert!(speaks_no_tls.received().iter().all(|probe| probe.method != "GET"));
}

#[test]
fn a_target_of_weight_0_is_neither_probed_nor_judged() {
    let (used, idle) = (Origin::start("used"), Origin::start("idle"));
    let config = checked("retries: 0", &active(QUICK), &[&used, &idle]);
    let idle_target = format!("{}\", weight: ", idle.address());
    let gateway = Gateway::start(&config.replace(&format!("{idle_target}100"), &format!("{idle_target}0")));
    used.wait_for(5);
    assert_eq!(idle.count(), 0);
    assert_health(&gateway, &idle, "HEALTHCHECKS_OFF");
    gateway.apply(&config);
    idle.wait_for(3);
    assert_health(&gateway, &idle, "HEALTHY");
}

fn health_of(gateway: &Gateway, query: &str) -> Value {
    let response = gateway.get_status(&format!("/upstreams/shop/health{query}"));
    assert_eq!(response.status, 200);
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn the_status_address_shows_health_in_kongs_shape() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    let gateway = Gateway::start(&checked(
        "retries: 5",
        &passive("{http_failures: 1}"),
        &[&good, &bad],
    ));
    bad.answer(Reply::status(500));
    gateway.get("/");
    gateway.get("/");
    wait_for_health(&gateway, &bad, "UNHEALTHY");
    let health = health_of(&gateway, "");
    assert_eq!(health["next"], Value::Null);
    assert!(health["node_id"].is_string());
    let shown: Vec<_> = health["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| {
            (
                target["target"].as_str().unwrap(),
                target["health"].as_str().unwrap(),
            )
        })
        .collect();
    let (good_label, bad_label) = (good.address().to_string(), bad.address().to_string());
    assert_eq!(shown, [(&*good_label, "HEALTHY"), (&*bad_label, "UNHEALTHY")]);
    let data = &health["data"][1]["data"];
    assert_eq!(
        (&data["host"], &data["port"]),
        (&"127.0.0.1".into(), &bad.address().port().into())
    );
    assert_eq!(
        data["weight"],
        serde_json::json!({"total": 100, "available": 0, "unavailable": 100})
    );
    assert_eq!(data["addresses"][0]["health"], "UNHEALTHY");

    let balancer = &health_of(&gateway, "?balancer_health=1")["data"];
    assert_eq!(balancer["balancer_health"], "HEALTHY");
    assert_eq!(balancer["details"]["weight"]["available"], 100);

    assert_eq!(gateway.get_status("/upstreams/nobody/health").status, 404);
    // By id, too.
    let id = balancer["id"].as_str().unwrap();
    assert_eq!(gateway.get_status(&format!("/upstreams/{id}/health")).status, 200);
}

#[test]
fn a_slow_start_is_asked_for_by_a_tag() {
    let (stays, mut returns) = (Origin::start("stays"), Origin::start("returns"));
    let checks = format!("tags: [blue, \"serin:slow_start=1h\"]\n{}", active(QUICK));
    let gateway = Gateway::start(&checked("retries: 5", &checks, &[&stays, &returns]));
    let share = |returns: &Origin| {
        stays.forget();
        returns.forget();
        let mut client = gateway.client();
        for _ in 0..110 {
            assert_eq!(client.get("/").status, 200);
        }
        (requests(&stays), requests(returns))
    };
    assert_eq!(share(&returns), (55, 55));
    returns.refuse();
    wait_for_health(&gateway, &returns, "UNHEALTHY");
    returns.accept();
    wait_for_health(&gateway, &returns, "HEALTHY");
    // 100 to 10. A per cent more takes 40 s.
    assert_eq!(share(&returns), (100, 10));
}
