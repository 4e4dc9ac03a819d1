//! Names of Targets and Services, against a name server of our own.
//!
//! A change of address is waited for by what the origins answer, a failed look-up by its metric.

use std::net::IpAddr;

use crate::harness::{DnsAnswer as Answer, Gateway, NameServer, Origin, wait_until};

/// One Upstream of one named Target, on the port that all origins of a test share.
fn gateway(server: &NameServer, port: u16) -> Gateway {
    Gateway::start(&format!(
        "server: {{dns: {{resolvers: ['{}']}}, trusted_ips: [127.0.0.0/8]}}\n\
         services: [{{name: shop, host: shop, routes: [{{paths: [/]}}]}}]\n\
         upstreams: [{{name: shop, targets: [{{target: 'shop.test:{port}', weight: 100}}]}}]\n",
        server.address
    ))
}

fn addresses(addresses: &[[u8; 4]], ttl: u32) -> Answer {
    Answer::Addresses(
        addresses.iter().map(|address| IpAddr::from(*address)).collect(),
        ttl,
    )
}

/// Origins on several loopback addresses and one port.
fn origins<const N: usize>(names: [&str; N]) -> [Origin; N] {
    let first = Origin::start_at(names[0], [127, 0, 7, 1]);
    let port = first.address().port();
    let mut first = Some(first);
    std::array::from_fn(|at| match at {
        0 => first.take().unwrap(),
        _ => Origin::start_on(names[at], ([127, 0, 7, at as u8 + 1], port).into()),
    })
}

#[test]
fn every_address_of_a_name_gets_the_targets_weight() {
    let [a, b] = origins(["a", "b"]);
    let server = NameServer::start();
    server.answer("shop.test", addresses(&[[127, 0, 7, 1], [127, 0, 7, 2]], 60));
    let gateway = gateway(&server, a.address().port());
    let mut client = gateway.client();
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!((a.count(), b.count()), (5, 5));
}

#[test]
fn a_change_of_address_is_used_when_the_time_to_live_is_over() {
    let [a, b] = origins(["a", "b"]);
    let server = NameServer::start();
    server.answer("shop.test", addresses(&[[127, 0, 7, 1]], 1));
    let gateway = gateway(&server, a.address().port());
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "a");
    server.answer("shop.test", addresses(&[[127, 0, 7, 2]], 60));
    wait_until("the new address", || {
        (client.get("/").text() == "b").then_some(())
    });
    a.forget();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b");
    }
    assert_eq!(a.count(), 0);
    assert!(b.count() > 10);
}

#[test]
fn the_last_good_addresses_stay_while_the_name_cannot_be_resolved() {
    for answer in [
        Answer::NoSuchName,
        Answer::Failure,
        Answer::Empty,
        Answer::Silence,
    ] {
        let [origin] = origins(["a"]);
        let server = NameServer::start();
        server.answer("shop.test", addresses(&[[127, 0, 7, 1]], 1));
        let gateway = gateway(&server, origin.address().port());
        server.answer("shop.test", answer.clone());
        wait_until("a failed look-up", || {
            let failed = gateway
                .metrics()
                .sum("serin_dns_lookups_total", &[("outcome", "failed")]);
            (failed >= Some(1.0)).then_some(())
        });
        let mut client = gateway.client();
        for _ in 0..10 {
            assert_eq!(client.get("/").text(), "a", "{answer:?}");
        }
        assert!(
            gateway
                .metrics()
                .sum("serin_dns_age_seconds", &[("name", "shop.test")])
                .is_some()
        );
    }
}

#[test]
fn a_name_that_comes_up_later_joins() {
    let [origin] = origins(["a"]);
    let server = NameServer::start();
    server.answer("shop.test", Answer::NoSuchName);
    let gateway = gateway(&server, origin.address().port());
    let mut client = gateway.client();
    client
        .get("/")
        .assert_own_answer(503, "failure to get a peer from the ring-balancer");
    server.answer("shop.test", addresses(&[[127, 0, 7, 1]], 60));
    wait_until("the name", || (client.get("/").status == 200).then_some(()));
}

#[test]
fn srv_records_bring_their_own_ports_and_weights() {
    let [a] = origins(["a"]);
    let b = Origin::start_at("b", [127, 0, 7, 1]);
    let spare = Origin::start_at("spare", [127, 0, 7, 1]);
    let server = NameServer::start();
    let port = |origin: &Origin| origin.address().port();
    server.answer(
        "shop.test",
        Answer::Services(
            vec![
                (1, 30, port(&a), "one.shop.test"),
                (1, 10, port(&b), "one.shop.test"),
                (2, 99, port(&spare), "one.shop.test"),
            ],
            60,
        ),
    );
    server.answer("one.shop.test", addresses(&[[127, 0, 7, 1]], 60));
    let gateway = gateway(&server, 1);
    let mut client = gateway.client();
    for _ in 0..40 {
        client.get("/");
    }
    assert_eq!((a.count(), b.count(), spare.count()), (30, 10, 0));
}

#[test]
fn a_name_that_times_out_delays_no_other() {
    let [a, b] = origins(["a", "b"]);
    let server = NameServer::start();
    server.answer("shop.test", addresses(&[[127, 0, 7, 1]], 1));
    server.answer("silent.test", Answer::Silence);
    let gateway = Gateway::start(&format!(
        "server: {{dns: {{resolvers: ['{}']}}}}\n\
         services: [{{name: shop, host: shop, routes: [{{paths: [/]}}]}}]\n\
         upstreams: [{{name: shop, targets: [{{target: 'shop.test:{port}'}}, {{target: 'silent.test:{port}'}}]}}]\n",
        server.address,
        port = a.address().port()
    ));
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "a");
    // The silent name is being asked for without end; the other one is renewed all the same.
    server.answer("shop.test", addresses(&[[127, 0, 7, 2]], 1));
    wait_until("the new address", || {
        (client.get("/").text() == "b").then_some(())
    });
    assert!(b.count() > 0);
}
