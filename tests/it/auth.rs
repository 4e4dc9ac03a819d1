//! Consumers and who passes as one: keys, passwords, tokens, groups, and what the origin is told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::harness::{Gateway, Origin, Received, Request, Response};

/// A private key of `tests/data/keys`.
fn private_key(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/data/keys/{name}.pem",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// A public key, as a block in YAML under `indent` spaces.
fn public_key(name: &str, indent: usize) -> String {
    let path = format!("{}/tests/data/keys/{name}.pub.pem", env!("CARGO_MANIFEST_DIR"));
    let pem = std::fs::read_to_string(path).unwrap();
    let lines = pem.lines().map(|line| format!("\n{:indent$}{line}", ""));
    format!("|{}", lines.collect::<String>())
}

/// People: `alice` with one of everything, `bob` with a key and in no group, `guest` with nothing.
fn consumers() -> String {
    format!(
        r#"consumers:
- username: alice
  id: 00000000-0000-4000-8000-00000000000a
  custom_id: a-7
  keyauth_credentials: [{{id: 00000000-0000-4000-8000-0000000000aa, key: alice-key}}]
  basicauth_credentials: [{{username: al, password: "pass:word"}}]
  acls: [{{group: staff}}, {{group: testers}}]
  jwt_secrets:
  - {{key: hmac, secret: an-hmac-secret}}
  - {{key: base64, algorithm: HS512, secret: c2VjcmV0}}
  - key: rsa
    algorithm: RS256
    rsa_public_key: {}
  - key: es256
    algorithm: ES256
    rsa_public_key: {}
  - key: ed25519
    algorithm: EdDSA
    rsa_public_key: {}
- username: bob
  keyauth_credentials: [{{key: bob-key}}]
- username: guest
"#,
        public_key("rsa", 6),
        public_key("es256", 6),
        public_key("ed25519", 6)
    )
}

/// One Service whose Routes have these plugins each, a block of YAML under a path.
fn config(origin: &Origin, routes: &[(&str, &str)]) -> String {
    let routes: String = routes
        .iter()
        .map(|(path, plugins)| {
            format!("  - {{name: {path}, paths: [/{path}], strip_path: false, plugins: [{plugins}]}}\n")
        })
        .collect();
    format!(
        "{}services:\n- name: shop\n  url: \"http://{}\"\n  routes:\n{routes}",
        consumers(),
        origin.address()
    )
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

/// Fields of a request that tell an origin who sent it, sorted.
fn told(received: &Received) -> Vec<String> {
    let mut told: Vec<String> = [
        "x-consumer-id",
        "x-consumer-username",
        "x-consumer-custom-id",
        "x-consumer-groups",
        "x-credential-identifier",
        "x-anonymous-consumer",
        "x-authenticated-groups",
    ]
    .into_iter()
    .filter_map(|name| Some(format!("{name}: {}", received.header(name)?)))
    .collect();
    told.sort();
    told
}

const ALICE: [&str; 3] = [
    "x-consumer-custom-id: a-7",
    "x-consumer-id: 00000000-0000-4000-8000-00000000000a",
    "x-consumer-username: alice",
];

/// What is told of Alice, with what else there is.
fn told_of_alice(more: &[&str]) -> Vec<String> {
    let mut told: Vec<String> = ALICE.iter().chain(more).map(|line| (*line).to_owned()).collect();
    told.sort();
    told
}

/// Insists on an answer of our own and its challenge.
#[track_caller]
fn check_refused(response: &Response, status: u16, message: &str, challenge: Option<&str>) {
    response.assert_own_answer(status, message);
    assert_eq!(response.header("WWW-Authenticate"), challenge);
}

#[test]
fn a_key_lets_a_consumer_in_and_the_origin_is_told() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, &[("open", ""), ("keys", "{name: key-auth}")]));
    let mut client = gateway.client();
    let keys = Request::get("/keys?a=%7e&apikey=alice-key&b");
    assert_eq!(client.exchange(&keys).status, 200);
    let received = origin.only();
    let credential = "x-credential-identifier: 00000000-0000-4000-8000-0000000000aa";
    assert_eq!(told(&received), told_of_alice(&[credential]));
    assert_eq!(received.target, "/keys?a=%7e&apikey=alice-key&b");

    // On one connection: an answer of ours does not cost it.
    let refused = client.get("/keys");
    check_refused(&refused, 401, "No API key found in request", Some("Key"));
    let wrong = Request::get("/keys").header("apikey", "nobody");
    check_refused(&client.exchange(&wrong), 401, "Unauthorized", Some("Key"));
    let twice = Request::get("/keys")
        .header("apikey", "bob-key")
        .header("apikey", "bob-key");
    check_refused(
        &client.exchange(&twice),
        401,
        "Duplicate API key found",
        Some("Key"),
    );
    assert_eq!(client.get("/open").status, 200);
    let right = Request::get("/keys").header("APIKEY", "bob-key");
    assert_eq!(client.exchange(&right).status, 200);
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.count(), 3);
}

