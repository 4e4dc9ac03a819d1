//! The verbs that talk to a running proxy, from the outside: the real binary against a real gateway.

use serde_json::{Value, json};

use crate::harness::{Authority, Client, Command, Gateway, Origin, Request, targets};

/// A Service on blue, and green beside it.
fn config(blue: &Origin, green: &Origin) -> String {
    format!(
        "server: {{timeouts: {{target_drain: unlimited}}}}\nservices:\n- {{name: shop, host: blue, routes: [{{name: all, paths: [\"/\"]}}]}}\nupstreams:\n- name: blue\n{}- name: green\n{}",
        targets(&[(blue, 1)]),
        targets(&[(green, 1)])
    )
}

/// Runs a verb against a gateway; returns exit code, standard output and standard error.
fn serin(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = format!("http://{}", gateway.admin_address());
    Command::new(arguments)
        .argument("--admin")
        .argument(&admin)
        .finish()
}

#[track_caller]
fn check(gateway: &Gateway, arguments: &[&str], expected: &str) {
    let (code, out, error) = serin(gateway, arguments);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    assert_eq!(out.trim_end(), expected.trim_end(), "{arguments:?}");
}

/// A client in the middle of an answer of this origin.
fn open_stream(gateway: &Gateway, origin: &Origin) -> Client {
    origin.stream();
    let mut client = gateway.client();
    client.send(Request::get("/events").to_bytes());
    assert_eq!(client.receive_head().0, 200);
    origin.send_part("one");
    assert_eq!(client.receive_chunk().as_deref(), Some(&b"one"[..]));
    client
}

#[test]
fn switch_moves_a_service_and_says_how_to_go_back() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    assert_eq!(gateway.get("/").text(), "blue");
    check(
        &gateway,
        &["switch", "shop", "green"],
        "shop: blue → green, generation 2\nblue: drained\nto go back: serin switch shop blue",
    );
    assert_eq!(gateway.get("/").text(), "green");
    check(&gateway, &["switch", "shop", "green"], "shop is on green already");
    check(
        &gateway,
        &["switch", "shop", "blue"],
        "shop: green → blue, generation 3\ngreen: drained\nto go back: serin switch shop green",
    );
}

#[test]
fn switch_tells_what_is_left_under_way() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    let mut client = open_stream(&gateway, &blue);
    let (code, out, _) = serin(&gateway, &["switch", "shop", "green", "--wait", "0s"]);
    assert_eq!(
        (code, out.as_str()),
        (
            Some(2),
            "shop: blue → green, generation 2\nblue: 1 in flight after 0s, and they go on; see serin get upstreams/blue/drain\nto go back: serin switch shop blue\n"
        )
    );
    // And with time, it waits for the end.
    serin(&gateway, &["switch", "shop", "blue"]);
    let admin = format!("http://{}", gateway.admin_address());
    let waiting = std::thread::spawn(move || {
        Command::new(&["switch", "shop", "green", "--wait", "20s", "--admin", &admin]).finish()
    });
    gateway.wait_for_generation(4);
    blue.end_stream();
    assert_eq!(client.receive_chunk(), None);
    let (code, out, _) = waiting.join().unwrap();
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.ends_with("blue: drained\nto go back: serin switch shop blue\n"),
        "{out}"
    );
}

#[test]
fn switch_refuses_the_void_unless_forced() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    let target = green.address().to_string();
    check(
        &gateway,
        &["targets", "set-weight", "green", &target, "0"],
        &format!("green {target}: weight 1 → 0, generation 2"),
    );
    let (code, out, error) = serin(&gateway, &["switch", "shop", "green"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        error,
        "error: upstream 'green' has targets (1), but none may be chosen now, so that every request would be answered 503; see /upstreams/green/health, or add ?force=true (409); shop stays on blue\n  hint: --force switches all the same\n"
    );
    let (code, _, error) = serin(&gateway, &["switch", "shop", "gren"]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "error: there is no upstream 'gren', shop stays on blue\n  hint: 'serin get upstreams' lists those that there are; --force takes it as the name of a host\n"
        )
    );
    let (code, _, error) = serin(&gateway, &["switch", "shp", "green"]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "error: there is no service 'shp'\n  hint: 'serin get services' lists those that there are\n"
        )
    );
    assert_eq!(gateway.get("/").text(), "blue");
    let (code, out, _) = serin(&gateway, &["switch", "shop", "green", "--force"]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(gateway.get("/").status, 503);
}

