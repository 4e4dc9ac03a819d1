//! All entities at once, and in what they differ from the file.

use serde_json::{Value, json};

use crate::harness::{Gateway, Request};

const KONG: &str = r#"_format_version: "3.0"
services:
- name: shop
  url: http://127.0.0.1:9/api
  routes: [{name: all, paths: [/], plugins: [{name: key-auth}]}]
upstreams:
- {name: u, hash_on: ip, targets: [{target: "10.0.0.1:80", weight: 3}]}
consumers:
- username: alice
  keyauth_credentials: [{key: k}]
  basicauth_credentials: [{username: a, password: p}]
  acls: [{group: testers}]
  groups: [{name: gold}]
consumer_groups: [{name: gold}]
"#;

fn post(gateway: &Gateway, query: &str, body: &str) -> (u16, Value) {
    let request = Request::post(&format!("/config{query}"), body)
        .host("localhost")
        .header("content-type", "application/yaml");
    let answer = gateway.admin().exchange(&request);
    (answer.status, answer.body)
}

fn entities(gateway: &Gateway) -> Vec<Value> {
    let paths = [
        "/services",
        "/routes",
        "/upstreams",
        "/consumers",
        "/plugins",
        "/key-auths",
        "/basic-auths",
        "/acls",
    ];
    paths
        .map(|path| gateway.admin().get(path).expect(200)["data"].clone())
        .into()
}

#[test]
fn a_kong_yml_is_taken_whole_and_what_is_shown_is_the_same_again() {
    let gateway = Gateway::start("services: [{name: of-the-file, host: h}]");
    let (status, body) = post(&gateway, "", KONG);
    assert_eq!(status, 201, "{body}");
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(body["services"].as_object().unwrap().len(), 1, "{names:?}");
    assert_eq!(gateway.admin().get("/services/of-the-file").status, 404);
    let before = entities(&gateway);
    assert_eq!(before[4][0]["route"]["id"], before[1][0]["id"]);
    // The file still says what it said: that shows.
    let drift = gateway.admin().get("/drift").expect(200);
    let gone = drift["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "of-the-file");
    assert_eq!(gone.unwrap()["state"], "removed");

    assert_eq!(post(&gateway, "?check_hash=1", KONG).0, 304);
    let shown = gateway.admin().get("/config").expect(200)["config"]
        .as_str()
        .unwrap()
        .to_owned();
    let generation = gateway.status()["generation"].clone();
    assert_eq!(post(&gateway, "", &shown).0, 201, "{shown}");
    assert_eq!(entities(&gateway), before);
    assert_eq!(gateway.status()["generation"], generation, "nothing has changed");
}

#[test]
fn a_bad_configuration_is_refused_whole() {
    let gateway = Gateway::start("");
    post(&gateway, "", KONG);
    let before = entities(&gateway);
    let (status, body) = post(
        &gateway,
        "",
        &KONG.replace("username: alice", "username: alice\n  bogus: 1"),
    );
    assert_eq!((status, &body["code"]), (400, &json!(14)), "{body}");
    assert_eq!(
        post(&gateway, "", "").1["message"],
        "expected a declarative configuration"
    );
    let large = "x".repeat(10 * 1024 * 1024 + 1);
    assert_eq!(post(&gateway, "", &large).0, 413);
    assert_eq!(entities(&gateway), before);
}
