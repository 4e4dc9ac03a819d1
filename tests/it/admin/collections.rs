//! Every collection: made, read, changed, replaced, removed, by id and by name.

use serde_json::{Value, json};

use crate::harness::{Admin, Gateway};

/// A collection and an entity of it: the path, the body, the name in the path, a change, and the field that a
/// PUT without it resets, with its default.
struct Round {
    path: &'static str,
    body: Value,
    name: Option<&'static str>,
    change: Value,
    reset: (&'static str, Value),
}

fn rounds() -> Vec<Round> {
    let round = |path, body, name, change, reset| Round {
        path,
        body,
        name,
        change,
        reset,
    };
    vec![
        round(
            "/services",
            json!({"name": "s", "host": "h"}),
            Some("s"),
            json!({"retries": 1}),
            ("retries", json!(5)),
        ),
        round(
            "/routes",
            json!({"name": "r", "paths": ["/"]}),
            Some("r"),
            json!({"strip_path": false}),
            ("strip_path", json!(true)),
        ),
        round(
            "/services/base/routes",
            json!({"name": "n", "paths": ["/n"]}),
            Some("n"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/upstreams",
            json!({"name": "u"}),
            Some("u"),
            json!({"slots": 20}),
            ("slots", json!(10000)),
        ),
        round(
            "/upstreams/base/targets",
            json!({"target": "10.0.0.1:80"}),
            Some("10.0.0.1:80"),
            json!({"weight": 1}),
            ("weight", json!(100)),
        ),
        round(
            "/consumers",
            json!({"username": "c"}),
            Some("c"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/consumers/base/key-auth",
            json!({"key": "k"}),
            Some("k"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/consumers/base/basic-auth",
            json!({"username": "b", "password": "p"}),
            Some("b"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/consumers/base/jwt",
            json!({"key": "j", "secret": "s"}),
            Some("j"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/consumers/base/acls",
            json!({"group": "g"}),
            Some("g"),
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
        round(
            "/plugins",
            json!({"name": "key-auth"}),
            None,
            json!({"config": {"key_names": ["x"]}}),
            ("config.key_names", json!(["apikey"])),
        ),
        round(
            "/services/base/plugins",
            json!({"name": "canary", "config": {"upstream_host": "h", "percentage": 5}}),
            None,
            json!({"config": {"percentage": 10}}),
            ("config.hash", json!("consumer")),
        ),
        round(
            "/default/consumer_groups",
            json!({"name": "gold"}),
            None,
            json!({"tags": ["a"]}),
            ("tags", json!(null)),
        ),
    ]
}

fn field<'a>(entity: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(entity, |value, key| &value[key])
}

/// Kong shows a group with its members.
fn unwrapped(answer: Value) -> Value {
    match answer.get("consumer_group") {
        Some(group) if group.is_object() => group.clone(),
        _ => answer,
    }
}

fn go_round(admin: &mut Admin, round: &Round) {
    let Round {
        path,
        body,
        name,
        change,
        reset,
    } = round;
    let made = admin.send("POST", path, body.clone()).expect(201);
    let by_id = format!("{path}/{}", made["id"].as_str().unwrap());
    assert_eq!(unwrapped(admin.get(&by_id).expect(200)), made, "{path}");
    if let Some(name) = name {
        assert_eq!(admin.get(&format!("{path}/{name}/")).expect(200), made, "{path}");
    }
    let list = admin.get(path).expect(200);
    assert!(list["data"].as_array().unwrap().contains(&made), "{path}: {list}");
    assert_eq!(list["next"], Value::Null);

    let changed = admin.send("PATCH", &by_id, change.clone()).expect(200);
    for (key, value) in change.as_object().unwrap() {
        match value.as_object() {
            Some(inner) => inner
                .iter()
                .for_each(|(name, value)| assert_eq!(&changed[key][name], value, "{path}")),
            None => assert_eq!(&changed[key], value, "{path}"),
        }
    }
    assert_eq!(changed["created_at"], made["created_at"]);
    let put = admin.send("PUT", &by_id, body.clone()).expect(200);
    assert_eq!(field(&put, reset.0), &reset.1, "{path}");
    assert_eq!(put["id"], made["id"]);
    assert_eq!(
        admin.send("PATCH", &by_id, json!({"bogus": 1})).expect(400)["fields"]["bogus"],
        "unknown field"
    );
    assert_eq!(admin.send("DELETE", &by_id, Value::Null).status, 204, "{path}");
    assert_eq!(admin.get(&by_id).expect(404), json!({"message": "Not found"}));
}

#[test]
fn every_collection_goes_the_whole_round() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    admin
        .send("PUT", "/services/base", json!({"host": "h"}))
        .expect(200);
    admin.send("PUT", "/upstreams/base", json!({})).expect(200);
    admin.send("PUT", "/consumers/base", json!({})).expect(200);
    for round in rounds() {
        go_round(&mut admin, &round);
    }
}

#[test]
fn what_does_not_fit_is_refused_in_kongs_words() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let service = admin
        .send("POST", "/services", json!({"name": "s", "host": "h"}))
        .expect(201);
    admin
        .send("POST", "/services/s/routes", json!({"paths": ["/"]}))
        .expect(201);
    let mut refused = |method: &str, path: &str, body: Value, status: u16, message: &str| {
        assert_eq!(
            admin.send(method, path, body).expect(status)["message"],
            message,
            "{method} {path}"
        );
    };
    refused(
        "POST",
        "/services",
        json!({"name": "s", "host": "h"}),
        409,
        "UNIQUE violation detected on '{name=\"s\"}'",
    );
    refused(
        "POST",
        "/services",
        json!({}),
        400,
        "schema violation (host: required field missing)",
    );
    refused(
        "DELETE",
        "/services/s",
        json!(null),
        400,
        "an existing 'routes' entity references this 'services' entity",
    );
    refused(
        "POST",
        "/routes",
        json!({"paths": ["/"], "service": {"id": "5d1f1a3e-0000-4000-8000-000000000009"}}),
        400,
        "the foreign key '{id=\"5d1f1a3e-0000-4000-8000-000000000009\"}' does not reference an existing 'services' entity.",
    );
    refused(
        "POST",
        "/routes",
        json!({"paths": ["/"], "service": {"name": "x"}}),
        400,
        "foreign key unresolved (service.name: the foreign key cannot be resolved with '{name=\"x\"}' for an existing 'services' entity)",
    );
    refused("DELETE", "/services", json!(null), 405, "Method not allowed");
    refused("GET", "/bogus", json!(null), 404, "Not found");
    refused(
        "POST",
        "/vaults",
        json!({}),
        405,
        "cannot change 'vaults' entities: Serin does not have them",
    );
    refused("PUT", "/upstreams/none/targets/a", json!({}), 404, "Not found");
    assert_eq!(
        admin.get("/vaults").expect(200),
        json!({"data": [], "next": null})
    );
    let id = service["id"].as_str().unwrap();
    let route = &admin.get("/routes").body["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        admin.get(&format!("/routes/{route}/service")).expect(200)["id"],
        id
    );
    // Only building shows this.
    let huge = admin
        .send("POST", "/routes", json!({"paths": ["~/(a{1000}){1000}"]}))
        .expect(400);
    assert_eq!(huge["code"], 2, "{huge}");
}