#[test]
fn a_key_is_hidden_where_asked() {
    let origin = Origin::start("a");
    let hiding = "{name: key-auth, config: {hide_credentials: true}}, \
                  {name: basic-auth, config: {hide_credentials: true, anonymous: guest}}";
    let gateway = Gateway::start(&config(&origin, &[("keys", hiding)]));
    for (target, visible) in [
        ("/keys?a=%7e&apikey=bob-key&b=+", "/keys?a=%7e&b=+"),
        ("/keys?apikey=bob-key", "/keys"),
        ("/keys?api%6bey=bob-key&&c", "/keys?&c"),
    ] {
        assert_eq!(gateway.get(target).status, 200);
        assert_eq!(origin.only().target, visible);
        origin.forget();
    }
    let request = Request::get("/keys?")
        .header("apikey", "bob-key")
        .header("Authorization", &basic("al:pass:word"));
    assert_eq!(gateway.exchange(&request).status, 200);
    let received = origin.only();
    assert_eq!(received.target, "/keys?");
    assert_eq!(
        (received.header("apikey"), received.header("authorization")),
        (None, None)
    );
}

#[test]
fn a_name_and_its_password_let_a_consumer_in() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, &[("basic", "{name: basic-auth}")]));
    let with = |value: &str| Request::get("/basic").header("Authorization", value);
    assert_eq!(gateway.exchange(&with(&basic("al:pass:word"))).status, 200);
    assert_eq!(
        told(&origin.only()),
        told_of_alice(&["x-credential-identifier: al"])
    );
    let challenge = Some("Basic realm=\"service\"");
    for wrong in [basic("al:pass"), basic("who:pass:word"), "Basic x".to_owned()] {
        check_refused(&gateway.exchange(&with(&wrong)), 401, "Unauthorized", challenge);
    }
    check_refused(&gateway.get("/basic"), 401, "Unauthorized", challenge);
}

