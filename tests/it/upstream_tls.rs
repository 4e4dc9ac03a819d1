//! TLS towards origins: who is verified, by whom, under which name, and what is shown.

use serde_json::{Value, json};

use crate::harness::{Authority, Command, Gateway, Origin, Request, complete, der};

/// A Service that speaks TLS to one origin by its address, for which the origin has a certificate.
fn config(origin: &Origin, service: &str, more: &str) -> String {
    format!(
        "services:\n- {{name: shop, protocol: https, host: 127.0.0.1, port: {}, retries: 0, {service}routes: [{{name: all, paths: [/]}}]}}\n{more}",
        origin.address().port()
    )
}

/// Declares an authority under an id.
fn authority(number: u8, authority: &Authority) -> String {
    format!("- {{id: {}, cert: {:?}}}\n", id(number), authority.pem())
}

fn id(number: u8) -> String {
    format!("5d1f1a3e-0000-4000-8000-{number:012}")
}

#[test]
fn an_origin_is_verified_by_the_authorities_of_its_service() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let origin = Origin::start_tls("a", &trusted, &["127.0.0.1"]);
    let authorities = format!(
        "ca_certificates:\n{}{}",
        authority(1, &trusted),
        authority(2, &other)
    );
    let with = |service: &str| Gateway::start(&config(&origin, service, &authorities));
    let gateway = with(&format!("ca_certificates: [{}], ", id(1)));
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!((origin.count(), origin.connections()), (3, 1));
    origin.forget();

    let message = "An invalid response was received from the upstream server";
    for service in [format!("ca_certificates: [{}], ", id(2)), String::new()] {
        with(&service).get("/").assert_own_answer(502, message);
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_origin_is_verified_under_the_host_that_it_is_sent() {
    let trusted = Authority::new();
    let origin = Origin::start_tls("a", &trusted, &["shop.internal", "client.example"]);
    let authorities = format!("ca_certificates:\n{}", authority(1, &trusted));
    let config = |upstream: &str, route: &str| {
        format!(
            "services:\n- {{name: shop, protocol: https, host: shop, retries: 0, ca_certificates: [{}], routes: [{{name: all, paths: [/]{route}}}]}}\n\
             upstreams:\n- {{name: shop, {upstream}targets: [{{target: '{}'}}]}}\n{authorities}",
            id(1),
            origin.address()
        )
    };
    // The certificate is not for the address.
    let gateway = Gateway::start(&config("", ""));
    assert_eq!(gateway.get("/").status, 502);
    gateway.apply(&config("host_header: 'shop.internal:8443', ", ""));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(origin.only().header("Host"), Some("shop.internal:8443"));
    // That a client made a name up is not held against the Target.
    let checks = "healthchecks: {passive: {unhealthy: {tcp_failures: 1}}}, ";
    gateway.apply(&config(checks, ", preserve_host: true"));
    let of = |host: &str| gateway.exchange(&Request::get("/").host(host)).status;
    assert_eq!(
        (of("client.example"), of("other.example"), of("client.example")),
        (200, 502, 200)
    );
    let names: Vec<Option<String>> = origin.server_names();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        names[1..],
        [
            named("shop.internal"),
            named("client.example"),
            named("other.example")
        ]
    );
}

#[test]
fn verification_can_be_switched_off_and_that_is_said() {
    let unknown = Authority::new();
    let origin = Origin::start_tls("a", &unknown, &["other.example"]);
    let config = config(&origin, "tls_verify: false, ", "");
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/").text(), "a");
    gateway.wait_for_log("services[0].tls_verify: the origin's certificate is not verified");
    let (code, stdout, _) = Command::new(&["check", "serin.yaml"])
        .file("serin.yaml", &complete(&config))
        .finish();
    assert_eq!(code, Some(0));
    assert!(stdout.contains("warning: services[0].tls_verify"), "{stdout}");
}

