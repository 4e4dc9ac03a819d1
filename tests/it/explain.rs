//! `serin explain`: the same decision as the proxy's, in another process.

use crate::harness::{Command, Gateway, Origin, Request, canary, complete};

const CONFIG: &str = r#"_format_version: "3.0"
services:
- name: shop
  host: shop-v1
  routes: [{name: cart, paths: [/cart]}]
  plugins:
  - {name: key-auth}
  - {name: canary, config: {upstream_host: shop-v2, percentage: 50, salt: shop-2026-11}}
consumers:
- {username: alice, id: 5f1e1c3a-6c55-5b0e-9d7e-0a4b6f0c2d11, keyauth_credentials: [{key: secret-key}], acls: [{group: testers}]}
upstreams:
- {name: shop-v1, targets: [{target: "shop-1.internal:80", weight: 90}, {target: "10.0.0.1:80", weight: 10}]}
- {name: shop-v2, targets: [{target: "10.0.0.2:80"}]}
"#;

/// Runs `serin explain` and returns exit code, standard output and standard error.
fn explain(config: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(&["explain", "serin.yaml"]).file("serin.yaml", config);
    for argument in arguments {
        command = command.argument(argument);
    }
    command.finish()
}

#[track_caller]
fn check(config: &str, arguments: &[&str], expected: &str) {
    let (code, out, error) = explain(config, arguments);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.trim_end(), expected.trim_end());
}

#[test]
fn it_says_which_release_and_why() {
    check(
        CONFIG,
        &["--consumer", "alice", "--url", "/cart"],
        "\
request   GET /cart
route     cart
service   shop
plugins   key-auth, canary
consumer  alice, in testers
release   canary on shop-v2, share 50 %
bucket    5256 of 0 to 9999, by consumer
variant   stable, by share
upstream  shop-v1
target    shop-1.internal:80 weight 90
target    10.0.0.1:80 weight 10
",
    );
}

#[test]
fn credentials_are_those_of_the_request_or_of_whoever_is_named() {
    let by_key = explain(CONFIG, &["--key", "secret-key", "--url", "/cart"]);
    let by_header = explain(CONFIG, &["--header", "apikey: secret-key", "--url", "/cart"]);
    let by_name = explain(CONFIG, &["--consumer", "alice", "--url", "/cart"]);
    assert_eq!(by_key, by_name);
    assert_eq!(by_header, by_name);
    let (_, out, _) = explain(CONFIG, &["--url", "/cart"]);
    assert!(
        out.contains("\nconsumer  none\nanswer    401 No API key found in request\n"),
        "{out}"
    );
    let (_, out, _) = explain(CONFIG, &["--url", "/elsewhere"]);
    assert!(
        out.contains("\nanswer    404 no Route matched with those values\n"),
        "{out}"
    );
    let (code, _, error) = explain(CONFIG, &["--consumer", "mallory"]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "--consumer: no consumer has the username or id 'mallory'\n"
        )
    );
    let (code, _, error) = explain(CONFIG, &["--key", "guess"]);
    assert_eq!(
        (code, error.as_str()),
        (Some(1), "--key: no consumer has this key, or it has expired\n")
    );
}

#[test]
fn a_ramp_tells_when_it_reaches_this_consumer() {
    let config = CONFIG.replace(
        "percentage: 50",
        "start: 1798761600, duration: 100000, steps: 100",
    );
    let expected = |at: &str| {
        let (_, out, _) = explain(&config, &["--consumer", "alice", "--url", "/cart", "--at", at]);
        let line = |name: &str| {
            let line = out.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("{name}: {out}"))[10..].to_owned()
        };
        [line("ramp"), line("reached"), line("release"), line("variant")]
    };
    // Bucket 5256 is taken in with the 53rd step, 53,000 s after the start.
    let from = "from 2027-01-01T00:00:00Z";
    let reached = "2027-01-01T14:43:20Z";
    assert_eq!(
        expected("2027-01-01T14:43:19Z"),
        [from, reached, "canary on shop-v2, share 52 %", "stable, by share"]
    );
    assert_eq!(
        expected("2027-01-01T14:43:20Z"),
        [from, reached, "canary on shop-v2, share 53 %", "canary, by share"]
    );
}

#[test]
fn many_made_up_people_are_split_near_the_share() {
    check(
        CONFIG,
        &["--url", "/cart", "--many", "100000"],
        "100000 made-up people: 49962 canary (49.96 %), 50038 stable (50.04 %)",
    );
    let (code, _, error) = explain(
        &CONFIG.replace("percentage: 50", "hash: allow, groups: [testers]"),
        &["--url", "/cart", "--many", "10"],
    );
    assert_eq!(code, Some(1));
    assert!(error.contains("--many has nothing to count"), "{error}");
}

#[test]
fn programs_get_an_object() {
    let (_, out, _) = explain(
        CONFIG,
        &["--consumer", "alice", "--url", "/cart", "--format", "json"],
    );
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["release"]["bucket"], 5256);
    assert_eq!(object["release"]["identifier"], "consumer");
    assert_eq!(object["variant"], "stable");
    assert_eq!(object["answer"], serde_json::Value::Null);
    assert_eq!(object["consumer"]["groups"], serde_json::json!(["testers"]));
}

/// What is explained is what happens.
#[test]
fn it_agrees_with_the_proxy() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let config = canary(
        &stable,
        &trial,
        "percentage: 40, hash: header, hash_header: x-user",
    );
    let gateway = Gateway::start(&config);
    let config = complete(&config);
    for user in 0..12 {
        let header = format!("x-user: {user}");
        let (_, out, _) = explain(&config, &["--header", &header, "--format", "json"]);
        let object: serde_json::Value = serde_json::from_str(&out).unwrap();
        let answered = gateway.exchange(&Request::get("/").header("x-user", &user.to_string()));
        assert_eq!(object["variant"], answered.text().as_str(), "{user}");
    }
}
