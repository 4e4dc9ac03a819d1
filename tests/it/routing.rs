//! Which Route a request finds, and which path the origin is asked for.

use crate::harness::{Client, DEBUG, Gateway, Origin, Request};

/// A gateway whose Routes, written as YAML list items, lead to one origin.
fn routes(origin: &Origin, routes: &[&str]) -> Gateway {
    let address = origin.address();
    let list: String = routes.iter().map(|route| format!("  - {route}\n")).collect();
    Gateway::start(&format!(
        "{DEBUG}services:\n- name: shop\n  url: http://{address}\n  routes:\n{list}"
    ))
}

/// Returns the Route that a request found, or its status where it found none.
fn found(client: &mut Client, request: Request) -> String {
    let response = client.exchange(&request.header("X-Serin-Debug", "1"));
    match response.header("X-Serin-Route") {
        Some(route) => route.to_owned(),
        None => response.status.to_string(),
    }
}

#[test]
fn hosts_are_compared_without_case_and_port_and_wildcards_take_whole_labels() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: plain, hosts: [shop.example]}",
            "{name: below, hosts: ['*.shop.example']}",
            "{name: left, hosts: ['shop.*']}",
            "{name: port, hosts: ['ports.example:8080']}",
        ],
    );
    let mut client = gateway.client();
    for (host, route) in [
        ("shop.example", "plain"),
        ("SHOP.Example", "plain"),
        ("shop.example:9999", "plain"),
        ("a.shop.example", "below"),
        ("a.b.shop.example:80", "below"),
        ("shop.test", "left"),
        ("shop.co.test", "left"),
        ("myshop.example", "404"),
        ("shopexample", "404"),
        ("ports.example:8080", "port"),
        ("ports.example:8081", "404"),
        ("ports.example", "404"),
        ("other.example", "404"),
    ] {
        assert_eq!(found(&mut client, Request::get("/").host(host)), route, "{host}");
    }
}

#[test]
fn paths_match_by_prefix_or_by_expression_from_the_start() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: cart, paths: [/cart]}",
            "{name: items, paths: ['~/items/\\d+$']}",
            "{name: anywhere, paths: ['~/v\\d/']}",
        ],
    );
    let mut client = gateway.client();
    for (path, route) in [
        ("/cart", "cart"),
        ("/cart/7", "cart"),
        ("/cartoon", "cart"),
        ("/cart?x=1", "cart"),
        ("/Cart", "404"),
        ("/a/cart", "404"),
        ("/items/12", "items"),
        ("/items/12/x", "404"),
        ("/items/x", "404"),
        ("/v1/anything", "anywhere"),
        ("/api/v1/", "404"),
        ("/x/../cart", "cart"),
        ("//cart", "cart"),
        ("/c%61rt", "cart"),
    ] {
        assert_eq!(found(&mut client, Request::get(path)), route, "{path}");
    }
}

#[test]
fn methods_and_headers_must_match_too() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: writes, methods: [POST, PUT]}",
            "{name: tester, headers: {x-group: [testers, staff]}}",
            "{name: number, headers: {x-version: ['~*^v[0-9]+$']}}",
            "{name: both, headers: {x-group: [testers], x-version: [v1]}}",
        ],
    );
    let mut client = gateway.client();
    let get = || Request::get("/");
    for (request, route) in [
        (Request::post("/", ""), "writes"),
        (Request::new("PUT", "/"), "writes"),
        (get(), "404"),
        (get().header("X-Group", "testers"), "tester"),
        (get().header("x-group", "STAFF"), "tester"),
        (get().header("X-Group", "guests"), "404"),
        (
            get().header("X-Group", "guests").header("X-Group", "staff"),
            "tester",
        ),
        (get().header("X-Version", "v17"), "number"),
        (get().header("X-Version", "17"), "404"),
        (
            get().header("X-Version", "v1").header("X-Group", "testers"),
            "both",
        ),
    ] {
        let label = format!("{request:?}");
        assert_eq!(found(&mut client, request), route, "{label}");
    }
}

#[test]
fn the_more_specific_route_wins_whatever_the_order() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: root, paths: [/]}",
            "{name: short, paths: [/shop]}",
            "{name: long, paths: [/shop/cart]}",
            "{name: regex-low, paths: ['~/shop/c'], regex_priority: 1}",
            "{name: regex-high, paths: ['~/shop/ca[a-z]+/x'], regex_priority: 2}",
            "{name: host, hosts: [one.example], paths: [/else]}",
            "{name: wildcard, hosts: ['*.example'], paths: [/]}",
            "{name: host-and-path, hosts: [one.example], paths: [/shop]}",
            "{name: method-and-path, methods: [DELETE], paths: [/]}",
            "{name: all-three, hosts: [one.example], paths: [/], methods: [DELETE]}",
        ],
    );
    let mut client = gateway.client();
    for (method, host, path, route) in [
        ("GET", "none", "/", "root"),
        ("GET", "none", "/shop", "short"),
        ("GET", "none", "/shop/b", "short"),
        // An expression wins over a prefix of any length, the higher priority over the lower.
        ("GET", "none", "/shop/cart", "regex-low"),
        ("GET", "none", "/shop/cart/x", "regex-high"),
        // Plain host before wildcard; host and path before either; more kinds before fewer.
        ("GET", "one.example", "/else", "host"),
        ("GET", "two.example", "/else", "wildcard"),
        ("OPTIONS", "two.example", "*", "wildcard"),
        ("GET", "one.example", "/shop/cart/x", "host-and-path"),
        ("DELETE", "none", "/shop/cart/x", "method-and-path"),
        ("DELETE", "one.example", "/shop", "all-three"),
    ] {
        let request = Request::new(method, path).host(host);
        assert_eq!(found(&mut client, request), route, "{method} {host}{path}");
    }
}

