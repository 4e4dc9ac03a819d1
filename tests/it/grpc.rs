//! gRPC: HTTP/2 on both sides, trailers from end to end, messages as they come.

use std::time::Duration;

use crate::harness::{Gateway, GrpcOrigin, Http2, Request, now, wait_until};

fn gateway(origin: &GrpcOrigin) -> Gateway {
    Gateway::start(&format!(
        "server:\n  listeners: [{{address: 127.0.0.1:0, h2c: true}}]\n  timeouts: {{body_idle: 100ms}}\n\
         services:\n- {{name: shop, protocol: grpc, host: shop, routes: [{{name: all, protocols: [grpc, grpcs], strip_path: false, paths: [/shop.Orders]}}]}}\n\
         upstreams:\n- {{name: shop, targets: [{{target: '{}'}}]}}\n",
        origin.address()
    ))
}

fn call(message: &str) -> Request {
    Request::new("POST", "/shop.Orders/Place")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(message)
}

#[test]
fn a_call_has_its_status_in_trailers() {
    let origin = GrpcOrigin::start();
    let gateway = gateway(&origin);
    let mut client = Http2::connect(gateway.address());
    for _ in 0..3 {
        let exchange = client.send(&call("message"));
        let mut answer = client.answer(exchange);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers.get("content-type"), Some("application/grpc"));
        assert_eq!(client.part(&mut answer).as_deref(), Some(&b"message"[..]));
        assert_eq!(client.part(&mut answer), None);
        let trailers = client.trailers(&mut answer).unwrap();
        assert_eq!(trailers.get("grpc-status"), Some("0"));
    }
    let received = origin.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[0].get("te"), Some("trailers"));
    assert_eq!(received[0].get(":path"), Some("/shop.Orders/Place"));
    assert_eq!(
        received[0].get(":authority"),
        Some(&*origin.address().to_string())
    );
    assert_eq!(origin.connections(), 1);
}

#[test]
fn messages_of_a_stream_are_passed_on_as_they_come() {
    let origin = GrpcOrigin::start();
    let gateway = gateway(&origin);
    let mut client = Http2::connect(gateway.address());
    let mut exchange = client.open(&call(""));
    client.write(&mut exchange, "one", false);
    let mut answer = client.answer_to(&mut exchange);
    assert_eq!(client.part(&mut answer).as_deref(), Some(&b"one"[..]));
    for message in ["two", "three"] {
        client.write(&mut exchange, message, message == "three");
        assert_eq!(client.part(&mut answer).as_deref(), Some(message.as_bytes()));
    }
    assert_eq!(client.part(&mut answer), None);
    assert_eq!(
        client.trailers(&mut answer).unwrap().get("grpc-status"),
        Some("0")
    );
}

#[test]
fn a_stream_may_be_silent_for_longer_than_a_body() {
    let origin = GrpcOrigin::start();
    let gateway = gateway(&origin);
    let mut client = Http2::connect(gateway.address());
    let mut exchange = client.open(&call(""));
    for message in ["one", "two"] {
        let silent_until = now() + Duration::from_millis(400);
        wait_until("the silence is over", || (now() >= silent_until).then_some(()));
        client.write(&mut exchange, message, message == "two");
    }
    let mut answer = client.answer_to(&mut exchange);
    assert_eq!(client.part(&mut answer).as_deref(), Some(&b"one"[..]));
    assert_eq!(client.part(&mut answer).as_deref(), Some(&b"two"[..]));
}

/// What Kong answers to what is no gRPC, or came another way, on a Route for gRPC.
#[test]
fn what_is_no_grpc_over_http_2_is_told_so() {
    let origin = GrpcOrigin::start();
    let gateway = Gateway::start(&format!(
        "server:\n  listeners: [{{address: 127.0.0.1:0}}, {{address: 127.0.0.1:0, h2c: true}}]\n\
         services:\n- name: shop\n  protocol: grpc\n  host: 127.0.0.1\n  port: {}\n  routes:\n\
         \x20 - {{name: any, protocols: [grpc, grpcs], strip_path: false, paths: [/shop.Orders]}}\n\
         \x20 - {{name: secure, protocols: [grpcs], strip_path: false, paths: [/shop.Secrets]}}\n",
        origin.address().port()
    ));
    let old = gateway.exchange(&call("message"));
    old.assert_own_answer(426, "Please use HTTP2 protocol");
    assert_eq!(old.header("Upgrade"), Some("HTTP/2"));
    gateway
        .get("/shop.Orders/Place")
        .assert_own_answer(415, "Non-gRPC request matched gRPC route");

    let mut client = Http2::connect(gateway.addresses()[1]);
    let plain = client.exchange(&Request::post("/shop.Orders/Place", "{}"));
    plain.assert_own_answer(415, "Non-gRPC request matched gRPC route");
    let secret = Request::new("POST", "/shop.Secrets/Read").header("content-type", "application/grpc");
    let answer = client.exchange(&secret.body("message"));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!(answer.header("grpc-status"), Some("1"));
    assert_eq!(
        answer.header("grpc-message"),
        Some("gRPC request matched gRPCs route")
    );
    assert_eq!(origin.received().len(), 0);
    assert_eq!(client.exchange(&call("message")).text(), "message");
}
