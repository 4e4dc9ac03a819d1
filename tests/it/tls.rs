//! Clients that come by TLS: which certificate they are shown, what they speak inside, how certificates change.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{
    Authority, Command, Gateway, Http2, Origin, Request, TlsClient, runtime, serial, shop, wait_until,
};

/// The configuration of a gateway that speaks TLS, with certificates in its YAML.
fn config(origin: &Origin, server: &str, certificates: &[(&(String, String), &[&str])]) -> String {
    let certificates = certificates.iter().map(|((cert, key), names)| {
        let snis: Vec<String> = names.iter().map(|name| format!("{{name: '{name}'}}")).collect();
        format!(
            "- {{cert: {cert:?}, key: {key:?}, snis: [{}]}}\n",
            snis.join(", ")
        )
    });
    format!(
        "server:\n  listeners: [{{address: 127.0.0.1:0, tls: true}}]\n{server}{}certificates:\n{}",
        shop(&[(origin, 1)]),
        certificates.collect::<String>()
    )
}

fn both(authority: &Authority) -> Arc<ClientConfig> {
    authority.client(&["http/1.1"], &[&TLS13, &TLS12])
}

/// Returns which certificate somebody is shown who asks for this name and was never here before: a session
/// that goes on shows none.
fn shown(gateway: &Gateway, name: &str, client: &Arc<ClientConfig>) -> Option<String> {
    let mut client = ClientConfig::clone(client);
    client.resumption = Resumption::disabled();
    let client = TlsClient::connect(gateway.address(), name, &Arc::new(client)).ok()?;
    Some(client.serial())
}

#[test]
fn the_certificate_follows_the_name() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let names: &[&str] = &[
        "shop.example",
        "a.shop.example",
        "b.shop.example",
        "other.example",
    ];
    let [exact, wild, default] = [(); 3].map(|()| authority.pair(names));
    let gateway = Gateway::start(&config(
        &origin,
        "",
        &[
            (&exact, &["shop.example", "a.shop.example"]),
            (&wild, &["*.shop.example"]),
            (&default, &["*"]),
        ],
    ));
    let client = both(&authority);
    for (name, pair) in [
        ("shop.example", &exact),
        ("a.shop.example", &exact),
        ("b.shop.example", &wild),
        ("other.example", &default),
    ] {
        assert_eq!(shown(&gateway, name, &client), Some(serial(&pair.0)), "{name}");
    }
    let expiries = gateway.metrics();
    assert!(
        expiries
            .sum("serin_certificate_expiry_timestamp_seconds", &[])
            .unwrap()
            > 1e9
    );
}

#[test]
fn without_a_default_an_unknown_name_is_refused() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example", "other.example"]);
    let gateway = Gateway::start(&config(&origin, "", &[(&pair, &["shop.example"])]));
    let client = both(&authority);
    assert!(shown(&gateway, "other.example", &client).is_none());
    assert!(shown(&gateway, "shop.example", &client).is_some());
    gateway.wait_for_metric("serin_tls_handshakes_total", &[("outcome", "failed")], 1.0);
}

#[test]
fn a_request_by_tls_says_so_to_the_origin() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example"]);
    let gateway = Gateway::start(&config(&origin, "", &[(&pair, &["shop.example"])]));
    for version in [&TLS12, &TLS13] {
        let client = authority.client(&["http/1.1"], &[version]);
        let mut client = TlsClient::connect(gateway.address(), "shop.example", &client).unwrap();
        for _ in 0..2 {
            assert_eq!(client.exchange(&Request::post("/", "body")).unwrap().text(), "a");
        }
        let received = origin.received().pop().unwrap();
        assert_eq!(received.header("X-Forwarded-Proto"), Some("https"));
        let port = gateway.address().port().to_string();
        assert_eq!(received.header("X-Forwarded-Port"), Some(&*port));
        assert_eq!(received.body, b"body");
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_load_balancer_says_who_the_client_is_ahead_of_the_handshake() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example"]);
    let config = config(
        &origin,
        "  trusted_ips: [127.0.0.1]\n",
        &[(&pair, &["shop.example"])],
    );
    let gateway = Gateway::start(&config.replace("tls: true", "tls: true, proxy_protocol: true"));
    let connect = |ahead: &[u8]| {
        let address = gateway.address();
        TlsClient::connect_after(ahead, address, "shop.example", &both(&authority))
    };
    let mut client = connect(b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n").unwrap();
    assert_eq!(client.exchange(&Request::get("/")).unwrap().text(), "a");
    let received = origin.only();
    assert_eq!(received.header("X-Real-IP"), Some("2001:db8::1"));
    assert_eq!(received.header("X-Forwarded-Proto"), Some("https"));
    assert_eq!(received.header("X-Forwarded-Port"), Some("443"));
    assert!(connect(b"").is_err());
}

#[test]
fn http_2_is_agreed_on_inside() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example"]);
    let gateway = Gateway::start(&config(&origin, "", &[(&pair, &["shop.example"])]));
    let config = authority.client(&["h2", "http/1.1"], &[&TLS13]);
    let runtime = runtime();
    let stream = runtime.block_on(async {
        let tcp = TcpStream::connect(gateway.address()).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        TlsConnector::from(config).connect(name, tcp).await.unwrap()
    });
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Http2::on(runtime, stream);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(origin.received()[2].header("X-Forwarded-Proto"), Some("https"));
}

