//! What decK calls, replayed: an update with nothing to update finds nothing to update.
//!
//! decK reads everything, fills what the file leaves out with the defaults of `/schemas/*`, and PUTs with ids of its
//! own what then differs. So after the first PUT of everything, each GET has to show what was PUT.

use serde_json::{Map, Value, json};

use crate::harness::{Admin, Gateway};

const SERVICE: &str = "10000000-0000-4000-8000-000000000001";
const ROUTE: &str = "10000000-0000-4000-8000-000000000002";
const UPSTREAM: &str = "10000000-0000-4000-8000-000000000003";
const TARGET: &str = "10000000-0000-4000-8000-000000000004";
const CONSUMER: &str = "10000000-0000-4000-8000-000000000005";
const KEY: &str = "10000000-0000-4000-8000-000000000006";
const ACL: &str = "10000000-0000-4000-8000-000000000007";
const GROUP: &str = "10000000-0000-4000-8000-000000000008";
const CANARY: &str = "10000000-0000-4000-8000-000000000009";
const KEY_AUTH: &str = "10000000-0000-4000-8000-00000000000a";

/// Path, schema, and what a file says of it, in decK's order. A file that hashes names the algorithm, as decK writes
/// it: left out, decK fills in `round-robin`, which Kong too makes `consistent-hashing`.
fn wanted() -> Vec<(String, &'static str, Value)> {
    let of = |path: &str, schema, body| (path.to_owned(), schema, body);
    let tags = json!(["team-a"]);
    vec![
        of(
            &format!("/consumers/{CONSUMER}"),
            "consumers",
            json!({"id": CONSUMER, "username": "alice", "tags": tags}),
        ),
        of(
            &format!("/consumer_groups/{GROUP}"),
            "consumer_groups",
            json!({"id": GROUP, "name": "gold"}),
        ),
        of(
            &format!("/services/{SERVICE}"),
            "services",
            json!({"id": SERVICE, "name": "shop", "host": "blue", "read_timeout": 3000, "tags": tags}),
        ),
        of(
            &format!("/upstreams/{UPSTREAM}"),
            "upstreams",
            json!({"id": UPSTREAM, "name": "blue", "algorithm": "consistent-hashing", "hash_on": "ip", "healthchecks": {"active": {"healthy": {"interval": 5, "successes": 2}, "timeout": 0.5}}}),
        ),
        of(
            &format!("/consumers/{CONSUMER}/key-auth/{KEY}"),
            "keyauth_credentials",
            json!({"id": KEY, "key": "k", "consumer": {"id": CONSUMER}}),
        ),
        of(
            &format!("/consumers/{CONSUMER}/acls/{ACL}"),
            "acls",
            json!({"id": ACL, "group": "testers", "consumer": {"id": CONSUMER}}),
        ),
        of(
            &format!("/routes/{ROUTE}"),
            "routes",
            json!({"id": ROUTE, "name": "all", "paths": ["/b", "/a"], "headers": {"x-a": ["1"]}, "service": {"id": SERVICE}}),
        ),
        of(
            &format!("/upstreams/{UPSTREAM}/targets/{TARGET}"),
            "targets",
            json!({"id": TARGET, "target": "10.0.0.1:80", "weight": 7, "upstream": {"id": UPSTREAM}}),
        ),
        of(
            &format!("/plugins/{CANARY}"),
            "plugins/canary",
            json!({"id": CANARY, "name": "canary", "service": {"id": SERVICE}, "config": {"upstream_host": "green", "start": 1767225600.5, "duration": 60}}),
        ),
        of(
            &format!("/plugins/{KEY_AUTH}"),
            "plugins/key-auth",
            json!({"id": KEY_AUTH, "name": "key-auth", "route": {"id": ROUTE}, "config": {"key_names": ["b", "a"]}}),
        ),
    ]
}

/// Fills in the defaults of a schema's fields, as decK does.
fn fill(fields: &Value, entity: &mut Map<String, Value>) {
    for field in fields.as_array().unwrap() {
        let (name, about) = field.as_object().unwrap().iter().next().unwrap();
        if let Some(inner) = about.get("fields").filter(|_| about["type"] == "record") {
            let value = entity.entry(name).or_insert_with(|| json!({}));
            if let Value::Object(map) = value {
                fill(inner, map);
            }
        } else if let (false, Some(default)) = (entity.contains_key(name), about.get("default")) {
            entity.insert(name.clone(), default.clone());
        }
    }
}

