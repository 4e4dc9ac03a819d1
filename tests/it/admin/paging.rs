//! Lists in pages that stay put while others write.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::Gateway;

#[test]
fn pages_of_three_show_what_stays_once_while_others_come_and_go() {
    const STAY: usize = 20;
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    let mut stay: Vec<String> = Vec::new();
    for number in 0..STAY {
        let made = admin.send(
            "POST",
            "/services",
            json!({"name": format!("stay-{number}"), "host": "h"}),
        );
        stay.push(made.expect(201)["id"].as_str().unwrap().to_owned());
    }
    stay.sort();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut admin = gateway.admin();
            while !is_over.load(Ordering::Acquire) {
                let made = admin.send("POST", "/services", json!({"host": "h"})).expect(201);
                let path = format!("/services/{}", made["id"].as_str().unwrap());
                assert_eq!(admin.send("DELETE", &path, Value::Null).status, 204);
            }
        });
        for _ in 0..20 {
            let (mut seen, mut path) = (Vec::new(), "/services?size=3".to_owned());
            loop {
                let page = admin.get(&path).expect(200);
                let items = page["data"].as_array().unwrap();
                assert!(items.len() <= 3);
                seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
                match page["offset"].as_str() {
                    Some(offset) => {
                        assert!(page["next"].as_str().unwrap().contains(offset));
                        path = format!("/services?size=3&offset={offset}");
                    }
                    None => break assert_eq!(page["next"], Value::Null),
                }
            }
            seen.retain(|id| stay.contains(id));
            assert_eq!(seen, stay);
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn lists_are_chosen_from_by_tags() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    for (name, tags) in [("a", json!(["x"])), ("b", json!(["x", "y"])), ("c", json!(["y"]))] {
        admin
            .send(
                "POST",
                "/services",
                json!({"name": name, "host": "h", "tags": tags}),
            )
            .expect(201);
    }
    let mut names = |query: &str| {
        let list = admin.get(&format!("/services?{query}")).expect(200);
        let items = list["data"].as_array().unwrap().clone();
        let mut names: Vec<String> = items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("tags=x,y"), ["b"]);
    assert_eq!(names("tags=x/y"), ["a", "b", "c"]);
    assert_eq!(names("tags=y"), ["b", "c"]);
    assert_eq!(
        admin.get("/services?tags=x,y/z").expect(400)["message"],
        "invalid option (tags: invalid filter syntax)"
    );
    assert_eq!(
        admin.get("/services?size=x").expect(400)["message"],
        "size must be a number"
    );
    assert_eq!(admin.get("/services?offset=%21").status, 400);
    assert_eq!(
        admin.get("/tags/x").expect(200)["data"].as_array().unwrap().len(),
        2
    );
}