#[test]
fn an_old_version_is_refused_where_a_later_one_is_asked_for() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example"]);
    let server = "  tls: {min_version: \"1.3\"}\n";
    let gateway = Gateway::start(&config(&origin, server, &[(&pair, &["*"])]));
    let name = "shop.example";
    assert!(shown(&gateway, name, &authority.client(&[], &[&TLS12])).is_none());
    assert!(shown(&gateway, name, &authority.client(&[], &[&TLS13])).is_some());
}

#[test]
fn a_handshake_has_its_time_and_what_is_no_tls_is_closed() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example"]);
    let server = "  timeouts: {tls_handshake: 200ms}\n";
    let gateway = Gateway::start(&config(&origin, server, &[(&pair, &["*"])]));
    gateway.client().assert_closes();
    gateway.wait_for_metric("serin_tls_handshakes_total", &[("outcome", "timeout")], 1.0);
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    client.read_to_end();
    gateway.wait_for_metric("serin_tls_handshakes_total", &[("outcome", "failed")], 1.0);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_route_may_ask_for_a_name_in_the_handshake() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let pair = authority.pair(&["shop.example", "other.example"]);
    let config = config(&origin, "", &[(&pair, &["*"])]).replace(
        "paths: [\"/\"], strip_path: false",
        "snis: [shop.example], protocols: [https]",
    );
    let gateway = Gateway::start(&config);
    let client = both(&authority);
    for (name, status) in [("shop.example", 200), ("other.example", 404)] {
        let mut client = TlsClient::connect(gateway.address(), name, &client).unwrap();
        assert_eq!(
            client.exchange(&Request::get("/")).unwrap().status,
            status,
            "{name}"
        );
    }
}

#[test]
fn a_certificate_is_renewed_by_the_admin_api_without_a_closed_connection() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let [old, new, other] = [(); 3].map(|()| authority.pair(&["shop.example"]));
    let gateway = Gateway::start(&config(&origin, "", &[]).replace("certificates:\n", ""));
    let client = both(&authority);
    let mut admin = gateway.admin();
    let made = admin
        .send("POST", "/certificates", json!({"cert": old.0, "key": old.1}))
        .expect(201);
    let path = format!("/certificates/{}", made["id"].as_str().unwrap());
    admin
        .send("POST", &format!("{path}/snis"), json!({"name": "shop.example"}))
        .expect(201);
    let mut kept = TlsClient::connect(gateway.address(), "shop.example", &client).unwrap();
    assert_eq!(kept.serial(), serial(&old.0));
    assert_eq!(kept.exchange(&Request::get("/")).unwrap().status, 200);

    let mismatch = admin.send("PATCH", &path, json!({"cert": new.0, "key": other.1}));
    assert!(
        mismatch.body["message"]
            .as_str()
            .unwrap()
            .contains("certificate does not match key"),
        "{}",
        mismatch.body
    );
    assert_eq!(mismatch.status, 400);
    assert_eq!(shown(&gateway, "shop.example", &client), Some(serial(&old.0)));

    admin
        .send("PATCH", &path, json!({"cert": new.0, "key": new.1}))
        .expect(200);
    assert_eq!(shown(&gateway, "shop.example", &client), Some(serial(&new.0)));
    assert_eq!(kept.exchange(&Request::get("/")).unwrap().status, 200);
    assert_eq!(
        admin.get("/snis/shop.example/certificate").expect(200)["cert"],
        new.0
    );

    admin.send("DELETE", &path, json!(null)).expect(204);
    assert_eq!(admin.get("/snis").expect(200)["data"], json!([]));
    assert!(shown(&gateway, "shop.example", &client).is_none());
}

