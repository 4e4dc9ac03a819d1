//! The plugin `canary`: who gets the new release, where it is, and what happens when it cannot serve.
//! Counted by what the two origins received.

use crate::harness::{DEBUG, Gateway, Origin, Reply, Request, canary, wait_until};

/// Consumers `user-0` to `user-N`, with the keys `key-0` to `key-N`.
fn users(count: usize) -> String {
    let mut text = "consumers:\n".to_owned();
    for user in 0..count {
        text += &format!("- {{username: user-{user}, keyauth_credentials: [{{key: key-{user}}}]}}\n");
    }
    text
}

fn pair() -> (Origin, Origin) {
    (Origin::start("stable"), Origin::start("canary"))
}

/// Who answers each of the users, by number.
fn answers_to_users(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut client = gateway.client();
    (0..count)
        .map(|user| {
            client
                .exchange(&Request::get("/").header("apikey", &format!("key-{user}")))
                .text()
        })
        .collect()
}

fn with_key_auth(config: &str) -> String {
    config.replace("plugins: [", "plugins: [{name: key-auth}, ")
}

#[test]
fn of_each_thousand_requests_at_one_percent_ten_are_the_canarys() {
    let (stable, trial) = pair();
    let config = canary(&stable, &trial, "percentage: 1, hash: none");
    let gateway = Gateway::start(&format!("server:\n  threads: 2\n{config}"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..500 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });
    assert_eq!((stable.count(), trial.count()), (1980, 20));
    let mut client = gateway.client();
    let answers: Vec<String> = (0..1000).map(|_| client.get("/").text()).collect();
    for hundred in answers.chunks(100) {
        assert_eq!(hundred.iter().filter(|name| *name == "canary").count(), 1);
    }
    gateway.wait_for_metric(
        "serin_release_requests_total",
        &[("service", "shop"), ("variant", "canary"), ("reason", "share")],
        30.0,
    );
    gateway.wait_for_metric(
        "serin_release_requests_total",
        &[("service", "shop"), ("variant", "stable"), ("reason", "share")],
        2970.0,
    );
    gateway.wait_for_metric(
        "serin_release_share_ratio",
        &[("service", "shop"), ("route", "")],
        0.01,
    );
    gateway.wait_for_metric(
        "serin_http_request_duration_seconds_count",
        &[("service", "shop"), ("variant", "canary")],
        30.0,
    );
}

/// A Consumer is in one bucket for good, so whoever is on the canary at one share is there at every
/// larger one, and another release is tried on others.
#[test]
fn a_consumer_keeps_its_release_and_larger_shares_take_in_more() {
    const USERS: usize = 300;
    let (stable, trial) = pair();
    let config = |share: &str| with_key_auth(&canary(&stable, &trial, share)) + &users(USERS);
    let gateway = Gateway::start(&config("percentage: 0"));
    let mut before = answers_to_users(&gateway, USERS);
    assert!(before.iter().all(|name| name == "stable"));
    for share in ["10", "50", "99.99", "100"] {
        gateway.apply(&config(&format!("percentage: {share}")));
        let now = answers_to_users(&gateway, USERS);
        assert_eq!(
            now,
            answers_to_users(&gateway, USERS),
            "at {share}: the same again"
        );
        for (user, (before, now)) in before.iter().zip(&now).enumerate() {
            assert!(
                before == "stable" || now == "canary",
                "user {user} went back at {share}"
            );
        }
        before = now;
    }
    assert!(before.iter().all(|name| name == "canary"));
    // 30 of 300 expected, with a standard deviation of 5.2.
    let tenth = |salt: &str| {
        gateway.apply(&config(&format!("percentage: 10, salt: {salt}")));
        let on_it = answers_to_users(&gateway, USERS);
        let count = on_it.iter().filter(|name| *name == "canary").count();
        assert!((15..=45).contains(&count), "{count}");
        on_it
    };
    let first = tenth("a");
    assert_ne!(tenth("b"), first);
    assert_eq!(tenth("a"), first);
}

#[test]
fn a_consumer_keeps_its_release_over_a_restart_and_on_another_node() {
    const USERS: usize = 100;
    let (stable, trial) = pair();
    let config = with_key_auth(&canary(&stable, &trial, "percentage: 30")) + &users(USERS);
    let first = Gateway::start(&config);
    let answers = answers_to_users(&first, USERS);
    drop(first);
    assert_eq!(answers_to_users(&Gateway::start(&config), USERS), answers);
}

