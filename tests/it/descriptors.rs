//! A process that has run out of descriptors: it waits, blames nobody, and serves again.
//!
//! The limit is 100 and 400 clients connect. That accepting pauses is proven by a lower bound: three refusals
//! of the system in a row take two pauses of a second.

use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Client, Command, Gateway, Origin, now, shop, wait_until};

/// Descriptors that the process may have.
const LIMIT: usize = 100;
/// Clients that connect.
const FLOOD: usize = 400;

fn has_run_out(line: &&String) -> bool {
    line.contains("Accept() failed") || line.contains("Too many open files")
}

#[test]
fn a_flood_beyond_the_limit_is_survived_and_no_target_is_blamed() {
    let origin = Origin::start("a");
    let checks = "  healthchecks:\n    active: {type: tcp, timeout: 1, healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1, timeouts: 5}}\n    \
                  passive: {type: http, unhealthy: {tcp_failures: 1}}\n";
    let mut gateway = Command::run_after(
        &format!("ulimit -n {LIMIT}"),
        &format!("{}{checks}", shop(&[(&origin, 1)])),
    )
    .start();
    gateway.wait_for_log_with(&format!("open files: at most {LIMIT}"));
    assert_eq!(gateway.get("/").text(), "a");
    origin.close_connections();
    let begun = now();
    let mut first: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    let flood: Vec<TcpStream> = (0..FLOOD)
        .map(|_| TcpStream::connect(gateway.address()).unwrap())
        .collect();
    let refusals = |gateway: &Gateway| gateway.log().iter().filter(has_run_out).count();
    wait_until("the system refuses three times", || {
        (refusals(&gateway) >= 3).then_some(())
    });
    assert!(now() - begun >= Duration::from_secs(2), "{}", gateway.log_text());
    // Nothing is left for a connection to the Target, which it is not to blame for.
    for client in &mut first {
        let status = client.get("/").status;
        assert!([200, 502, 503].contains(&status), "{status}");
    }
    drop((flood, first));
    wait_until("the gateway serves again", || {
        let mut client = Client::connect(gateway.address());
        (client.get("/").text() == "a").then_some(())
    });
    assert!(!gateway.has_exited());
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("serin_target_health_changes_total", &[]), None);
    assert_eq!(metrics.sum("serin_target_eligible", &[]), Some(1.0));
    assert_eq!(metrics.sum("serin_panics_total", &[]), Some(0.0));
}

#[test]
fn the_limit_is_raised_to_the_one_that_the_system_sets() {
    let with = |connections: &str| {
        let config = format!("server:\n  limits: {{connections: {connections}}}\n");
        Command::run_after("ulimit -Sn 256; ulimit -Hn 5000", &config).start()
    };
    with("2500").wait_for_log("open files: at most 5000");
    with("2501").wait_for_log_with("and not for the 2501 of server.limits.connections");
}
