//! SIGTERM: not ready at once, still accepting for a while, then out as soon as nobody is left.
//!
//! That something is early is proven by a deadline of ten minutes, which no test would survive, not
//! by measuring time.

use crate::harness::{Client, Gateway, Origin, Request, now, shop};

fn start(origin: &Origin, delay: &str, deadline: &str) -> Gateway {
    Gateway::start(&format!(
        "server:\n  threads: 2\n  shutdown: {{pre_stop_delay: {delay}, drain: {deadline}}}\n{}",
        shop(&[(origin, 1)])
    ))
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    gateway.terminate();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn not_ready_comes_first_and_clients_are_still_served() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "600s", "600s");
    assert_eq!(gateway.get_status("/status/ready").status, 200);
    let mut old = gateway.client();
    assert_eq!(old.get("/").text(), "a");
    gateway.terminate();
    gateway.wait_for_log("accepting for 600s more");
    let ready = gateway.get_status("/status/ready");
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (503, "{\"message\":\"draining\"}")
    );
    assert_eq!(gateway.get_status("/status/live").status, 200);
    assert_eq!(gateway.status()["phase"], "draining");
    // Whoever has not heard of it yet is served, on old connections and on new ones, and told to go
    // elsewhere, so that nobody meets a closed connection later.
    let mut new = gateway.client();
    for client in [&mut old, &mut new] {
        let response = client.get("/");
        assert_eq!(response.text(), "a");
        assert_eq!(response.header("Connection"), Some("close"));
        client.assert_closes();
    }
    // A second signal ends the delay.
    gateway.terminate();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn a_request_in_flight_is_finished_and_then_the_process_ends() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    let mut client = gateway.client();
    origin.hold();
    client.send(Request::get("/").to_bytes());
    origin.wait_for(1);
    gateway.terminate();
    refuses_connections(&gateway);
    assert!(!gateway.has_exited());
    origin.answer_name();
    let response = client.receive();
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    assert_eq!(response.header("Connection"), Some("close"));
    client.assert_closes();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    gateway.wait_for_log("drained");
}

/// Waits until nobody listens any more.
fn refuses_connections(gateway: &Gateway) {
    crate::harness::wait_until("the listener is closed", || {
        std::net::TcpStream::connect(gateway.address()).err()
    });
}

#[test]
fn clients_that_go_where_they_are_told_lose_no_request() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "300ms", "600s");
    let address = gateway.address();
    let is_told = |client: &mut Client| {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "a"));
        response.header("Connection") == Some("close")
    };
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(scope.spawn(move || {
                let mut client = Client::connect(address);
                while !is_told(&mut client) {}
            }));
            clients.push(scope.spawn(move || while !is_told(&mut Client::connect(address)) {}));
        }
        origin.wait_for(100);
        gateway.terminate();
        for client in clients {
            client.join().unwrap();
        }
    });
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    gateway.wait_for_log("drained");
}

#[test]
fn a_request_that_is_on_its_way_when_accepting_ends_is_answered() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    let mut client = gateway.client();
    gateway.wait_for_metric("serin_connections", &[], 1.0);
    gateway.terminate();
    refuses_connections(&gateway);
    let response = client.get("/");
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    assert_eq!(response.header("Connection"), Some("close"));
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_during_the_drain_ends_it_at_once() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    origin.hold();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    origin.wait_for(1);
    gateway.terminate();
    refuses_connections(&gateway);
    gateway.terminate();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    gateway.wait_for_log("second SIGTERM: exit");
}

#[test]
fn a_body_under_way_is_finished() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    let mut client = gateway.client();
    origin.stream();
    client.send(Request::get("/").to_bytes());
    assert_eq!(client.receive_head().0, 200);
    origin.send_part("one");
    assert_eq!(client.receive_chunk().as_deref(), Some(&b"one"[..]));
    gateway.terminate();
    refuses_connections(&gateway);
    origin.send_part("two");
    assert_eq!(client.receive_chunk().as_deref(), Some(&b"two"[..]));
    origin.end_stream();
    assert_eq!(client.receive_chunk(), None);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    let mut used: Vec<Client> = (0..10).map(|_| gateway.client()).collect();
    for client in &mut used {
        assert_eq!(client.get("/").text(), "a");
    }
    let mut fresh: Vec<Client> = (0..10).map(|_| gateway.client()).collect();
    gateway.wait_for_metric("serin_connections", &[], 20.0);
    gateway.terminate();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    for client in used.iter_mut().chain(&mut fresh) {
        client.assert_closes();
    }
}

#[test]
fn what_hangs_is_cut_off_at_the_deadline_and_the_exit_is_still_clean() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "300ms");
    origin.hold();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    origin.wait_for(1);
    let asked = now();
    gateway.terminate();
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    assert!(now() - asked >= std::time::Duration::from_millis(300));
    gateway.wait_for_log("is over with 1 connections open");
    client.assert_closes();
}

#[test]
fn sigint_ends_it_without_a_drain() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "600s", "600s");
    origin.hold();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    origin.wait_for(1);
    gateway.signal(rustix::process::Signal::INT);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn the_last_lines_of_the_access_log_are_written() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "0s", "600s");
    let mut client = gateway.client();
    for number in 0..100 {
        assert_eq!(client.get(&format!("/{number}")).status, 200);
    }
    gateway.terminate();
    gateway.wait_for_exit();
    let lines = std::fs::read_to_string(gateway.folder().join("stdout")).unwrap();
    assert_eq!(lines.lines().count(), 100);
}