#[test]
fn groups_are_let_in_or_kept_out() {
    let (stable, trial) = pair();
    let consumers = r#"consumers:
- {username: alice, keyauth_credentials: [{key: alice}], acls: [{group: testers}]}
- {username: bob, keyauth_credentials: [{key: bob}], consumer_groups: [gold]}
- {username: carol, keyauth_credentials: [{key: carol}]}
consumer_groups: [{name: gold}]
"#;
    let config = |fields: &str| with_key_auth(&canary(&stable, &trial, fields)) + consumers;
    let gateway = Gateway::start(&config("hash: allow, groups: [testers]"));
    let mut client = gateway.client();
    let mut answers = |expected: [&str; 3]| {
        let names = ["alice", "bob", "carol"];
        let found = names.map(|key| client.exchange(&Request::get("/").header("apikey", key)).text());
        assert_eq!(found, expected);
    };
    answers(["canary", "stable", "stable"]);
    gateway.apply(&config("hash: allow, groups: [testers, gold]"));
    answers(["canary", "canary", "stable"]);
    gateway.apply(&config("hash: deny, groups: [gold]"));
    answers(["canary", "stable", "canary"]);
    // Testers, then a share of everybody, then everybody: one field changed each time.
    gateway.apply(&config(
        "groups: [testers], groups_then_percentage: true, percentage: 0",
    ));
    answers(["canary", "stable", "stable"]);
    gateway.apply(&config(
        "groups: [testers], groups_then_percentage: true, percentage: 100",
    ));
    answers(["canary", "canary", "canary"]);
    gateway.wait_for_metric(
        "serin_release_requests_total",
        &[("variant", "canary"), ("reason", "group")],
        1.0 + 2.0 + 2.0 + 1.0 + 1.0,
    );
}

#[test]
fn clients_choose_by_header_if_it_says_always_or_never() {
    let (stable, trial) = pair();
    let config = |share: u32| {
        let fields = format!("percentage: {share}, canary_by_header_name: X-Canary");
        DEBUG.to_owned() + &canary(&stable, &trial, &fields)
    };
    let gateway = Gateway::start(&config(0));
    let answer = |value: &str| {
        gateway
            .exchange(&Request::get("/").header("X-Canary", value))
            .text()
    };
    assert_eq!(answer("always"), "canary");
    for ignored in ["never", "Always", "true", "1", ""] {
        assert_eq!(answer(ignored), "stable", "{ignored}");
    }
    gateway.apply(&config(100));
    assert_eq!(answer("never"), "stable");
    for ignored in ["always", "Never", "no", ""] {
        assert_eq!(answer(ignored), "canary", "{ignored}");
    }
    let request = Request::get("/")
        .header("X-Canary", "never")
        .header("X-Serin-Debug", "1");
    let response = gateway.exchange(&request);
    assert_eq!(response.header("X-Serin-Variant"), Some("stable"));
    assert_eq!(response.header("X-Serin-Reason"), Some("override"));
}

/// An operator may tell everybody which variant served; by default nobody is told.
#[test]
fn the_variant_is_in_the_answer_when_the_operator_says_so() {
    let (stable, trial) = pair();
    let config = canary(&stable, &trial, "percentage: 100");
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/").header("X-Serin-Variant"), None);
    assert_eq!(
        gateway
            .exchange(&Request::get("/").header("X-Serin-Debug", "1"))
            .header("X-Serin-Variant"),
        None,
        "from a peer that is not trusted"
    );
    gateway.apply(&format!("server:\n  variant_header: true\n{config}"));
    let response = gateway.get("/");
    assert_eq!(response.header("X-Serin-Variant"), Some("canary"));
    assert_eq!(response.header("X-Serin-Reason"), None);
}

