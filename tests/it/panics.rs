//! A panic in a request costs that request.

use crate::harness::{Command, DEBUG, Origin, Request, shop};

/// Requests after the panic that must be as good as ever.
const AFTER: usize = 10_000;

#[test]
fn a_panic_costs_one_request_and_is_counted_with_its_place() {
    let origin = Origin::start("a");
    let gateway = Command::run(&format!("{DEBUG}{}", shop(&[(&origin, 1)])))
        .variable("FAULT_PANIC_PATH", "/panic")
        .start();
    let mut bystander = gateway.client();
    assert_eq!(bystander.get("/").text(), "a");
    let mut unlucky = gateway.client();
    assert!(unlucky.try_exchange(&Request::get("/panic")).is_err());
    for _ in 0..AFTER - 1 {
        assert_eq!(bystander.get("/").text(), "a");
    }
    assert_eq!(gateway.get("/").text(), "a");
    gateway.wait_for_metric("serin_panics_total", &[], 1.0);
    gateway.wait_for_metric("serin_http_requests_in_flight", &[], 0.0);
    let line = gateway.wait_for_log_with("panic in thread");
    assert!(line.contains(" at src/supervise.rs:"), "{line}");
    let lines = gateway.log();
    let panics = lines.iter().filter(|line| line.contains("panic in thread"));
    assert_eq!(panics.count(), 1);
}