#[test]
fn certificates_in_files_are_renewed_and_a_broken_pair_keeps_the_old_one() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let [old, new] = [(); 2].map(|()| authority.pair(&["shop.example"]));
    let server = "  certificates: [{cert_file: shop.crt, key_file: shop.key}]\n";
    let config = config(&origin, server, &[]).replace("certificates:\n", "");
    let gateway = Command::run(&config)
        .file("shop.crt", &old.0)
        .file("shop.key", &old.1)
        .start();
    let client = both(&authority);
    // Its names are those in the certificate; as the first it is the default too.
    assert_eq!(shown(&gateway, "shop.example", &client), Some(serial(&old.0)));
    let write = |name: &str, text: &str| crate::harness::replace(&gateway.folder().join(name), text);

    write("shop.crt", &new.0);
    gateway.wait_for_metric("serin_config_last_reload_successful", &[], 0.0);
    assert_eq!(shown(&gateway, "shop.example", &client), Some(serial(&old.0)));
    gateway.wait_for_log("server.certificates[0].key_file: certificate does not match key");

    write("shop.key", &new.1);
    wait_until("the new certificate is shown", || {
        (shown(&gateway, "shop.example", &client)? == serial(&new.0)).then_some(())
    });
    assert!(!gateway.log_text().contains("PRIVATE KEY"));
}

/// A file beside a new configuration often comes after it.
#[test]
fn a_certificate_that_was_missing_is_taken_when_it_comes() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let [old, new] = [(); 2].map(|()| authority.pair(&["shop.example"]));
    let named = |name: &str| {
        let server = format!("  certificates: [{{cert_file: {name}.crt, key_file: {name}.key}}]\n");
        config(&origin, &server, &[]).replace("certificates:\n", "")
    };
    let gateway = Command::run(&named("old"))
        .file("old.crt", &old.0)
        .file("old.key", &old.1)
        .start();
    let client = both(&authority);
    let refused = || {
        let labels = [("outcome", "refused")];
        gateway.metrics().sum("serin_config_reloads_total", &labels)
    };
    gateway.write_config(&named("new"));
    gateway.wait_for_log(
        "server.certificates[0].cert_file: cannot read new.crt: No such file or directory (os error 2)",
    );
    assert_eq!(shown(&gateway, "shop.example", &client), Some(serial(&old.0)));
    let write = |name: &str, text: &str| crate::harness::replace(&gateway.folder().join(name), text);
    write("new.key", &new.1);
    wait_until("the key alone is refused", || (refused()? == 2.0).then_some(()));
    write("new.crt", &new.0);
    wait_until("the new certificate is shown", || {
        (shown(&gateway, "shop.example", &client)? == serial(&new.0)).then_some(())
    });
    assert_eq!(refused(), Some(2.0), "once for each change");
}

/// Clients know both kinds of keys, and are shown the cheaper one, whichever comes first.
#[test]
fn two_files_of_one_name_stand_side_by_side() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let names = &["shop.example", "other.example"];
    let (rsa, elliptic) = (authority.rsa_pair(names), authority.pair(names));
    let server = "  certificates: [{cert_file: rsa.crt, key_file: rsa.key}, {cert_file: ec.crt, key_file: ec.key, snis: [shop.example]}]\n";
    let gateway = Command::run(&config(&origin, server, &[]).replace("certificates:\n", ""))
        .file("rsa.crt", &rsa.0)
        .file("rsa.key", &rsa.1)
        .file("ec.crt", &elliptic.0)
        .file("ec.key", &elliptic.1)
        .start();
    let client = both(&authority);
    assert_eq!(
        shown(&gateway, "shop.example", &client),
        Some(serial(&elliptic.0))
    );
    assert_eq!(shown(&gateway, "other.example", &client), Some(serial(&rsa.0)));
    assert!(!gateway.log_text().contains("never shown"));
}