#[test]
fn the_log_says_which_variant_served_and_why() {
    let (stable, trial) = pair();
    let config = canary(
        &stable,
        &trial,
        "percentage: 100, canary_by_header_name: x-canary",
    );
    let gateway = Gateway::start(&config);
    gateway.get("/");
    gateway.exchange(&Request::get("/").header("X-Canary", "never"));
    let lines = gateway.wait_for_lines("stdout", 2);
    let fields = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        ["variant", "reason", "upstream", "target"].map(|name| line[name].as_str().unwrap().to_owned())
    };
    let target = |origin: &Origin| origin.address().to_string();
    assert_eq!(fields(&lines[0]), ["canary", "share", "canary", &target(&trial)]);
    assert_eq!(
        fields(&lines[1]),
        ["stable", "override", "stable", &target(&stable)]
    );
}

/// The canary may be another path, another port, or another host, each by itself.
#[test]
fn the_canary_is_where_its_fields_say() {
    let (stable, trial) = pair();
    let direct = |fields: &str| {
        format!(
            r#"services:
- name: shop
  url: http://127.0.0.1:{}/v1
  routes: [{{name: all, paths: [/shop]}}]
  plugins: [{{name: canary, config: {{percentage: 100, {fields}}}}}]
"#,
            stable.address().port()
        )
    };
    let gateway = Gateway::start(&direct("upstream_uri: /v2"));
    assert_eq!(gateway.get("/shop/cart?x=1").text(), "stable");
    assert_eq!(stable.only().target, "/v2/cart?x=1");
    gateway.apply(&direct(&format!("upstream_port: {}", trial.address().port())));
    assert_eq!(gateway.get("/shop/cart").text(), "canary");
    assert_eq!(trial.only().target, "/v1/cart");
    trial.forget();
    gateway.apply(&direct(&format!(
        "upstream_host: localhost, upstream_port: {}, upstream_uri: /v2",
        trial.address().port()
    )));
    // `localhost` may have an address in IPv6 too, where nobody listens.
    assert_eq!(gateway.get("/shop/cart").text(), "canary");
    let received = trial.only();
    assert_eq!(received.target, "/v2/cart");
    assert_eq!(
        received.header("Host"),
        Some(format!("localhost:{}", trial.address().port()).as_str())
    );
}

#[test]
fn a_dead_canary_falls_back_without_an_error() {
    let stable = Origin::start("stable");
    let dead = Origin::refusing("canary");
    let gateway = Gateway::start(&canary(
        &stable,
        &dead,
        "percentage: 100, upstream_fallback: true",
    ));
    let mut client = gateway.client();
    for _ in 0..20 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (200, "stable".to_owned()));
        // Nothing was sent, so this is safe for any method.
        assert_eq!(client.exchange(&Request::post("/", "order")).text(), "stable");
    }
    assert_eq!(stable.count(), 40);
    gateway.wait_for_metric(
        "serin_release_requests_total",
        &[("variant", "canary"), ("reason", "fallback")],
        40.0,
    );
    gateway.wait_for_metric(
        "serin_upstream_requests_total",
        &[("variant", "canary"), ("status_class", "none")],
        40.0,
    );
    let line: serde_json::Value = serde_json::from_str(&gateway.wait_for_lines("stdout", 1)[0]).unwrap();
    assert_eq!(
        (&line["variant"], &line["reason"]),
        (&"stable".into(), &"fallback".into())
    );
}

#[test]
fn a_dead_canary_without_fallback_is_the_clients_error() {
    let stable = Origin::start("stable");
    let dead = Origin::refusing("canary");
    let gateway = Gateway::start(&canary(&stable, &dead, "percentage: 100"));
    gateway
        .get("/")
        .assert_own_answer(502, "An invalid response was received from the upstream server");
    assert_eq!(stable.count(), 0);
}

/// A reset after the request was sent: repeated on stable only where that is safe.
#[test]
fn a_request_that_the_canary_has_seen_falls_back_only_if_idempotent() {
    let (stable, trial) = pair();
    let gateway = Gateway::start(&canary(
        &stable,
        &trial,
        "percentage: 100, upstream_fallback: true",
    ));
    trial.reset_before_header();
    assert_eq!(gateway.get("/").text(), "stable");
    let response = gateway.exchange(&Request::post("/", "order"));
    assert_eq!(response.status, 502);
    assert_eq!((stable.count(), trial.count()), (1, 2), "the POST was seen once");
}

