//! Who may do what, and where secrets do not go.

use serde_json::{Value, json};

use crate::harness::{Command, Gateway, Request};

const TOKENS: &str = "server:\n  admin: {address: 127.0.0.1:0, token: the token of an admin, read_token: the token of a reader}\n";

fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    token: Option<(&str, &str)>,
    body: Value,
) -> (u16, Value) {
    let mut request = Request::new(method, path).host("localhost");
    if let Some((name, value)) = token {
        request = request.header(name, value);
    }
    if !body.is_null() {
        request = request
            .header("content-type", "application/json")
            .body(&body.to_string());
    }
    let answer = gateway.admin().exchange(&request);
    (answer.status, answer.body)
}

#[test]
fn a_token_opens_and_a_readers_shows_no_secret() {
    let gateway = Gateway::start(TOKENS);
    let admin = Some(("kong-admin-token", "the token of an admin"));
    let reader = Some(("authorization", "Bearer the token of a reader"));
    assert_eq!(ask(&gateway, "GET", "/services", None, Value::Null).0, 401);
    assert_eq!(ask(&gateway, "PUT", "/consumers/alice", admin, json!({})).0, 200);
    let made = ask(
        &gateway,
        "POST",
        "/consumers/alice/key-auth",
        admin,
        json!({"key": "hunter2"}),
    );
    assert_eq!((made.0, &made.1["key"]), (201, &json!("hunter2")));
    let renamed = ask(
        &gateway,
        "PATCH",
        "/key-auths/hunter2",
        admin,
        json!({"tags": ["a"]}),
    );
    assert_eq!(renamed.0, 200);
    let seen = ask(&gateway, "GET", "/key-auths", reader, Value::Null);
    assert_eq!((seen.0, &seen.1["data"][0]["key"]), (200, &json!("***")));
    assert_eq!(ask(&gateway, "GET", "/config", reader, Value::Null).0, 403);
    assert_eq!(
        ask(&gateway, "DELETE", "/consumers/alice", reader, Value::Null).0,
        403
    );
    for path in ["/audit", "/drift", "/metrics", "/status"] {
        let answer = ask(&gateway, "GET", path, reader, Value::Null);
        assert_eq!(answer.0, 200, "{path}");
        assert!(!answer.1.to_string().contains("hunter2"), "{path}");
    }
    assert!(!gateway.log_text().contains("hunter2"));
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let config = "server: {admin: {address: '0.0.0.0:0'}}";
    let (code, _, error) = Command::run(config).finish();
    assert_eq!(code, Some(1));
    assert!(
        error.contains("other machines reach this address, and there is no token"),
        "{error}"
    );
    let (code, _, error) =
        Command::run("server: {admin: {address: '127.0.0.1:0', read_token: the token of a reader}}").finish();
    assert_eq!(code, Some(1));
    assert!(
        error.contains("without 'token' everybody may change everything"),
        "{error}"
    );
    let missing = "server: {admin: {address: '127.0.0.1:0', token_file: missing}}";
    let (code, _, error) = Command::run(missing).finish();
    assert_eq!(code, Some(1));
    assert!(error.contains("server.admin.token_file missing"), "{error}");
    let gateway = Command::run("server: {admin: {address: '127.0.0.1:0', token_file: token}}")
        .file("token", "the token of a file\n")
        .start();
    assert_eq!(ask(&gateway, "GET", "/", None, Value::Null).0, 401);
    let token = Some(("authorization", "Bearer the token of a file"));
    assert_eq!(ask(&gateway, "GET", "/", token, Value::Null).0, 200);
}

#[test]
fn the_audit_trail_says_who_changed_what_from_what_to_what() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    admin
        .send("PUT", "/services/shop", json!({"host": "blue"}))
        .expect(200);
    admin
        .send("PATCH", "/services/shop", json!({"host": "green"}))
        .expect(200);
    let page = admin.get("/audit?size=1").expect(200);
    let entry = &page["data"][0];
    assert_eq!(
        (&entry["who"], &entry["what"]),
        (&json!("127.0.0.1"), &json!("PATCH /services/shop"))
    );
    let change = &entry["changes"][0];
    assert_eq!(
        (&change["before"]["host"], &change["after"]["host"]),
        (&json!("blue"), &json!("green"))
    );
    let next = admin.get(page["next"].as_str().unwrap()).expect(200);
    assert_eq!(next["data"][0]["what"], "PUT /services/shop");
}