/// Kong's shorthand: the names of a certificate in its own body.
#[test]
fn a_certificate_comes_with_its_names() {
    let origin = Origin::start("a");
    let authority = Authority::new();
    let [one, other] = [(); 2].map(|()| authority.pair(&["a.example", "b.example", "c.example"]));
    let gateway = Gateway::start(&config(&origin, "", &[]).replace("certificates:\n", ""));
    let client = both(&authority);
    let mut admin = gateway.admin();
    let made = admin
        .send(
            "POST",
            "/certificates",
            json!({"cert": one.0, "key": one.1, "snis": ["b.example", "a.example"]}),
        )
        .expect(201);
    assert_eq!(made["snis"], json!(["a.example", "b.example"]));
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/certificates/{id}");
    assert_eq!(admin.get(&path).expect(200)["snis"], made["snis"]);
    assert_eq!(
        admin.get("/certificates").expect(200)["data"][0]["snis"],
        made["snis"]
    );
    assert_eq!(admin.get("/snis/b.example").expect(200)["certificate"]["id"], *id);
    assert_eq!(shown(&gateway, "b.example", &client), Some(serial(&one.0)));
    let valid = json!({"cert": one.0, "key": one.1, "snis": ["d.example"]});
    admin
        .send("POST", "/schemas/certificates/validate", valid)
        .expect(200);
    // Beside the entity's fields, not among them.
    let document = admin.get("/openapi.json").expect(200);
    for schema in ["certificates", "certificates.change", "certificates.answer"] {
        let names = &document["components"]["schemas"][schema]["properties"]["snis"];
        assert_eq!(names["items"]["type"], "string", "{schema}");
    }
    let fields = admin.get("/schemas/certificates").expect(200)["fields"].take();
    let has = |name: &str| {
        fields
            .as_array()
            .unwrap()
            .iter()
            .any(|field| field.get(name).is_some())
    };
    assert!(has("cert") && !has("snis"));

    // Whose name it is, it stays, and nothing is made.
    let taken = json!({"cert": other.0, "key": other.1, "snis": ["c.example", "a.example"]});
    let refused = admin.send("POST", "/certificates", taken).expect(400);
    let why =
        format!("schema violation (snis: a.example already associated with existing certificate '{id}')");
    assert_eq!((&refused["message"], &refused["code"]), (&json!(why), &json!(2)));
    let twice = json!({"cert": other.0, "key": other.1, "snis": ["c.example", "c.example"]});
    let refused = admin.send("POST", "/certificates", twice).expect(400);
    assert_eq!(refused["fields"], json!({"snis": "c.example is duplicated"}));
    let wrong = json!({"cert": other.0, "key": other.1, "snis": ["no name"]});
    assert!(admin.send("POST", "/certificates", wrong).expect(400)["fields"]["snis"].is_string());
    assert_eq!(
        admin.get("/certificates").expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        admin.get("/snis").expect(200)["data"].as_array().unwrap().len(),
        2
    );

    // All names at once: what is not among them goes, what is keeps its id.
    let kept = admin.get("/snis/b.example").expect(200);
    let generation = gateway.status()["generation"].as_u64().unwrap();
    let changed = admin
        .send("PATCH", &path, json!({"snis": ["c.example", "b.example"]}))
        .expect(200);
    assert_eq!(changed["snis"], json!(["b.example", "c.example"]));
    assert_eq!(gateway.status()["generation"], generation + 1);
    assert_eq!(admin.get("/snis/b.example").expect(200), kept);
    assert!(shown(&gateway, "a.example", &client).is_none());
    assert!(shown(&gateway, "c.example", &client).is_some());
    // Who says nothing of names changes none; who says that there are none removes all.
    let replaced = admin
        .send("PUT", &path, json!({"cert": other.0, "key": other.1}))
        .expect(200);
    assert_eq!(replaced["snis"], changed["snis"]);
    assert_eq!(shown(&gateway, "c.example", &client), Some(serial(&other.0)));
    assert_eq!(
        admin.send("PATCH", &path, json!({"snis": []})).expect(200)["snis"],
        json!([])
    );
    assert_eq!(admin.get("/snis").expect(200)["data"], json!([]));
}