#[test]
fn an_answer_of_the_canary_is_an_answer() {
    let (stable, trial) = pair();
    let gateway = Gateway::start(&canary(
        &stable,
        &trial,
        "percentage: 100, upstream_fallback: true",
    ));
    trial.answer(Reply::status(500).body("broken"));
    assert_eq!(gateway.get("/").text(), "broken");
    assert_eq!(stable.count(), 0);
}

/// With every Target of the canary unhealthy it is not even asked, and 503 keeps the connection.
#[test]
fn an_empty_canary_is_not_asked() {
    let stable = Origin::start("stable");
    let dead = Origin::refusing("canary");
    let checks = "  healthchecks: {passive: {unhealthy: {tcp_failures: 1}}, active: {healthy: {interval: 3600, successes: 1}}}\n";
    let config = |fields: &str| {
        canary(&stable, &dead, fields).replace("- name: canary\n", &format!("- name: canary\n{checks}"))
    };
    let gateway = Gateway::start(&config("percentage: 100, upstream_fallback: true"));
    assert_eq!(gateway.get("/").text(), "stable");
    gateway.wait_for_metric("serin_target_eligible", &[("upstream", "canary")], 0.0);
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "stable");
    }
    let tries = gateway.metrics();
    assert!(
        tries
            .sum("serin_upstream_requests_total", &[("variant", "canary")])
            .is_none_or(|tries| tries <= 1.0)
    );
    gateway.apply(&config("percentage: 100"));
    for _ in 0..2 {
        client
            .get("/")
            .assert_own_answer(503, "failure to get a peer from the ring-balancer");
    }
    // Those who go to stable are not concerned.
    gateway.apply(&config("percentage: 0"));
    assert_eq!(client.get("/").text(), "stable");
}

#[test]
fn without_the_plugin_the_very_next_request_is_stables() {
    let (stable, trial) = pair();
    let with = canary(&stable, &trial, "percentage: 100");
    let gateway = Gateway::start(&with);
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "canary");
    gateway.apply(&with.replace("{name: canary, config", "{name: canary, enabled: false, config"));
    assert_eq!(client.get("/").text(), "stable");
    gateway.apply(&with);
    assert_eq!(client.get("/").text(), "canary");
    let start = with.find("  plugins:").unwrap();
    let end = start + with[start..].find('\n').unwrap() + 1;
    gateway.apply(&(with[..start].to_owned() + &with[end..]));
    assert_eq!(client.get("/").text(), "stable");
    // The control thread takes the series out as soon as it sees the new generation.
    wait_until("no series of the share", || {
        (gateway.metrics().sum("serin_release_share_ratio", &[])).map_or(Some(()), |_| None)
    });
}

/// Of the canaries for one request the most specific decides, and only that.
#[test]
fn the_most_specific_plugin_decides() {
    let origins = ["stable", "global", "service", "route", "both"].map(Origin::start);
    let upstreams: String = origins
        .iter()
        .map(|origin| {
            format!(
                "- {{name: {}, targets: [{{target: '{}'}}]}}\n",
                origin.name(),
                origin.address()
            )
        })
        .collect();
    let plugin = |scope: &str, to: &str| {
        format!("- {{name: canary, {scope} config: {{percentage: 100, upstream_host: {to}}}}}\n")
    };
    let base = format!(
        r#"services:
- name: shop
  host: stable
  routes: [{{name: a, paths: [/a]}}, {{name: b, paths: [/b]}}]
- name: blog
  host: stable
  routes: [{{name: c, paths: [/c]}}]
upstreams:
{upstreams}plugins:
"#
    );
    let gateway = Gateway::start(&(base.clone() + &plugin("", "global")));
    let mut client = gateway.client();
    let mut answers = |expected: [&str; 3]| {
        assert_eq!(["/a", "/b", "/c"].map(|path| client.get(path).text()), expected);
    };
    answers(["global", "global", "global"]);
    let mut plugins = plugin("", "global") + &plugin("service: shop,", "service");
    gateway.apply(&(base.clone() + &plugins));
    answers(["service", "service", "global"]);
    plugins += &plugin("route: a,", "route");
    gateway.apply(&(base.clone() + &plugins));
    answers(["route", "service", "global"]);
    plugins += &plugin("route: a, service: shop,", "both");
    gateway.apply(&(base + &plugins));
    answers(["both", "service", "global"]);
}
