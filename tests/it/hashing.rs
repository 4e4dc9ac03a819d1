//! Consistent hashing: who reaches which target, and who has to move.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Client, Command, Gateway, Origin, Request, Response, targets};

const SECRET: &str = "server:\n  secret: an-example-secret-of-more-than-32-bytes\n";

/// A ring over Targets of equal weight behind a Route that captures `/users/{user}`.
fn ring(server: &str, hash: &str, origins: &[&Origin]) -> String {
    let equal: Vec<_> = origins.iter().map(|origin| (*origin, 100)).collect();
    format!(
        r#"{server}services:
- name: shop
  host: shop
  routes:
  - {{name: users, paths: ["~/users/(?<user>[^/]+)"], strip_path: false}}
  - {{name: all, paths: ["/"], strip_path: false}}
upstreams:
- name: shop
  algorithm: consistent-hashing
  {hash}
{}"#,
        targets(&equal)
    )
}

const BY_USER: &str = "hash_on: header\n  hash_on_header: x-user";

fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

/// Sends a GET for each user and returns who answered whom.
fn owners(gateway: &Gateway, users: usize) -> BTreeMap<String, String> {
    let mut client = gateway.client();
    let users = (0..users).map(|user| format!("user-{user}"));
    users
        .map(|user| {
            let response = client.exchange(&Request::get("/").header("X-User", &user));
            assert_eq!(response.status, 200);
            (user, response.text())
        })
        .collect()
}

/// Insists that a key reaches one target however often it comes, and that keys use all targets.
fn check_sticky(gateway: &Gateway, keys: usize, request: impl Fn(usize) -> Request) {
    let mut client = gateway.client();
    let mut send = |key| client.exchange(&request(key)).text();
    let first: Vec<_> = (0..keys).map(&mut send).collect();
    let second: Vec<_> = (0..keys).map(&mut send).collect();
    assert_eq!(first, second);
    for name in ["a", "b", "c"] {
        assert!(first.iter().any(|owner| owner == name), "{name} has no key");
    }
}

#[test]
fn a_header_decides() {
    let origins = three();
    let gateway = Gateway::start(&ring(SECRET, BY_USER, &origins.each_ref()));
    check_sticky(&gateway, 60, |key| {
        Request::get(&format!("/{key}")).header("X-User", &format!("{key}"))
    });
}

#[test]
fn the_address_of_the_client_decides() {
    let origins = three();
    let gateway = Gateway::start(&ring("", "hash_on: ip", &origins.each_ref()));
    let owners = || {
        let of = |host| {
            let mut client = Client::connect_from([127, 0, 1, host], gateway.address());
            client.get("/").text()
        };
        (1..=40).map(of).collect::<Vec<_>>()
    };
    let first = owners();
    assert_eq!(first, owners());
    for name in ["a", "b", "c"] {
        assert!(first.iter().any(|owner| owner == name), "{name} has no address");
    }
}

#[test]
fn the_address_that_a_trusted_peer_names_decides() {
    let origins = three();
    let server = "server:\n  trusted_ips: [127.0.0.1]\n";
    let gateway = Gateway::start(&ring(server, "hash_on: ip", &origins.each_ref()));
    check_sticky(&gateway, 60, |key| {
        Request::get("/").header("X-Forwarded-For", &format!("192.0.2.{key}"))
    });
    // From a peer that is not trusted the same header says nothing.
    let mut client = Client::connect_from([127, 0, 0, 2], gateway.address());
    let mut of = |host: u8| {
        client
            .exchange(&Request::get("/").header("X-Forwarded-For", &format!("192.0.2.{host}")))
            .text()
    };
    let first = of(0);
    assert_eq!((1..60).map(of).collect::<Vec<_>>(), vec![first; 59]);
}

