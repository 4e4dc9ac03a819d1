//! What follows a failed try. Every request is counted at the origins: one too many is as wrong as
//! an error.

use crate::harness::{Gateway, Origin, Reply, Request, targets};

const BAD_GATEWAY: &str = "An invalid response was received from the upstream server";
const TIMED_OUT: &str = "The upstream server is timing out";

/// A Service with these fields, on Targets of equal weight, which take turns in this order if their
/// ports ascend.
fn service(fields: &str, origins: &[&Origin]) -> String {
    let equal: Vec<_> = origins.iter().map(|origin| (*origin, 1)).collect();
    format!(
        "services:\n- {{name: shop, host: shop, {fields}, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- name: shop\n{}",
        targets(&equal)
    )
}

fn post(gateway: &Gateway) -> crate::harness::Response {
    gateway.exchange(&Request::post("/", "an order"))
}

#[test]
fn a_refused_connection_goes_on_to_another_target_for_any_method() {
    let (alive, dead) = (Origin::start("alive"), Origin::refusing("dead"));
    let gateway = Gateway::start(&service("retries: 5", &[&alive, &dead]));
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for _ in 0..2 {
            let mut request = Request::post("/", "an order");
            if method != "POST" {
                request = Request::new(method, "/");
            }
            assert_eq!(gateway.exchange(&request).text(), "alive", "{method}");
        }
    }
    assert_eq!(alive.count(), 12);
    let orders = alive.received();
    let orders = orders.iter().filter(|request| request.method == "POST");
    assert_eq!(orders.map(|order| order.body.len()).collect::<Vec<_>>(), [8, 8]);
    // One of two Targets refuses, so of twelve first picks six were followed by another.
    gateway.wait_for_metric(
        "serin_upstream_retries_total",
        &[("service", "shop"), ("reason", "connect")],
        6.0,
    );
}

#[test]
fn a_reset_before_the_header_is_tried_again_for_get_only() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    bad.reset_before_header();
    let gateway = Gateway::start(&service("retries: 5", &[&good, &bad]));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "good");
    }
    assert_eq!((good.count(), bad.count()), (10, 5));

    let statuses: Vec<_> = (0..10).map(|_| post(&gateway).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5);
    assert_eq!((good.count(), bad.count()), (15, 10));
}

#[test]
fn a_post_that_reached_an_origin_is_answered_502_and_not_repeated() {
    let (bad, other) = (Origin::start("bad"), Origin::start("other"));
    bad.reset_before_header();
    other.reset_before_header();
    let gateway = Gateway::start(&service("retries: 5", &[&bad, &other]));
    post(&gateway).assert_own_answer(502, BAD_GATEWAY);
    assert_eq!(bad.count() + other.count(), 1);
}