#[test]
fn a_token_lets_a_consumer_in() {
    let origin = Origin::start("a");
    let routes = [
        ("jwt", "{name: jwt, config: {cookie_names: [session]}}"),
        ("base64", "{name: jwt, config: {secret_is_base64: true}}"),
    ];
    let gateway = Gateway::start(&config(&origin, &routes));
    let sign = |algorithm, key: &EncodingKey, claims: Value| {
        jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), &claims, key).unwrap()
    };
    let keys = [
        (
            "hmac",
            Algorithm::HS256,
            EncodingKey::from_secret(b"an-hmac-secret"),
        ),
        (
            "rsa",
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(&private_key("rsa")).unwrap(),
        ),
        (
            "es256",
            Algorithm::ES256,
            EncodingKey::from_ec_pem(&private_key("es256")).unwrap(),
        ),
        (
            "ed25519",
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(&private_key("ed25519")).unwrap(),
        ),
    ];
    for (issuer, algorithm, key) in keys {
        let token = sign(algorithm, &key, json!({"iss": issuer}));
        for request in [
            Request::get("/jwt").header("Authorization", &format!("Bearer {token}")),
            Request::get(&format!("/jwt?jwt={token}")),
            Request::get("/jwt").header("Cookie", &format!("a=b; session={token}")),
        ] {
            origin.forget();
            assert_eq!(gateway.exchange(&request).status, 200, "{issuer}");
            let credential = format!("x-credential-identifier: {issuer}");
            assert_eq!(told(&origin.only()), told_of_alice(&[&credential]));
        }
    }
    let key = EncodingKey::from_secret(b"secret");
    let token = sign(Algorithm::HS512, &key, json!({"iss": "base64"}));
    let bearer = |path: &str, token: &str| {
        gateway.exchange(&Request::get(path).header("Authorization", &format!("Bearer {token}")))
    };
    assert_eq!(bearer("/base64", &token).status, 200);
    let invalid = Some("Bearer error=\"invalid_token\"");
    check_refused(&bearer("/jwt", &token), 401, "Invalid signature", invalid);
    check_refused(&gateway.get("/jwt"), 401, "Unauthorized", Some("Bearer"));

    // Signed with the public key, as if it were a secret.
    let public = std::fs::read(format!(
        "{}/tests/data/keys/rsa.pub.pem",
        env!("CARGO_MANIFEST_DIR")
    ));
    let forged = EncodingKey::from_secret(&public.unwrap());
    let forged = sign(Algorithm::HS256, &forged, json!({"iss": "rsa"}));
    check_refused(&bearer("/jwt", &forged), 401, "Invalid algorithm", invalid);
}

#[test]
fn claims_that_are_wrong_are_named() {
    let origin = Origin::start("a");
    let plugin = "{name: jwt, config: {claims_to_verify: [exp, nbf]}}";
    let gateway = Gateway::start(&config(&origin, &[("jwt", plugin)]));
    let now = serin::clock::unix().as_secs();
    let bearer = |exp: u64, nbf: u64| {
        let key = EncodingKey::from_secret(b"an-hmac-secret");
        let claims = json!({"iss": "hmac", "exp": exp, "nbf": nbf});
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        Request::get("/jwt").header("Authorization", &format!("Bearer {token}"))
    };
    let hour = 3600;
    assert_eq!(gateway.exchange(&bearer(now + hour, now - 1)).status, 200);
    for (request, wrong) in [
        (bearer(now - 1, 0), json!({"exp": "token expired"})),
        (
            bearer(now + hour, now + hour),
            json!({"nbf": "token not valid yet"}),
        ),
    ] {
        let response = gateway.exchange(&request);
        assert_eq!(response.status, 401);
        let challenge = response.header("WWW-Authenticate");
        assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
        assert_eq!(serde_json::from_slice::<Value>(&response.body).unwrap(), wrong);
        let plain = gateway.exchange(&request.header("Accept", "text/plain"));
        let (name, problem) = wrong.as_object().unwrap().iter().next().unwrap();
        let sentence = format!("{name}: {}\n", problem.as_str().unwrap());
        assert!(plain.text().starts_with(&sentence), "{}", plain.text());
    }
}

#[test]
fn several_plugins_are_all_or_with_anonymous_any() {
    let origin = Origin::start("a");
    let any = "{name: key-auth, config: {anonymous: guest}}, {name: basic-auth, config: {anonymous: guest}}";
    let routes = [
        ("all", "{name: key-auth}, {name: basic-auth}"),
        ("any", any),
        ("ghost", "{name: key-auth, config: {anonymous: ghost}}"),
    ];
    let gateway = Gateway::start(&config(&origin, &routes));
    let by_name = basic("al:pass:word");
    let both = |path: &str| {
        Request::get(path)
            .header("apikey", "bob-key")
            .header("Authorization", &by_name)
    };
    let username = || origin.only().header("x-consumer-username").map(str::to_owned);
    assert_eq!(gateway.exchange(&both("/all")).status, 200);
    assert_eq!(username().as_deref(), Some("alice"));
    origin.forget();
    let only_key = Request::get("/all").header("apikey", "bob-key");
    let challenge = Some("Basic realm=\"service\"");
    check_refused(&gateway.exchange(&only_key), 401, "Unauthorized", challenge);

    assert_eq!(gateway.exchange(&both("/any")).status, 200);
    assert_eq!(username().as_deref(), Some("bob"));
    origin.forget();
    let only_name = Request::get("/any").header("Authorization", &by_name);
    assert_eq!(gateway.exchange(&only_name).status, 200);
    assert_eq!(username().as_deref(), Some("alice"));
    origin.forget();

    // Nobody in particular, whatever it says of itself.
    let spoofing = Request::get("/any")
        .header("apikey", "wrong")
        .header("X-Credential-Identifier", "al");
    assert_eq!(gateway.exchange(&spoofing).status, 200);
    let received = origin.only();
    let id = received.header("x-consumer-id").unwrap().to_owned();
    assert_eq!(
        told(&received),
        [
            "x-anonymous-consumer: true".to_owned(),
            format!("x-consumer-id: {id}"),
            "x-consumer-username: guest".to_owned()
        ]
    );
    let message = "anonymous consumer ghost is configured but doesn't exist";
    check_refused(&gateway.get("/ghost"), 500, message, None);
    assert!(gateway.log_text().contains(message), "{}", gateway.log_text());
}

