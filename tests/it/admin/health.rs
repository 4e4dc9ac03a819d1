//! The health of Targets over the Admin API, and the switch that would lead nowhere.

use serde_json::{Value, json};

use crate::harness::{Gateway, Origin};

fn config(origin: &Origin) -> String {
    let target = format!("targets: [{{target: \"{}\"}}]", origin.address());
    format!(
        r#"services:
- {{name: checkout, host: blue, routes: [{{name: all, paths: [/]}}]}}
upstreams:
- {{name: blue, {target}}}
- {{name: green, {target}, healthchecks: {{passive: {{unhealthy: {{http_failures: 1}}}}}}}}
- {{name: grey, targets: [{{target: "10.0.0.1:80", weight: 0}}]}}
- {{name: empty}}
"#
    )
}

#[test]
fn a_switch_into_the_void_is_refused_unless_it_is_forced() {
    let origin = Origin::start("origin");
    let gateway = Gateway::start(&config(&origin));
    let mut admin = gateway.admin();
    let green = format!("/upstreams/green/targets/{}", origin.address());
    assert_eq!(
        admin
            .send("POST", &format!("{green}/unhealthy"), Value::Null)
            .status,
        204
    );
    let health = admin.get("/upstreams/green/health").expect(200);
    assert_eq!(health["data"][0]["health"], "UNHEALTHY");
    for host in ["green", "grey"] {
        let refused = admin
            .send("PATCH", "/services/checkout", json!({"host": host}))
            .expect(409);
        assert!(
            refused["message"].as_str().unwrap().contains("?force=true"),
            "{refused}"
        );
        assert_eq!(admin.get("/services/checkout").body["host"], "blue");
    }
    // Clients write Services before Targets.
    admin
        .send("PATCH", "/services/checkout", json!({"host": "empty"}))
        .expect(200);
    admin
        .send("PATCH", "/services/checkout?force=true", json!({"host": "green"}))
        .expect(200);
    assert_eq!(gateway.get("/").status, 503);
    assert_eq!(
        admin.send("PUT", &format!("{green}/healthy"), Value::Null).status,
        204
    );
    assert_eq!(gateway.get("/").text(), "origin");
    let off = admin.send(
        "PUT",
        &format!("/upstreams/blue/targets/{}/healthy", origin.address()),
        Value::Null,
    );
    assert_eq!(off.expect(400)["message"], "no healthchecker found for blue");
    let balancer = admin.get("/upstreams/green/health?balancer_health=1").expect(200);
    assert_eq!(balancer["data"]["balancer_health"], "HEALTHY");
}

#[test]
fn every_endpoint_that_is_listed_is_there() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let paths = admin.get("/endpoints").expect(200)["data"]
        .as_array()
        .unwrap()
        .clone();
    let document = admin.get("/openapi.json").expect(200);
    assert!(paths.len() > 60);
    for path in &paths {
        let path = path.as_str().unwrap();
        assert!(document["paths"].get(path).is_some(), "{path}");
        let filled = path.replace(['{', '}'], "");
        let answer = admin.send("OPTIONS", &filled, Value::Null);
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.response.header("allow").unwrap().contains("OPTIONS"));
    }
}