/// Both origins hold four orders when one of them dies.
#[test]
fn posts_in_flight_at_a_kill_fail_and_no_origin_sees_one_twice() {
    let (mut dies, stays) = (Origin::start("dies"), Origin::start("stays"));
    dies.hold();
    stays.hold();
    let gateway = Gateway::start(&service("retries: 5", &[&dies, &stays]));
    let order = |number: usize| Request::post("/", "an order").header("X-Order", &number.to_string());
    let mut clients: Vec<_> = (0..8).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(order(number).to_bytes());
    }
    dies.wait_for(4);
    stays.wait_for(4);
    dies.refuse();
    stays.answer_name();
    let mut statuses: Vec<_> = clients.iter_mut().map(|client| client.receive().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 502, 502, 502, 502]);
    // Those that follow meet a refused connection, so that nothing of them has gone anywhere.
    for number in 8..12 {
        assert_eq!(gateway.exchange(&order(number)).text(), "stays");
    }
    let received = [dies.received(), stays.received()].concat();
    let mut orders: Vec<usize> = received
        .iter()
        .map(|one| one.header("X-Order").unwrap().parse().unwrap())
        .collect();
    orders.sort_unstable();
    assert_eq!(orders, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_target_that_takes_too_long_is_left_for_another_by_get_and_reported_504_for_post() {
    let (slow, quick) = (Origin::start("slow"), Origin::start("quick"));
    slow.hold();
    let gateway = Gateway::start(&service("retries: 5, read_timeout: 500", &[&slow, &quick]));
    for _ in 0..2 {
        assert_eq!(gateway.get("/").text(), "quick");
    }
    assert_eq!((slow.count(), quick.count()), (1, 2));

    let responses = [post(&gateway), post(&gateway)];
    let timed_out = responses.iter().find(|response| response.status != 200).unwrap();
    timed_out.assert_own_answer(504, TIMED_OUT);
    assert_eq!((slow.count(), quick.count()), (2, 3));
}

#[test]
fn a_target_that_does_not_take_the_connection_is_left_for_another_by_any_method() {
    let (full, quick) = (Origin::unreachable("full"), Origin::start("quick"));
    let gateway = Gateway::start(&service("connect_timeout: 500", &[&full, &quick]));
    for _ in 0..2 {
        assert_eq!(gateway.get("/").text(), "quick");
        assert_eq!(post(&gateway).text(), "quick");
    }
    gateway.wait_for_metric(
        "serin_upstream_retries_total",
        &[("service", "shop"), ("reason", "timeout")],
        2.0,
    );
    gateway.apply(&service("connect_timeout: 500", &[&full]));
    gateway.get("/").assert_own_answer(504, TIMED_OUT);
}

#[test]
fn an_answer_that_is_no_http_is_a_502_and_not_asked_for_again() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    for origin in [&a, &b] {
        origin.answer_bytes("no header at all\r\n\r\n");
    }
    let gateway = Gateway::start(&service("retries: 5", &[&a, &b]));
    gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn when_every_target_takes_too_long_the_answer_is_504() {
    let origins = [Origin::start("a"), Origin::start("b")];
    origins.iter().for_each(Origin::hold);
    let gateway = Gateway::start(&service(
        "retries: 5, read_timeout: 500",
        &[&origins[0], &origins[1]],
    ));
    gateway.get("/").assert_own_answer(504, TIMED_OUT);
    assert_eq!(origins.each_ref().map(Origin::count), [1, 1]);
}

#[test]
fn no_target_is_tried_twice_however_many_retries_are_allowed() {
    let origins = ["a", "b", "c"].map(Origin::start);
    for origin in &origins {
        origin.reset_before_header();
    }
    let gateway = Gateway::start(&service("retries: 100", &origins.each_ref()));
    for round in 1..=5 {
        gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
        assert_eq!(origins.each_ref().map(Origin::count), [round; 3]);
    }
}

#[test]
fn retries_bound_the_further_tries() {
    let origins = ["a", "b", "c", "d"].map(Origin::start);
    for origin in &origins {
        origin.reset_before_header();
    }
    let seen = || origins.iter().map(Origin::count).sum::<usize>();
    let config = |retries: u16| service(&format!("retries: {retries}"), &origins.each_ref());
    let gateway = Gateway::start(&config(0));
    gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
    assert_eq!(seen(), 1);
    for retries in 1..=3 {
        gateway.apply(&config(retries));
        origins.iter().for_each(Origin::forget);
        gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
        assert_eq!(seen(), usize::from(retries) + 1);
    }
}

#[test]
fn when_every_target_refuses_the_answer_is_502() {
    let (a, b) = (Origin::refusing("a"), Origin::refusing("b"));
    let gateway = Gateway::start(&service("retries: 5", &[&a, &b]));
    gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
    post(&gateway).assert_own_answer(502, BAD_GATEWAY);
}

#[test]
fn a_target_that_comes_back_is_used_again() {
    let mut origin = Origin::refusing("a");
    let gateway = Gateway::start(&service("retries: 5", &[&origin]));
    assert_eq!(gateway.get("/").status, 502);
    origin.accept();
    assert_eq!(gateway.get("/").text(), "a");
    origin.refuse();
    assert_eq!(gateway.get("/").status, 502);
}

#[test]
fn connections_to_targets_are_kept_and_shared() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&service("retries: 5", &[&origin]));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "a");
    }
    assert_eq!((origin.count(), origin.connections()), (10, 1));
}

/// One origin closes each kept connection just as the next request comes on it. The client must not
/// see it, and it is no reason to go to another target or to use up a try: with `retries: 0` and
/// equal weights both origins still answer every other request.
#[test]
fn a_kept_connection_that_the_origin_closed_meanwhile_is_no_error_for_get() {
    let (closing, keeping) = (Origin::start("closing"), Origin::start("keeping"));
    closing.close_reused();
    let gateway = Gateway::start(&service("retries: 0", &[&closing, &keeping]));
    let mut client = gateway.client();
    let answers: Vec<_> = (0..10).map(|_| client.get("/").text()).collect();
    let turns: Vec<_> = answers.chunks(2).map(<[_]>::to_vec).collect();
    assert_eq!(turns, vec![turns[0].clone(); 5], "the targets take turns");
    assert_ne!(turns[0][0], turns[0][1]);
    // Each request but the first came twice: on the kept connection and on a new one.
    assert_eq!((closing.count(), keeping.count()), (9, 5));
    assert_eq!(
        gateway
            .metrics()
            .sum("serin_upstream_retries_total", &[("service", "shop")]),
        None
    );
}

#[test]
fn a_kept_connection_that_was_closed_while_idle_is_replaced_unnoticed() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&service("retries: 0", &[&origin]));
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
        origin.close_connections();
    }
}

