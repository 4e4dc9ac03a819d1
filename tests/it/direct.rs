//! Services whose host names no Upstream: dialled directly, with names looked up off the request path.

use crate::harness::{Gateway, Origin, Request, targets};

#[test]
fn a_host_name_is_dialled_directly() {
    let [four, six] = Origin::start_on_localhost("a");
    let port = four.address().port();
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: shop, host: localhost, port: {port}, retries: 0, routes: [{{paths: [/]}}]}}\n"
    ));
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(four.count() + six.count(), 10);
    let expected = format!("localhost:{port}");
    for request in [four.received(), six.received()].concat() {
        assert_eq!(request.header("Host"), Some(&*expected));
    }
}

#[test]
fn an_address_is_dialled_directly_in_either_family() {
    let four = Origin::start_at("four", [127, 0, 0, 3]);
    let six = Origin::start_at("six", [0, 0, 0, 0, 0, 0, 0, 1]);
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: four, url: 'http://{}', routes: [{{hosts: [four.example]}}]}}\n\
         - {{name: six, url: 'http://{}', routes: [{{hosts: [six.example]}}]}}\n",
        four.address(),
        six.address()
    ));
    for (origin, host) in [(&four, "four.example"), (&six, "six.example")] {
        let response = gateway.exchange(&Request::get("/").host(host));
        assert_eq!(response.text(), origin.name());
        assert_eq!(origin.only().header("Host"), Some(&*origin.address().to_string()));
    }
}

#[test]
fn a_name_that_cannot_be_resolved_takes_only_itself_out() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: lost, host: nowhere.invalid, routes: [{{hosts: [lost.example]}}]}}\n\
         - {{name: shop, host: pool, routes: [{{hosts: [shop.example]}}]}}\n\
         upstreams:\n- name: pool\n{}  - {{target: 'nobody.invalid:80', weight: 100}}\n",
        targets(&[(&origin, 100)])
    ));
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "a");
        client
            .exchange(&Request::get("/").host("lost.example"))
            .assert_own_answer(503, "name resolution failed");
    }
    let eligible = |target: &str| {
        gateway
            .metrics()
            .sum("serin_target_eligible", &[("target", target)])
    };
    assert_eq!(eligible("nobody.invalid:80"), Some(0.0));
    assert_eq!(eligible("nowhere.invalid:80"), Some(0.0));
    assert_eq!(eligible(&origin.address().to_string()), Some(1.0));
    let log = gateway.log_text();
    assert!(log.contains("nowhere.invalid cannot be resolved"), "{log}");
}

/// The port of the Service plays no part where its host names an Upstream.
#[test]
fn a_host_that_is_an_upstreams_name_is_the_upstream() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: shop, host: localhost, port: 1, routes: [{{paths: [/]}}]}}\n\
         upstreams:\n- name: localhost\n{}",
        targets(&[(&origin, 1)])
    ));
    assert_eq!(gateway.get("/").text(), "a");
}