#[test]
fn groups_decide_who_passes() {
    let origin = Origin::start("a");
    let routes = [
        (
            "testers",
            "{name: key-auth}, {name: acl, config: {allow: [testers]}}",
        ),
        (
            "others",
            "{name: key-auth}, {name: acl, config: {deny: [testers], hide_groups_header: true}}",
        ),
        ("nobody", "{name: acl, config: {allow: [testers]}}"),
    ];
    let gateway = Gateway::start(&config(&origin, &routes));
    let get = |path: &str, key: &str| gateway.exchange(&Request::get(path).header("apikey", key));
    assert_eq!(get("/testers", "alice-key").status, 200);
    assert_eq!(origin.only().header("x-consumer-groups"), Some("staff, testers"));
    origin.forget();
    let message = "You cannot consume this service";
    check_refused(&get("/testers", "bob-key"), 403, message, None);
    check_refused(&get("/others", "alice-key"), 403, message, None);
    assert_eq!(get("/others", "bob-key").status, 200);
    assert_eq!(origin.only().header("x-consumer-groups"), None);
    check_refused(&get("/nobody", "alice-key"), 401, "Unauthorized", None);
}

#[test]
fn clients_cannot_say_who_they_are() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, &[("open", ""), ("keys", "{name: key-auth}")]));
    let spoofing = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\napikey: alice-key\r\nX-CONSUMER-USERNAME: root\r\n\
             x-consumer-username: root\r\nX_Consumer_Username: root\r\nX-Consumer-Groups: admin\r\n\
             X-Consumer-Role: admin\r\nX-Credential-Identifier: root\r\nX-Credential-Username: root\r\n\
             X-Anonymous-Consumer: true\r\nX-Authenticated-Groups: admin\r\n\
             Connection: X-Consumer-ID, X-Consumer-Username\r\nX-Mine: yes\r\n\r\n"
        )
    };
    for path in ["/open", "/keys"] {
        let mut client = gateway.client();
        client.send(spoofing(path));
        assert_eq!(client.receive().status, 200);
    }
    let received = origin.wait_for(2);
    assert_eq!(told(&received[0]), Vec::<String>::new());
    let credential = "x-credential-identifier: 00000000-0000-4000-8000-0000000000aa";
    assert_eq!(told(&received[1]), told_of_alice(&[credential]));
    for received in received {
        assert_eq!(received.header("x-mine"), Some("yes"));
        for name in ["x_consumer_username", "x-consumer-role", "x-credential-username"] {
            assert_eq!(received.header(name), None, "{name}");
        }
    }
}