#[test]
fn once_the_header_is_out_a_reset_is_passed_on_and_nothing_is_repeated() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.reset_after_header();
    b.reset_after_header();
    let gateway = Gateway::start(&service("retries: 5", &[&a, &b]));
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    let (status, headers) = client.receive_head();
    assert_eq!((status, headers.get("Content-Length")), (200, Some("1000")));
    let rest = client.read_to_end();
    assert!(b"part".starts_with(&rest), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn an_error_status_is_an_answer_and_not_a_reason_to_try_again() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.answer(Reply::status(503).body("busy"));
    b.answer(Reply::status(503).body("busy"));
    let gateway = Gateway::start(&service("retries: 5", &[&a, &b]));
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn a_body_larger_than_can_be_kept_is_not_sent_twice() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.reset_before_header();
    b.reset_before_header();
    let gateway = Gateway::start(&service("retries: 5", &[&a, &b]));
    let body = "x".repeat(200_000);
    let put = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = gateway.client();
    client.send(put);
    client.receive().assert_own_answer(502, BAD_GATEWAY);
    assert_eq!(a.count() + b.count(), 1);
}

#[test]
fn a_put_with_a_small_body_is_sent_again_whole() {
    let (good, bad) = (Origin::start("good"), Origin::start("bad"));
    bad.reset_before_header();
    let gateway = Gateway::start(&service("retries: 5", &[&good, &bad]));
    let body = "y".repeat(40_000);
    let put = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..2 {
        let mut client = gateway.client();
        client.send(&put);
        assert_eq!(client.receive().text(), "good");
    }
    assert_eq!((good.count(), bad.count()), (2, 1));
    for request in good.received() {
        assert_eq!(request.body, body.as_bytes());
    }
}

#[test]
fn host_follows_the_target_of_each_try() {
    let origins = ["a", "b", "c"].map(Origin::start);
    for origin in &origins {
        origin.reset_before_header();
    }
    let gateway = Gateway::start(&service("retries: 5", &origins.each_ref()));
    assert_eq!(gateway.get("/").status, 502);
    for origin in &origins {
        assert_eq!(origin.only().header("Host"), Some(&*origin.address().to_string()));
    }
}

/// Least connections, so that who is asked next is known: idle targets in the order of the file,
/// then the one that holds requests.
fn budget(retries: &str, origins: &[&Origin]) -> String {
    let algorithm = "- name: shop\n  algorithm: least-connections\n";
    let config = service("retries: 5", origins).replace("- name: shop\n", algorithm);
    format!("server:\n  retries: {retries}\n{config}")
}

fn wait_for_denied(gateway: &Gateway, count: f64) {
    gateway.wait_for_metric(
        "serin_upstream_retries_denied_total",
        &[("service", "shop")],
        count,
    );
}

#[test]
fn the_first_retry_needs_no_budget() {
    let origins = ["a", "b", "c"].map(Origin::start);
    for origin in &origins {
        origin.reset_before_header();
    }
    let config = budget("{budget_percent: 0, min_concurrent: 0}", &origins.each_ref());
    let gateway = Gateway::start(&config);
    for round in 1..=5 {
        gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
        assert_eq!(origins.iter().map(Origin::count).sum::<usize>(), 2 * round);
    }
    wait_for_denied(&gateway, 5.0);
}

/// The first request is on its second retry, held by the last origin. A second one finds the two idle
/// ones broken too, and may go on only if the budget has room for both.
#[test]
fn further_retries_share_a_budget_and_give_it_back() {
    let [a, b, holder] = ["a", "b", "holder"].map(Origin::start);
    a.reset_before_header();
    b.reset_before_header();
    holder.hold();
    let config = |retries: &str| budget(retries, &[&a, &b, &holder]);
    let gateway = Gateway::start(&config("{budget_percent: 0, min_concurrent: 1}"));
    let mut first = gateway.client();
    first.send(Request::get("/").to_bytes());
    holder.wait_for(1);
    assert_eq!((a.count(), b.count()), (1, 1));

    gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
    assert_eq!((a.count(), b.count(), holder.count()), (2, 2, 1));
    wait_for_denied(&gateway, 1.0);

    // Half of the requests in flight, which are two while the second one is at its last try.
    gateway.apply(&config("{budget_percent: 50, min_concurrent: 0}"));
    gateway.get("/").assert_own_answer(502, BAD_GATEWAY);
    wait_for_denied(&gateway, 2.0);
    gateway.apply(&config("{budget_percent: 100, min_concurrent: 0}"));
    let mut second = gateway.client();
    second.send(Request::get("/").to_bytes());
    holder.wait_for(2);

    holder.answer_name();
    assert_eq!(first.receive().text(), "holder");
    assert_eq!(second.receive().text(), "holder");
    gateway.apply(&config("{budget_percent: 0, min_concurrent: 1}"));
    for _ in 0..6 {
        assert_eq!(gateway.get("/").text(), "holder");
    }
    wait_for_denied(&gateway, 2.0);
}
