//! The Admin API over the wire.

mod collections;
mod config;
mod deck;
mod health;
mod paging;
mod security;

use serde_json::json;

use crate::harness::{Gateway, Origin, Request, shop};

#[test]
fn an_entity_is_made_read_changed_and_removed() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let made = admin.send(
        "POST",
        "/services",
        json!({"name": "shop", "url": "http://shop.internal:8080/api"}),
    );
    assert_eq!(
        made.generation(),
        gateway.status()["generation"].as_u64().unwrap()
    );
    let made = made.expect(201);
    assert_eq!(
        (&made["host"], &made["port"], &made["path"], &made["protocol"]),
        (
            &json!("shop.internal"),
            &json!(8080),
            &json!("/api"),
            &json!("http")
        )
    );
    assert_eq!(admin.get("/services/shop").expect(200), made);
    let changed = admin.send(
        "PATCH",
        "/services/shop",
        json!({"retries": 1, "url": "http://other"}),
    );
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["retries"], &changed["path"], &changed["port"]),
        (&json!(1), &json!(null), &json!(80))
    );
    let put = admin
        .send("PUT", "/services/shop", json!({"host": "third"}))
        .expect(200);
    assert_eq!(
        (&put["retries"], &put["id"], &put["name"]),
        (&json!(5), &made["id"], &json!("shop"))
    );
    assert_eq!(admin.send("DELETE", "/services/shop", json!(null)).status, 204);
    assert_eq!(admin.send("DELETE", "/services/shop", json!(null)).status, 204);
    assert_eq!(
        admin.get("/services/shop").expect(404),
        json!({"message": "Not found"})
    );
}

#[test]
fn the_next_request_on_any_connection_sees_what_was_written() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(
        &shop(&[(&blue, 100)])
            .replace("host: shop,", "host: blue,")
            .replace("- name: shop\n  targets", "- name: blue\n  targets"),
    );
    let mut admin = gateway.admin();
    admin
        .send("POST", "/upstreams", json!({"name": "green"}))
        .expect(201);
    let target = json!({"target": green.address().to_string()});
    admin.send("POST", "/upstreams/green/targets", target).expect(201);
    let mut kept = gateway.client();
    for host in ["green", "blue", "green"] {
        admin
            .send("PATCH", "/services/shop", json!({"host": host}))
            .expect(200);
        assert_eq!(
            (kept.get("/").text(), gateway.get("/").text()),
            (host.to_owned(), host.to_owned())
        );
    }
}

#[test]
fn who_is_not_let_in_learns_why() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let stranger = admin.exchange(&Request::get("/").host("evil.example"));
    assert_eq!(
        stranger.expect(403)["message"],
        "this Host is not allowed; list it in server.admin.hosts"
    );
    let page = Request::get("/")
        .host("localhost")
        .header("origin", "https://evil.example");
    let page = admin.exchange(&page).expect(403);
    assert_eq!(
        page["message"],
        "this Origin is not allowed; list it in server.admin.origins"
    );
}

/// Writes that wait together are built together; one that cannot be built is refused alone.
#[test]
fn a_write_that_cannot_be_built_takes_no_other_with_it() {
    const ROUNDS: usize = 10;
    let gateway = Gateway::start("services: [{name: s, host: h}]");
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut admin = gateway.admin();
                for round in 0..ROUNDS {
                    let (path, status) = match writer {
                        0 => ("~/(a{1000}){1000}".to_owned(), 400),
                        _ => (format!("/{writer}/{round}"), 201),
                    };
                    admin
                        .send("POST", "/services/s/routes", json!({"paths": [path]}))
                        .expect(status);
                }
            });
        }
    });
    let routes = gateway.admin().get("/routes?size=1000").expect(200);
    assert_eq!(routes["data"].as_array().unwrap().len(), 5 * ROUNDS);
}

#[test]
fn a_field_without_effect_is_warned_of_once_as_in_a_file() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let route = json!({"name": "cart", "paths": ["/cart"], "request_buffering": false});
    admin.send("POST", "/routes", route.clone()).expect(201);
    gateway.wait_for_log(
        "POST /routes by 127.0.0.1: body: warning: routes[cart].request_buffering: accepted without effect",
    );
    // Nothing is refused and warned of, nor warned of again by who changes other fields.
    admin.send("POST", "/routes", route).expect(409);
    admin
        .send("PATCH", "/routes/cart", json!({"paths": ["/other"]}))
        .expect(200);
    let service = json!({"url": "https://shop.internal", "tls_verify_depth": 2});
    admin.send("PUT", "/services/shop", service).expect(200);
    gateway.wait_for_log(
        "PUT /services/shop by 127.0.0.1: body: warning: services[shop].tls_verify_depth: accepted without effect",
    );
    let plugin = json!({"name": "key-auth", "config": {"key_in_body": true}});
    admin.send("POST", "/plugins", plugin).expect(201);
    gateway.wait_for_log(".config.key_in_body: accepted without effect");
    let change = json!({"request_buffering": true, "response_buffering": false});
    admin.send("PATCH", "/routes/cart", change).expect(200);
    gateway.wait_for_log(
        "PATCH /routes/cart by 127.0.0.1: body: warning: routes[cart].response_buffering: accepted without effect",
    );
    let whole = json!({"_format_version": "3.0", "routes": [{"name": "cart", "paths": ["/"], "response_buffering": false}]});
    admin.send("POST", "/config", whole).expect(201);
    gateway.wait_for_log("routes[0].response_buffering: accepted without effect");
    assert_eq!(gateway.log_text().matches("accepted without effect").count(), 5);
}