#[test]
fn the_most_specific_plugin_runs_alone() {
    let origin = Origin::start("a");
    let key = |name: &str| format!("config: {{key_names: [{name}]}}");
    let config = format!(
        r#"{}services:
- name: shop
  url: "http://{address}"
  plugins: [{{name: key-auth, {}}}]
  routes:
  - {{name: by-service, paths: [/service]}}
  - {{name: by-route, paths: [/route], plugins: [{{name: key-auth, {}}}]}}
- name: other
  url: "http://{address}"
  routes:
  - {{name: by-none, paths: [/none]}}
plugins:
- {{name: key-auth, {}}}
- {{name: key-auth, {}, route: by-route, service: shop}}
"#,
        consumers(),
        key("of-service"),
        key("of-route"),
        key("of-all"),
        key("of-both"),
        address = origin.address(),
    );
    let gateway = Gateway::start(&config);
    let names = ["of-all", "of-service", "of-route", "of-both"];
    for (path, its_own) in [
        ("/none", "of-all"),
        ("/service", "of-service"),
        ("/route", "of-both"),
    ] {
        for name in names {
            let response = gateway.exchange(&Request::get(path).header(name, "bob-key"));
            let status = if name == its_own { 200 } else { 401 };
            assert_eq!(response.status, status, "{path} {name}");
        }
    }
    // Without the most specific one the next takes its place, from the very next request on.
    gateway.apply(&config.replace(
        &format!(
            "- {{name: key-auth, {}, route: by-route, service: shop}}\n",
            key("of-both")
        ),
        "",
    ));
    for name in names {
        let response = gateway.exchange(&Request::get("/route").header(name, "bob-key"));
        assert_eq!(
            response.status,
            if name == "of-route" { 200 } else { 401 },
            "{name}"
        );
    }
}

#[test]
fn the_log_names_the_consumer_and_shows_no_key() {
    let origin = Origin::start("a");
    let config = config(
        &origin,
        &[
            ("open", ""),
            ("keys", "{name: key-auth, config: {key_names: [apikey, token]}}"),
            ("jwt", "{name: jwt}"),
        ],
    );
    let gateway = Gateway::start(&config);
    for target in [
        "/keys?a=1&apikey=alice-key&b",
        "/keys?t%6fken=wrong-key",
        "/open?apikey=alice-key",
        "/jwt?jwt=my.secret.token",
        "/nothing?apikey=alice-key",
    ] {
        gateway.get(target);
    }
    let lines: Vec<Value> = gateway
        .wait_for_lines("stdout", 5)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let logged: Vec<_> = lines
        .iter()
        .map(|line| (line["path"].as_str().unwrap(), line["consumer"].as_str()))
        .collect();
    assert_eq!(
        logged,
        [
            ("/keys?a=1&apikey=***&b", Some("alice")),
            ("/keys?t%6fken=***", None),
            ("/open?apikey=***", None),
            ("/jwt?jwt=***", None),
            ("/nothing?apikey=***", None),
        ]
    );
}

#[test]
fn the_combined_log_names_the_consumer_and_shows_no_key() {
    let origin = Origin::start("a");
    let config = config(&origin, &[("keys", "{name: key-auth}")]).replace("username: bob", "username: bob b");
    let log = "server:\n  access_log: {format: combined, path: access.log}\n";
    let gateway = Gateway::start(&format!("{log}{config}"));
    let request = Request::get("/keys?apikey=bob-key").header("Referer", "http://a.example/?apikey=x");
    gateway.exchange(&request);
    let line = &gateway.wait_for_lines("access.log", 1)[0];
    assert!(line.starts_with("127.0.0.1 - bob\\x20b ["), "{line}");
    let end = "\"GET /keys?apikey=*** HTTP/1.1\" 200 1 \"http://a.example/?apikey=***\" \"-\"";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn a_key_that_was_removed_is_unknown_to_the_very_next_request() {
    let origin = Origin::start("a");
    let config = config(&origin, &[("keys", "{name: key-auth}")]);
    let gateway = Gateway::start(&config);
    let mut client = gateway.client();
    let bob = Request::get("/keys").header("apikey", "bob-key");
    assert_eq!(client.exchange(&bob).status, 200);
    gateway.apply(&config.replace("bob-key", "new-key"));
    check_refused(&client.exchange(&bob), 401, "Unauthorized", Some("Key"));
    let new = Request::get("/keys").header("apikey", "new-key");
    assert_eq!(client.exchange(&new).status, 200);
}
