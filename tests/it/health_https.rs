//! Active checks of `type: https` against origins with certificates of the test's own authority. What a
//! probe makes of a certificate is read from the gateway; which name it asked for, and whether a
//! request followed, at the origin.

use crate::harness::{Authority, Command, Gateway, Origin};
use crate::health::{active, assert_health, checked, wait_for_health};

/// Probes once at the start; those that are out ten times a second.
const HTTPS: &str = "{type: https, http_path: /health, timeout: 10, \
    healthy: {interval: 3600, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1, http_failures: 1, timeouts: 1}";

/// Starts a gateway that trusts this authority.
fn start(config: &str, trusted: &Authority) -> Gateway {
    let command = Command::run(config).file("authority.pem", &trusted.pem());
    let path = command.folder().join("authority.pem");
    command.variable("SSL_CERT_FILE", path.to_str().unwrap()).start()
}

#[test]
fn a_certificate_must_be_of_a_trusted_authority_and_for_the_name() {
    let (trusted, unknown) = (Authority::new(), Authority::new());
    let good = Origin::start_tls("good", &trusted, &["shop.example"]);
    let misnamed = Origin::start_tls("misnamed", &trusted, &["other.example"]);
    let untrusted = Origin::start_tls("untrusted", &unknown, &["shop.example"]);
    let origins = [&good, &misnamed, &untrusted];
    let checks = |verify| {
        let fields = format!("{HTTPS}, https_sni: shop.example, https_verify_certificate: {verify}}}");
        checked("retries: 0", &active(&fields), &origins)
    };
    let gateway = start(&checks(true), &trusted);
    assert_health(&gateway, &good, "HEALTHY");
    for (origin, probes) in [(&good, 1), (&misnamed, 0), (&untrusted, 0)] {
        assert_eq!(origin.server_names()[0].as_deref(), Some("shop.example"));
        assert_eq!(origin.count(), probes, "{}", origin.name());
        assert!(origin.received().iter().all(|probe| probe.target == "/health"));
    }
    for bad in [&misnamed, &untrusted] {
        assert_health(&gateway, bad, "UNHEALTHY");
    }
    gateway.wait_for_log("is out: its probes could not connect or were cut off");

    gateway.apply(&checks(false));
    for origin in [&misnamed, &untrusted] {
        wait_for_health(&gateway, origin, "HEALTHY");
        assert!(
            origin
                .server_names()
                .iter()
                .all(|name| name.as_deref() == Some("shop.example"))
        );
    }
}

#[test]
fn an_authority_that_nobody_named_is_not_trusted() {
    let private = Authority::new();
    let origin = Origin::start_tls("origin", &private, &["shop.example"]);
    let fields = format!("{HTTPS}, https_sni: shop.example}}");
    let gateway = Gateway::start(&checked("retries: 0", &active(&fields), &[&origin]));
    assert_health(&gateway, &origin, "UNHEALTHY");
    assert_eq!(origin.count(), 0);
}

/// The Host is the Upstream's `host_header`, else the Target's: a name goes into the handshake, an
/// address does not (RFC 6066 §3), and the certificate must be for it all the same.
#[test]
fn without_https_sni_the_name_is_the_probes_host() {
    let authority = Authority::new();
    let named = Origin::start_tls("named", &authority, &["shop.internal"]);
    let fields = format!("{HTTPS}}}");
    let upstream = format!("host_header: shop.internal:8443\n{}", active(&fields));
    let gateway = start(&checked("retries: 0", &upstream, &[&named]), &authority);
    assert_health(&gateway, &named, "HEALTHY");
    assert_eq!(named.server_names(), [Some("shop.internal".to_owned())]);
    assert_eq!(named.only().header("Host"), Some("shop.internal:8443"));

    let addressed = Origin::start_tls("addressed", &authority, &["127.0.0.1"]);
    let config = checked("retries: 0", &active(&fields), &[&addressed, &named]);
    named.forget();
    let gateway = start(&config, &authority);
    assert_health(&gateway, &addressed, "HEALTHY");
    assert_eq!(addressed.server_names(), [None]);
    assert_health(&gateway, &named, "UNHEALTHY");
    assert_eq!(named.count(), 0);
}

#[test]
fn a_status_counts_behind_tls_as_it_does_in_the_clear() {
    let authority = Authority::new();
    let origin = Origin::start_tls("origin", &authority, &["shop.example"]);
    origin.answer(crate::harness::Reply::status(500));
    let fields = format!("{HTTPS}, https_sni: shop.example}}");
    let gateway = start(&checked("retries: 0", &active(&fields), &[&origin]), &authority);
    assert_health(&gateway, &origin, "UNHEALTHY");
    gateway.wait_for_log("is out: its probes were answered by a failing status");
    origin.answer_name();
    wait_for_health(&gateway, &origin, "HEALTHY");
}