/// In the file the younger ones come first, and one that does not say comes before one that does.
#[test]
fn of_equal_routes_the_older_wins_and_then_the_first_in_the_file() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: timeless, paths: [/a]}",
            "{name: young, paths: [/a, /b], created_at: 1700000020}",
            "{name: old, paths: [/a, /b], created_at: 1700000010}",
            "{name: first, paths: [/c]}",
            "{name: second, paths: [/c]}",
            "{name: specific, paths: [/b/long], created_at: 1700000030}",
        ],
    );
    let mut client = gateway.client();
    for (path, route) in [
        ("/a", "old"),
        ("/b", "old"),
        ("/c", "first"),
        ("/b/long", "specific"),
    ] {
        assert_eq!(found(&mut client, Request::get(path)), route, "{path}");
    }
}

/// Which name a handshake asks for decides by TLS only.
#[test]
fn in_the_clear_a_server_name_excludes_nothing() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: both, paths: [/both], snis: [elsewhere.example], protocols: [http, https]}",
            "{name: tls, paths: [/tls], snis: [elsewhere.example], protocols: [https]}",
            "{name: path, paths: [/both]}",
        ],
    );
    let mut client = gateway.client();
    // It counts as a kind of attribute all the same, so it goes before the Route of a path alone.
    assert_eq!(found(&mut client, Request::get("/both")), "both");
    assert_eq!(client.get("/tls").status, 426);
}

#[test]
fn an_absolute_request_is_served_if_its_host_field_agrees() {
    let origin = Origin::start("a");
    let gateway = routes(&origin, &["{name: one, hosts: [one.example]}"]);
    let mut client = gateway.client();
    let request = Request::get("http://one.example/path?q=1").host("one.example");
    assert_eq!(client.exchange(&request).status, 200);
    let seen = origin.only();
    assert_eq!(seen.target, "/path?q=1");
    assert_eq!(seen.header("X-Forwarded-Path"), Some("/path"));
    // Who says two things is refused, lest the origin believe the other one.
    let request = Request::get("http://one.example/").host("two.example");
    assert_eq!(client.exchange(&request).status, 400);
    assert_eq!(origin.count(), 1);
}

/// Service path, Route path, `strip_path`, request → what the origin is asked for.
#[test]
fn paths_are_stripped_and_joined_as_kong_does() {
    let cases = [
        ("/", "/route", true, "/routereq", "/req"),
        ("/srv", "/rou", false, "/roureq", "/srv/roureq"),
        ("/srv", "/rou", true, "/roureq", "/srv/req"),
        ("/srv/", "/rou", true, "/rou", "/srv"),
        ("/service", "/", true, "/route/", "/service/route/"),
        ("/service", "/", false, "/route/", "/service/route/"),
        ("/service", "/route", true, "/route/", "/service/"),
        ("/service", "/route/", true, "/route/", "/service/"),
        ("/service/", "/route", true, "/route", "/service"),
        ("/service", "/", false, "/", "/service"),
        ("/service", "/route", true, "/route%2E/req", "/service/req"),
        // What is left after stripping must not lead out of the Service's path.
        ("/service", "/route", true, "/route../secret", "/service/secret"),
        ("/service", "/route", true, "/route..", "/service"),
        ("/", "/", false, "/a/b?x=1&y=%20", "/a/b?x=1&y=%20"),
        ("/", "/a", true, "/a/b?", "/b?"),
        ("/", "/a", true, "/a?x", "/?x"),
        ("/", "/", false, "/a%2Fb", "/a%2Fb"),
        ("/", "/", false, "/%7Euser/%c3%a9", "/~user/%C3%A9"),
        ("/", "/", false, "/a/./b/../c//d", "/a/c/d"),
        ("/", "~/v\\d+", true, "/v12/cart", "/cart"),
        ("/api", "~/v\\d+/", true, "/v12/cart?q", "/api/cart?q"),
    ];
    let origin = Origin::start("a");
    let address = origin.address();
    let mut config = String::from("services:\n");
    for (number, (service, route, strip, ..)) in cases.iter().enumerate() {
        let (host, port) = (address.ip(), address.port());
        config += &format!(
            "- {{name: s{number}, host: {host}, port: {port}, path: '{service}', routes: \
             [{{name: r{number}, hosts: [h{number}.example], paths: ['{route}'], strip_path: {strip}}}]}}\n"
        );
    }
    let gateway = Gateway::start(&config);
    let mut client = gateway.client();
    for (number, (service, route, strip, target, upstream)) in cases.iter().enumerate() {
        origin.forget();
        let response = client.exchange(&Request::get(target).host(&format!("h{number}.example")));
        assert_eq!(response.status, 200);
        assert_eq!(
            origin.only().target,
            *upstream,
            "{service} + {route}, strip {strip}: {target}"
        );
    }
}