/// What was sent is there, in the same type and order; beside it only nulls, which decK takes for nothing.
fn assert_shows(found: &Value, sent: &Value, path: &str) {
    match (found, sent) {
        (Value::Object(found), Value::Object(sent)) => {
            for (name, value) in found {
                match sent.get(name) {
                    Some(sent) => assert_shows(value, sent, &format!("{path}.{name}")),
                    None => assert!(value.is_null(), "{path}.{name}: {value}"),
                }
            }
            let missing = sent.keys().find(|name| !found.contains_key(*name));
            assert_eq!(missing, None, "{path}");
        }
        _ => assert_eq!(found, sent, "{path}"),
    }
}

fn put_all(admin: &mut Admin) {
    for (path, schema, body) in wanted() {
        let schema = admin.get(&format!("/schemas/{schema}")).expect(200);
        let Value::Object(mut entity) = body else {
            panic!("an entity")
        };
        fill(&schema["fields"], &mut entity);
        // decK sends back when it was made, as it was read.
        let known = admin.get(&path).body;
        if let Some(time) = known
            .get("created_at")
            .or(known["consumer_group"].get("created_at"))
        {
            entity.insert("created_at".to_owned(), time.clone());
        }
        let sent = Value::Object(entity.clone());
        let answer = admin.send("PUT", &path, sent.clone());
        if answer.status == 404 && path.contains("/targets/") {
            let collection = path.rsplit_once('/').unwrap().0;
            admin.send("POST", collection, sent).expect(201);
        } else {
            answer.expect(200);
        }
        let found = admin.get(&path).expect(200);
        let found = found
            .get("consumer_group")
            .filter(|group| group.is_object())
            .unwrap_or(&found);
        for (name, value) in &entity {
            assert_shows(&found[name], value, &format!("{path}: {name}"));
        }
    }
    let joined = admin.send(
        "POST",
        &format!("/consumer_groups/{GROUP}/consumers"),
        json!({"consumer": CONSUMER}),
    );
    joined.expect(201);
}

fn read_all(admin: &mut Admin) -> Vec<Value> {
    assert_eq!(admin.get("/").expect(200)["version"], "3.9.1");
    let mut all = Vec::new();
    for path in [
        "/services",
        "/routes",
        "/plugins",
        "/certificates",
        "/snis",
        "/upstreams",
        "/consumers",
        "/ca_certificates",
        "/vaults",
        "/keys",
        "/key-sets",
        "/key-auths",
        "/basic-auths",
        "/hmac-auths",
        "/jwts",
        "/oauth2",
        "/acls",
        "/consumer_groups",
    ] {
        all.push(admin.get(&format!("{path}?size=1000")).expect(200));
    }
    all.push(
        admin
            .get(&format!("/upstreams/{UPSTREAM}/targets?size=1000"))
            .expect(200),
    );
    all.push(admin.get("/consumer_groups/gold").expect(200));
    all
}

/// When it was last changed is not compared.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.remove("updated_at");
            map.values_mut()
                .for_each(|value| *value = without_times(value.take()));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = without_times(item.take())),
        _ => {}
    }
    value
}

#[test]
fn decks_sequence_replayed_finds_nothing_to_change() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    put_all(&mut admin);
    let first: Vec<Value> = read_all(&mut admin).into_iter().map(without_times).collect();
    put_all(&mut admin);
    let second: Vec<Value> = read_all(&mut admin).into_iter().map(without_times).collect();
    assert_eq!(first, second);
    assert_eq!(second.last().unwrap()["consumers"][0]["username"], "alice");
    for (path, ..) in wanted().into_iter().rev() {
        assert_eq!(admin.send("DELETE", &path, Value::Null).status, 204, "{path}");
    }
    let left = read_all_but_gone(&mut admin);
    assert!(left.iter().all(|list| list["data"] == json!([])), "{left:?}");
}

fn read_all_but_gone(admin: &mut Admin) -> Vec<Value> {
    let paths = [
        "/services",
        "/routes",
        "/plugins",
        "/upstreams",
        "/consumers",
        "/key-auths",
        "/acls",
        "/consumer_groups",
    ];
    paths.map(|path| admin.get(path).expect(200)).into()
}
