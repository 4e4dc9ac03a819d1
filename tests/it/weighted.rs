//! Weighted round robin: shares are counted, by what the origins received, and must be exact.

use crate::harness::{Gateway, Origin, Received, Request, shop, targets};

/// Sends GETs one after the other on one connection and returns who answered.
fn answers(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut client = gateway.client();
    (0..count).map(|_| client.get("/").text()).collect()
}

#[test]
fn any_hundred_requests_in_a_row_are_split_99_to_1() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 99), (&b, 1)]));
    let seen = answers(&gateway, 500);
    for (start, hundred) in seen.windows(100).enumerate() {
        let light = hundred.iter().filter(|name| *name == "b").count();
        assert_eq!(light, 1, "in the hundred from request {start}");
    }
    assert_eq!((a.count(), b.count()), (495, 5));
    // Neither the first nor the last of the cycle, where a naive order puts it.
    let place = seen.iter().position(|name| name == "b").unwrap();
    assert!((10..90).contains(&place), "the light one is at {place}");
}

#[test]
fn shares_are_exact_over_two_workers_and_eight_connections() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let config = format!("server:\n  threads: 2\n{}", shop(&[(&a, 99), (&b, 1)]));
    let gateway = Gateway::start(&config);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| answers(&gateway, 250));
        }
    });
    assert_eq!((a.count(), b.count()), (1980, 20));
}

#[test]
fn weight_zero_is_never_picked_not_even_by_a_retry() {
    let (alive, out) = (Origin::start("alive"), Origin::start("out"));
    let dead = Origin::refusing("dead");
    let gateway = Gateway::start(&shop(&[(&dead, 100), (&alive, 1), (&out, 0)]));
    assert_eq!(answers(&gateway, 202), vec!["alive"; 202]);
    gateway.apply(&shop(&[(&dead, 100), (&out, 0)]));
    let response = gateway.get("/");
    response.assert_own_answer(502, "An invalid response was received from the upstream server");
    assert_eq!(out.count(), 0);
}

#[test]
fn weight_zero_is_on_no_ring() {
    let (a, out) = (Origin::start("a"), Origin::start("out"));
    let mut dead = Origin::start("dead");
    let ring = "  hash_on: header\n  hash_on_header: x-user\n";
    let gateway = Gateway::start(&(shop(&[(&a, 100), (&dead, 100), (&out, 0)]) + ring));
    let mut client = gateway.client();
    let mut everybody = || {
        for user in 0..100 {
            let response = client.exchange(&Request::get("/").header("X-User", &user.to_string()));
            assert_eq!(response.status, 200);
        }
    };
    everybody();
    dead.refuse();
    everybody();
    assert_eq!(out.count(), 0);
    assert_eq!(a.count() + dead.count(), 200);
}

/// `localhost` and `127.0.0.1` are two Targets on one address (and the former may have another one in
/// IPv6). A request that fails there is not tried there again under the other name.
#[test]
fn targets_on_one_address_are_one_choice_with_both_weights() {
    let [twice, six] = Origin::start_on_localhost("twice");
    let once = Origin::start("once");
    let port = twice.address().port();
    let config = format!(
        "{}  - {{target: \"localhost:{port}\", weight: 30}}\n",
        shop(&[(&twice, 30), (&once, 20)])
    );
    let gateway = Gateway::start(&config);
    // Whole cycles, whether they have 8 picks or, with IPv6, 11.
    answers(&gateway, 88);
    assert_eq!(twice.count(), 3 * once.count());

    // Another gateway, which has no kept connection that a reset could be the end of.
    let gateway = Gateway::start(&config);
    twice.forget();
    twice.reset_before_header();
    six.reset_before_header();
    assert_eq!(answers(&gateway, 88), vec!["once"; 88]);
    let ids = |request: Received| request.header("X-Kong-Request-Id").unwrap().to_owned();
    let mut ids: Vec<_> = twice.received().into_iter().map(ids).collect();
    ids.sort_unstable();
    let tries = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), tries, "each request was tried there once");
    assert!(tries > 0);
}

#[test]
fn an_upstream_without_targets_is_a_503_and_the_connection_serves_on() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&shop(&[]));
    let mut client = gateway.client();
    let mut check = || {
        for request in [Request::get("/"), Request::post("/", "not read by anybody")] {
            let response = client.exchange(&request);
            response.assert_own_answer(503, "failure to get a peer from the ring-balancer");
        }
    };
    check();
    gateway.apply(&shop(&[(&origin, 0)]));
    check();
    gateway.apply(&shop(&[(&origin, 1)]));
    assert_eq!(gateway.get("/").text(), "a");
    gateway.apply(&shop(&[]));
    check();
    assert_eq!(origin.count(), 1);
}

/// With equal weights two targets take turns. Were the counter set back by each edit, every single
/// request between two edits would go to the first target.
#[test]
fn an_edit_of_weights_goes_on_where_the_round_robin_was() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1), (&b, 1)]));
    let mut client = gateway.client();
    for weight in 2..=9 {
        assert_eq!(client.get("/").status, 200);
        gateway.apply(&shop(&[(&a, weight), (&b, weight)]));
    }
    assert_eq!((a.count(), b.count()), (4, 4));
}

/// A reload of something else does not touch the round robin either.
#[test]
fn an_edit_of_another_upstream_leaves_the_round_robin_alone() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let other = |weight| format!("- name: other\n{}", targets(&[(&a, weight)]));
    let config = |weight| shop(&[(&a, 3), (&b, 1)]) + &other(weight);
    let gateway = Gateway::start(&config(1));
    let mut seen = Vec::new();
    for weight in 2..=13 {
        seen.push(gateway.get("/").text());
        gateway.apply(&config(weight));
    }
    for window in seen.windows(4) {
        let light = window.iter().filter(|name| *name == "b").count();
        assert_eq!(light, 1, "{seen:?}");
    }
}