/// The cookie that the gateway set, without its attributes.
fn issued(response: &Response) -> String {
    let set = response.header("Set-Cookie").unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// 200 random keys on three rings' worth of equal weight: 67 each on average, with a standard
/// deviation of 7; below 25 is six deviations off, once in a thousand million runs.
#[test]
fn a_cookie_is_issued_and_brings_its_client_back() {
    let origins = three();
    let hash = "hash_on: cookie\n  hash_on_cookie: session\n  hash_on_cookie_path: /shop";
    let gateway = Gateway::start(&ring(SECRET, hash, &origins.each_ref()));
    let mut client = gateway.client();
    for _ in 0..200 {
        let first = client.get("/");
        let set = first.header("Set-Cookie").unwrap();
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/shop; SameSite=Lax; HttpOnly");
        let value = cookie.strip_prefix("session=").unwrap();
        assert_eq!(uuid::Uuid::parse_str(value).unwrap().get_version_num(), 4);
        let again = client.exchange(&Request::get("/").header("Cookie", &format!("lang=en; {cookie}")));
        assert_eq!(again.text(), first.text());
        assert_eq!(again.header("Set-Cookie"), None);
    }
    let counts = origins.each_ref().map(Origin::count);
    assert_eq!(counts.iter().sum::<usize>(), 400);
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}

#[test]
fn a_cookie_issued_on_a_failed_try_is_the_one_that_decided() {
    let [mut a, b, c] = three();
    let hash = "hash_on: cookie\n  hash_on_cookie: session";
    let gateway = Gateway::start(&ring(SECRET, hash, &[&a, &b, &c]));
    a.refuse();
    for _ in 0..30 {
        let first = gateway.get("/");
        assert_eq!(first.status, 200);
        let again = gateway.exchange(&Request::get("/").header("Cookie", &issued(&first)));
        assert_eq!(again.text(), first.text());
    }
}

#[test]
fn the_normalised_path_decides_and_the_query_does_not() {
    let origins = three();
    let gateway = Gateway::start(&ring(SECRET, "hash_on: path", &origins.each_ref()));
    check_sticky(&gateway, 60, |key| Request::get(&format!("/items/{key}")));
    let mut client = gateway.client();
    for key in 0..20 {
        let plain = client.get(&format!("/items/{key}")).text();
        for other in [
            format!("/items/{key}?page=2"),
            format!("/x/../items/{key}"),
            format!("//items/%{:X}{}", b'0' + key / 10, key % 10).replace("%30", ""),
        ] {
            assert_eq!(client.get(&other).text(), plain, "{other}");
        }
    }
}

#[test]
fn a_query_argument_decides() {
    let origins = three();
    let hash = "hash_on: query_arg\n  hash_on_query_arg: user";
    let gateway = Gateway::start(&ring(SECRET, hash, &origins.each_ref()));
    check_sticky(&gateway, 60, |key| {
        Request::get(&format!("/{key}?page={key}&user=u{key}"))
    });
    let mut client = gateway.client();
    let mut owner = |target: String| client.get(&target).text();
    for key in 0..20 {
        let one = owner(format!("/?user=u{key}&user=v"));
        assert_eq!(owner(format!("/x?a=b&user=v&user=%75{key}")), one, "key {key}");
    }
}

#[test]
fn a_captured_part_of_the_path_decides() {
    let origins = three();
    let hash = "hash_on: uri_capture\n  hash_on_uri_capture: user";
    let gateway = Gateway::start(&ring(SECRET, hash, &origins.each_ref()));
    check_sticky(&gateway, 60, |key| Request::get(&format!("/users/{key}/cart")));
    let mut client = gateway.client();
    for key in 0..20 {
        let cart = client.get(&format!("/users/{key}/cart")).text();
        assert_eq!(client.get(&format!("/users/{key}/orders/7")).text(), cart);
    }
}

#[test]
fn the_fallback_decides_where_the_first_input_is_missing() {
    let origins = three();
    let hash = format!("{BY_USER}\n  hash_fallback: query_arg\n  hash_fallback_query_arg: guest");
    let gateway = Gateway::start(&ring(SECRET, &hash, &origins.each_ref()));
    check_sticky(&gateway, 60, |key| Request::get(&format!("/?guest={key}")));
    // Where the first input is there, the fallback has no say.
    let mut client = gateway.client();
    for user in 0..20 {
        let request =
            |guest: u8| Request::get(&format!("/?guest={guest}")).header("X-User", &user.to_string());
        let one = client.exchange(&request(1)).text();
        assert_eq!(client.exchange(&request(2)).text(), one);
    }
}

#[test]
fn requests_without_the_input_take_turns() {
    let origins = three();
    let gateway = Gateway::start(&ring(SECRET, BY_USER, &origins.each_ref()));
    let mut client = gateway.client();
    for _ in 0..30 {
        client.get("/");
    }
    assert_eq!(origins.each_ref().map(Origin::count), [10; 3]);
}

#[test]
fn taking_a_target_out_moves_its_keys_only() {
    let [a, b, c] = three();
    let gateway = Gateway::start(&ring(SECRET, BY_USER, &[&a, &b, &c]));
    let before = owners(&gateway, 300);
    gateway.apply(&ring(SECRET, BY_USER, &[&a, &b]));
    let after = owners(&gateway, 300);
    for (user, owner) in &before {
        match owner.as_str() {
            "c" => assert_ne!(after[user], "c"),
            owner => assert_eq!(after[user], owner, "{user}"),
        }
    }
    let heirs: Vec<_> = before.iter().filter(|(_, owner)| *owner == "c").collect();
    for name in ["a", "b"] {
        assert!(
            heirs.iter().any(|(user, _)| after[*user] == name),
            "{name} inherits nothing"
        );
    }
    gateway.apply(&ring(SECRET, BY_USER, &[&a, &b, &c]));
    assert_eq!(owners(&gateway, 300), before);
}

#[test]
fn keys_of_a_target_that_refuses_are_served_by_others_and_come_back() {
    let [mut a, b, c] = three();
    let gateway = Gateway::start(&ring(SECRET, BY_USER, &[&a, &b, &c]));
    let before = owners(&gateway, 100);
    a.refuse();
    for (user, owner) in owners(&gateway, 100) {
        match before[&user].as_str() {
            "a" => assert_ne!(owner, "a"),
            usual => assert_eq!(owner, usual, "{user}"),
        }
    }
    a.accept();
    assert_eq!(owners(&gateway, 100), before);
}

#[test]
fn the_same_secret_means_the_same_targets_in_every_process() {
    let origins = three();
    let with = |secret: &str| ring(secret, BY_USER, &origins.each_ref());
    let mine = owners(&Gateway::start(&with(SECRET)), 100);
    assert_eq!(owners(&Gateway::start(&with(SECRET)), 100), mine);
    let other = SECRET.replace("example", "another");
    assert_ne!(owners(&Gateway::start(&with(&other)), 100), mine);
}

#[test]
fn without_a_secret_one_is_made_for_its_owner_only_and_kept() {
    let origins = three();
    let config = ring("", BY_USER, &origins.each_ref());
    let first = Gateway::start(&config);
    let file = first.folder().join("serin.secret");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(secret.len() >= 32, "{} bytes", secret.len());
    let before = owners(&first, 100);
    drop(first);
    let second = Command::run(&config).file("serin.secret", &secret).start();
    assert_eq!(owners(&second, 100), before);
}

#[test]
fn no_secret_is_made_where_clients_choose_nothing() {
    let origins = three();
    let gateway = Gateway::start(&ring("", "hash_on: ip", &origins.each_ref()));
    assert!(!gateway.folder().join("serin.secret").exists());
}