#[test]
fn services_with_other_authorities_share_no_connection() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let origin = Origin::start_tls("a", &trusted, &["127.0.0.1"]);
    let service = |name: &str, ca: u8| {
        format!(
            "- {{name: {name}, protocol: https, host: shop, retries: 0, ca_certificates: [{}], routes: [{{name: {name}, paths: [/{name}]}}]}}\n",
            id(ca)
        )
    };
    let gateway = Gateway::start(&format!(
        "services:\n{}{}upstreams:\n- {{name: shop, targets: [{{target: '{}'}}]}}\nca_certificates:\n{}{}",
        service("one", 1),
        service("two", 2),
        origin.address(),
        authority(1, &trusted),
        authority(2, &other)
    ));
    let mut client = gateway.client();
    assert_eq!(client.get("/one").status, 200);
    // A connection that was verified for the other Service is idle, and is not for this one.
    assert_eq!(gateway.get("/two").status, 502);
    assert_eq!(client.get("/one").status, 200);
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_certificate_is_shown_to_an_origin_that_asks() {
    let trusted = Authority::new();
    let origin = Origin::start_mutual_tls("a", &trusted, &["127.0.0.1"]);
    let (cert, key) = trusted.pair(&["gateway.example"]);
    let certificates = format!(
        "ca_certificates:\n{}certificates:\n- {{id: {}, cert: {cert:?}, key: {key:?}}}\n",
        authority(1, &trusted),
        id(3)
    );
    let service = |more: &str| format!("ca_certificates: [{}], {more}", id(1));
    let gateway = Gateway::start(&config(&origin, &service(""), &certificates));
    assert_eq!(gateway.get("/").status, 502);
    gateway.apply(&config(
        &origin,
        &service(&format!("client_certificate: {}, ", id(3))),
        &certificates,
    ));
    assert_eq!(gateway.get("/").text(), "a");
}

/// Pingora's pool knows of a client's certificate its serial number alone.
#[test]
fn services_with_other_certificates_of_one_number_share_no_connection() {
    let trusted = Authority::new();
    let origin = Origin::start_mutual_tls("a", &trusted, &["127.0.0.1"]);
    let shown = [(); 2].map(|()| trusted.numbered_pair(&["gateway.example"], 7));
    let service = |name: &str, certificate: u8| {
        format!(
            "- {{name: {name}, protocol: https, host: shop, retries: 0, ca_certificates: [{}], client_certificate: {}, routes: [{{name: {name}, paths: [/{name}]}}]}}\n",
            id(1),
            id(certificate)
        )
    };
    let certificate = |number: u8, (cert, key): &(String, String)| {
        format!("- {{id: {}, cert: {cert:?}, key: {key:?}}}\n", id(number))
    };
    let gateway = Gateway::start(&format!(
        "services:\n{}{}upstreams:\n- {{name: shop, targets: [{{target: '{}'}}]}}\nca_certificates:\n{}certificates:\n{}{}",
        service("one", 3),
        service("two", 4),
        origin.address(),
        authority(1, &trusted),
        certificate(3, &shown[0]),
        certificate(4, &shown[1]),
    ));
    let mut client = gateway.client();
    for path in ["/one", "/two", "/one", "/two"] {
        assert_eq!(client.get(path).status, 200);
    }
    let [one, two] = shown.map(|(cert, _)| Some(der(&cert)));
    let received = origin.received().into_iter();
    let seen: Vec<_> = received.map(|request| request.client_certificate).collect();
    assert_eq!(seen, [one.clone(), two.clone(), one, two]);
    // Each has one of its own, which it uses again.
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_origin_whose_certificate_has_expired_is_not_trusted() {
    let trusted = Authority::new();
    let origin = Origin::start_expired_tls("a", &trusted, &["127.0.0.1"]);
    let authorities = format!("ca_certificates:\n{}", authority(1, &trusted));
    let service = |more: &str| {
        let service = format!("ca_certificates: [{}], {more}", id(1));
        config(&origin, &service, &authorities)
    };
    let gateway = Gateway::start(&service("tls_verify: true, "));
    let message = "An invalid response was received from the upstream server";
    gateway.get("/").assert_own_answer(502, message);
    assert_eq!(origin.count(), 0);
    let line: Value = serde_json::from_str(&gateway.wait_for_lines("stdout", 1)[0]).unwrap();
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("certificate expired"), "{error}");
    assert_eq!(
        (&line["status"], &line["target"]),
        (&json!(502), &json!(origin.address().to_string()))
    );
    gateway.apply(&service("tls_verify: false, "));
    assert_eq!(gateway.get("/").text(), "a");
}