#[test]
fn status_counts_and_tells_of_drift() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    let (code, out, error) = serin(&gateway, &["status"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let version = env!("CARGO_PKG_VERSION");
    let start = format!(
        "phase       ready\nversion     {version}\ngeneration  1\nentities    1 service, 1 route, 2 upstreams, 0 consumers\ndrift       none: what the files say is in force\nreload      taken at "
    );
    assert!(out.starts_with(&start), "{out}");
    serin(&gateway, &["patch", "services", "shop", "retries=1"]);
    let (_, out, _) = serin(&gateway, &["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&status["generation"], &status["drifted"], &status["upstreams"]),
        (&json!(2), &json!(1), &json!(2))
    );
    // A file that is refused shows.
    gateway.write_config("services: [{name: 5}]");
    gateway.wait_for_metric("serin_config_last_reload_successful", &[], 0.0);
    let (_, out, _) = serin(&gateway, &["status"]);
    assert!(
        out.contains("\ndrift       1 entity differs from the files; see serin diff\n"),
        "{out}"
    );
    assert!(
        out.contains("\nreload      refused; the last that was taken was at "),
        "{out}"
    );
}

#[test]
fn get_prints_entities_and_whole_lists() {
    let gateway = Gateway::start("");
    let mut admin = gateway.admin();
    for number in 0..250 {
        let consumer = json!({"username": format!("user-{number}")});
        admin.send("POST", "/consumers", consumer).expect(201);
    }
    let (code, out, _) = serin(&gateway, &["get", "consumers"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list.as_array().unwrap().len()), (Some(0), 250));
    let (_, out, _) = serin(&gateway, &["get", "consumers", "user-7"]);
    let one: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(one["username"], "user-7");
    let (code, out, error) = serin(&gateway, &["get", "consumers", "nobody"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        error.starts_with("error: Not found (404)\n  hint: nothing is at /consumers/nobody;"),
        "{error}"
    );
}

#[test]
fn patch_changes_fields_by_name() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    let (code, out, error) = serin(
        &gateway,
        &[
            "patch",
            "services",
            "shop",
            "retries=2",
            "tags=[\"a\"]",
            "path=/api",
        ],
    );
    assert_eq!((code, error.as_str()), (Some(0), "generation 2 is in force\n"));
    let shop: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&shop["retries"], &shop["tags"], &shop["path"]),
        (&json!(2), &json!(["a"]), &json!("/api"))
    );
    let (_, out, _) = serin(
        &gateway,
        &["patch", "upstreams", "green", "healthchecks.active.timeout=3"],
    );
    let green: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(green["healthchecks"]["active"]["timeout"], 3);
    let (code, out, error) = serin(&gateway, &["patch", "services", "shop", "retries=many"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        error.starts_with("error: schema violation (retries: expected an integer) (400)\n"),
        "{error}"
    );
}

#[test]
fn diff_shows_drift_and_compares_files() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let gateway = Gateway::start(&config(&blue, &green));
    let file = gateway.config_path().display().to_string();
    check(&gateway, &["diff"], "no difference");
    let compare = |file: &str| {
        let admin = format!("http://{}", gateway.admin_address());
        Command::new(&["diff", file])
            .variable("SERIN_ADMIN", &admin)
            .finish()
    };
    assert_eq!(compare(&file).1, "no difference\n");
    serin(&gateway, &["switch", "shop", "green"]);
    let mut admin = gateway.admin();
    admin
        .send("POST", "/consumers", json!({"username": "alice"}))
        .expect(201);
    admin
        .send("POST", "/consumers/alice/key-auth", json!({"key": "hunter2"}))
        .expect(201);
    let (code, out, _) = serin(&gateway, &["diff"]);
    assert_eq!(code, Some(1));
    let expected = "services shop\n  host: \"blue\" → \"green\"\n";
    assert!(out.contains(expected), "{out}");
    assert!(
        out.contains("consumers alice: in force, not in the file\n"),
        "{out}"
    );
    assert!(out.ends_with("\n3 entities differ, file → in force\n"), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
    let (code, compared, error) = compare(&file);
    assert_eq!((code, compared, error.as_str()), (Some(1), out, ""));
    // What is exported is what is in force.
    let exported = gateway.folder().join("exported.yaml").display().to_string();
    check(&gateway, &["export", "--output", &exported], "");
    assert_eq!(compare(&exported).1, "no difference\n");
    let (_, printed, _) = serin(&gateway, &["export"]);
    assert_eq!(printed, std::fs::read_to_string(&exported).unwrap());
    let (code, _, error) = compare("nothing.yaml");
    assert_eq!(code, Some(1));
    assert!(error.contains("nothing.yaml"), "{error}");
}

/// A certificate is referred to by its id, from where it is shown to origins and from its own names.
#[test]
fn an_export_with_a_client_certificate_says_the_same_when_it_is_loaded() {
    let authority = Authority::new();
    let (cert, key) = authority.pair(&["client.example"]);
    let id = "5d1f1a3e-0000-4000-8000-000000000001";
    let mut config = format!(
        "certificates:\n- {{id: {id}, cert: {cert:?}, key: {key:?}, snis: [{{name: a.example}}, {{name: b.example}}]}}\nupstreams:\n- {{name: pool, client_certificate: {id}, targets: [{{target: '127.0.0.1:9'}}]}}\nservices:\n"
    );
    for number in 0..3 {
        config += &format!(
            "- {{name: shop-{number}, protocol: https, host: pool, client_certificate: {id}, routes: [{{name: one-{number}, paths: [/{number}]}}, {{name: two-{number}, paths: [/{number}{number}], plugins: [{{name: key-auth}}]}}]}}\n"
        );
    }
    let gateway = Gateway::start(&config);
    let exported = gateway.folder().join("exported.yaml").display().to_string();
    check(&gateway, &["export", "--output", &exported], "");
    let text = std::fs::read_to_string(&exported).unwrap();
    assert_eq!(
        text.matches(&format!("client_certificate: {id}")).count(),
        4,
        "{text}"
    );
    assert!(
        !text.contains("\nroutes:") && !text.contains("\nsnis:") && !text.contains("\nplugins:"),
        "{text}"
    );
    let admin = format!("http://{}", gateway.admin_address());
    let (code, out, error) = Command::new(&["diff", &exported])
        .variable("SERIN_ADMIN", &admin)
        .finish();
    assert_eq!(
        (code, out.as_str(), error.as_str()),
        (Some(0), "no difference\n", "")
    );
}

#[test]
fn explain_says_online_what_it_says_offline() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    let config = config(&blue, &green).replace(
        "host: blue,",
        "host: blue, plugins: [{name: canary, config: {upstream_host: green, percentage: 50, hash: header, hash_header: x-user, salt: s}}],",
    );
    let gateway = Gateway::start(&config);
    let file = gateway.config_path().display().to_string();
    for arguments in [
        vec!["--header", "X-User: alice"],
        vec!["--url", "/cart", "--method", "POST"],
    ] {
        let offline = [&["explain", &file], &arguments[..]].concat();
        let (_, offline, _) = Command::new(&offline).finish();
        check(&gateway, &[&["explain"], &arguments[..]].concat(), &offline);
    }
    let (_, out, _) = serin(&gateway, &["explain", "--format", "json"]);
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["generation"], 1);
    let (code, _, error) = serin(&gateway, &["explain", "--consumer", "mallory"]);
    assert_eq!(
        (code, error.as_str()),
        (
            Some(1),
            "error: consumer: no consumer has the username or id 'mallory' (400)\n"
        )
    );
    // What only files can answer.
    let (code, _, error) = serin(&gateway, &["explain", "--many", "5"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn whoever_cannot_get_in_learns_what_to_try() {
    let token = "a token of sixteen bytes and more";
    let gateway = Gateway::start(&format!(
        "server:\n  admin: {{address: 127.0.0.1:0, token: {token}}}\n"
    ));
    let (code, out, error) = serin(&gateway, &["status"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        error,
        "error: a token is needed: send it as 'Authorization: Bearer …' or 'Kong-Admin-Token' (401)\n  hint: set SERIN_ADMIN_TOKEN, or name a file that holds it with --token-file\n"
    );
    let admin = format!("http://{}", gateway.admin_address());
    let by_variable = Command::new(&["status"])
        .variable("SERIN_ADMIN", &admin)
        .variable("SERIN_ADMIN_TOKEN", token);
    assert_eq!(by_variable.finish().0, Some(0));
    let by_file = Command::new(&["status", "--token-file", "token", "--admin", &admin])
        .file("token", &format!("{token}\n"));
    assert_eq!(by_file.finish().0, Some(0));

    let clients = format!("http://{}", gateway.address());
    let (_, _, error) = Command::new(&["get", "services", "--admin", &clients]).finish();
    assert!(error.contains("(404)"), "{error}");
    drop(gateway);
    let (code, _, error) = Command::new(&["status", "--admin", &admin]).finish();
    assert_eq!(code, Some(1));
    assert_eq!(
        error,
        format!(
            "error: cannot connect to the Admin API at {admin}: Connection refused (os error 111)\n  hint: is 'serin run' up, and its server.admin.address this one? --admin or SERIN_ADMIN names another\n"
        )
    );
    let (_, _, error) = Command::new(&["status", "--admin", "https://127.0.0.1:1"]).finish();
    assert_eq!(
        error,
        "error: 'https://127.0.0.1:1' is no address of an Admin API\n  hint: write it as http://HOST:PORT; it is served in plain, TLS is for a proxy in front\n"
    );
}