#[test]
fn a_path_of_encoded_bytes_is_carried_through_and_one_of_raw_bytes_is_not() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: all, paths: [/]}",
            "{name: stripped, paths: ['~/caf[^/]+']}",
        ],
    );
    let mut client = gateway.client();
    for (target, upstream) in [("/b%C3%A9/x", "/b%C3%A9/x"), ("/caf%C3%A9/x", "/x")] {
        origin.forget();
        assert_eq!(client.get(target).status, 200, "{target}");
        assert_eq!(origin.only().target, upstream);
    }
    client.get("/b\u{e9}/x").assert_own_answer(400, "Bad request");
    assert_eq!(origin.count(), 1);
}

#[test]
fn no_route_is_a_404_and_the_connection_serves_on() {
    let origin = Origin::start("a");
    let gateway = routes(&origin, &["{name: shop, paths: [/shop]}"]);
    let mut client = gateway.client();
    let mut ids = Vec::new();
    for request in [
        Request::get("/nothing"),
        Request::post("/nothing", "GET /shop HTTP/1.1\r\nHost: smuggled\r\n\r\n"),
        Request::get("/nothing").header("Accept", "application/json"),
    ] {
        let response = client.exchange(&request);
        response.assert_own_answer(404, "no Route matched with those values");
        ids.push(response.header("X-Kong-Request-Id").unwrap().to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each request has its own id");
    assert_eq!(client.get("/shop").text(), "a");
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_own_answer_to_head_has_no_body() {
    let origin = Origin::start("a");
    let gateway = routes(&origin, &["{name: shop, paths: [/shop]}"]);
    let mut client = gateway.client();
    let response = client.exchange(&Request::new("HEAD", "/nothing"));
    assert_eq!(response.status, 404);
    assert_ne!(response.header("Content-Length"), Some("0"));
    assert_eq!(client.exchange(&Request::new("HEAD", "/shop")).status, 200);
    assert_eq!(client.get("/shop").text(), "a");
}

#[test]
fn a_route_without_a_service_is_a_503_and_the_connection_serves_on() {
    let gateway = Gateway::start("routes:\n- {name: lonely, paths: [/]}\n");
    let mut client = gateway.client();
    for _ in 0..2 {
        client
            .get("/")
            .assert_own_answer(503, "no Service found with those values");
    }
}

#[test]
fn the_routes_of_a_disabled_service_leave_the_table() {
    let origin = Origin::start("a");
    let config = |enabled: bool| {
        format!(
            "services:\n- {{name: shop, url: 'http://{}', enabled: {enabled}, routes: [{{name: r, paths: [/]}}]}}\n",
            origin.address()
        )
    };
    let gateway = Gateway::start(&config(false));
    assert_eq!(gateway.get("/").status, 404);
    gateway.apply(&config(true));
    assert_eq!(gateway.get("/").status, 200);
    gateway.apply(&config(false));
    assert_eq!(gateway.get("/").status, 404);
}

#[test]
fn a_route_for_https_only_tells_plain_clients_where_to_go() {
    let origin = Origin::start("a");
    let gateway = routes(
        &origin,
        &[
            "{name: strict, paths: [/strict], protocols: [https]}",
            "{name: moved, paths: [/moved], protocols: [https], https_redirect_status_code: 308}",
        ],
    );
    let mut client = gateway.client();
    let response = client.get("/strict");
    response_is_upgrade(&response);
    let response = client.exchange(&Request::get("/moved/x?q=1").host("shop.example:8000"));
    assert_eq!(response.status, 308);
    assert_eq!(
        response.header("Location"),
        Some("https://shop.example/moved/x?q=1")
    );
    assert_eq!(origin.count(), 0);
}

fn response_is_upgrade(response: &crate::harness::Response) {
    response.assert_own_answer(426, "Please use HTTPS protocol");
    assert_eq!(response.header("Upgrade"), Some("TLS/1.2, HTTP/1.1"));
}

#[test]
fn a_request_with_two_hosts_or_none_is_refused() {
    let origin = Origin::start("a");
    let gateway = routes(&origin, &["{name: all, paths: [/]}"]);
    // RFC 9112 §3.2: a server must answer 400.
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
    ] {
        let mut client = gateway.client();
        client.send(bytes);
        assert_eq!(client.receive().status, 400, "{bytes:?}");
    }
    assert_eq!(origin.count(), 0);
}
