//! What clients may do before they have said what they want, and how much of it: slow and endless headers,
//! what is no request, too many connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Client, Gateway, Origin, Request, now, shop, wait_until};

const REFUSED: &str = "serin_http_requests_refused_total";

fn gateway(origin: &Origin, server: &str) -> Gateway {
    Gateway::start(&format!("server:\n{server}{}", shop(&[(origin, 1)])))
}

fn refused(gateway: &Gateway, reason: &str) -> Option<f64> {
    gateway.metrics().sum(REFUSED, &[("reason", reason)])
}

/// Sends bytes one by one, none later than a fraction of the limit after the one before, until the
/// gateway will not have any more.
fn drip(client: &mut Client, bytes: &str, pause: Duration) {
    let mut bytes = bytes.bytes().cycle();
    wait_until("the gateway ends it", || {
        let deadline = now() + pause;
        let is_over = client.try_send([bytes.next().unwrap()]).is_err();
        // Until the next byte is due.
        wait_until("the pause is over", || (now() >= deadline).then_some(()));
        (is_over || client.has_input()).then_some(())
    });
}

#[test]
fn a_header_that_drips_in_is_a_408_within_its_time() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {header: 300ms}\n");
    let mut client = gateway.client();
    let began = now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    drip(&mut client, "x", Duration::from_millis(10));
    client.receive().assert_refused(408, "Request timeout");
    client.assert_closes();
    assert!(now() - began >= Duration::from_millis(300));
    assert_eq!(origin.count(), 0);
    assert_eq!(refused(&gateway, "header_timeout"), Some(1.0));
}

#[test]
fn every_header_of_a_kept_connection_has_its_time() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {header: 300ms}\n");
    let mut client = gateway.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.exchange(&Request::post("/", "body")).status, 200);
    client.send("G");
    client.receive().assert_refused(408, "Request timeout");
    client.assert_closes();
    assert_eq!(origin.count(), 2);
    assert_eq!(refused(&gateway, "header_timeout"), Some(1.0));
}

#[test]
fn who_says_nothing_is_closed_without_an_answer() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  timeouts: {keepalive: 1s, header: 100ms}\n");
    gateway.client().assert_closes();
    assert_eq!(refused(&gateway, "header_timeout"), None);
}

#[test]
fn as_many_requests_are_under_way_as_clients_send_beside_any_load() {
    let origin = Origin::start("a");
    origin.hold();
    let gateway = gateway(&origin, "  threads: 1\n");
    let has_come = AtomicBool::new(false);
    let mut clients: Vec<_> = (0..300).map(|_| gateway.client()).collect();
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut other = gateway.persistent_client();
                while !has_come.load(Ordering::Relaxed) {
                    assert_eq!(other.exchange(&Request::new("TRACE", "/")).status, 405);
                }
            });
        }
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        origin.wait_for(clients.len());
        has_come.store(true, Ordering::Relaxed);
    });
    origin.answer_name();
    for client in &mut clients {
        assert_eq!(client.receive().status, 200);
    }
}

#[test]
fn a_header_without_an_end_is_refused_at_the_limit() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {header_bytes: 2KiB, uri_bytes: 1KiB}\n");
    for (beginning, status, message, reason) in [
        ("GET /", 414, "URI too long", "uri_too_long"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: ",
            431,
            "Request header or cookie too large",
            "header_too_large",
        ),
    ] {
        let mut client = gateway.client();
        client.send(beginning);
        let mut sent = 0;
        wait_until("the gateway ends it", || {
            sent += 1024;
            let is_over = client.try_send([b'x'; 1024]).is_err();
            (is_over || client.has_input()).then_some(())
        });
        client.receive().assert_refused(status, message);
        client.read_to_end();
        assert_eq!(refused(&gateway, reason), Some(1.0));
        // What was on its way is all that comes beyond the limit.
        assert!(sent <= 4 * 1024 * 1024, "{sent}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn more_fields_than_pingora_reads_are_a_431() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {headers: 256}\n");
    let mut client = gateway.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "A:\r\n".repeat(256)
    ));
    client
        .receive()
        .assert_refused(431, "Request header or cookie too large");
    client.assert_closes();
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_is_no_request_is_answered_counted_and_logged() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  threads: 1\n");
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n");
    let answer = client.receive();
    answer.assert_refused(400, "Bad request");
    client.assert_closes();
    // Its line is written once both ends have closed.
    drop(client);
    gateway.wait_for_lines("stdout", 1);
    let mut client = gateway.client();
    client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    client.receive().assert_refused(405, "Method not allowed");
    client.assert_closes();
    drop(client);
    assert_eq!(refused(&gateway, "malformed"), Some(1.0));
    assert_eq!(refused(&gateway, "connect"), Some(1.0));
    let lines = gateway.wait_for_lines("stdout", 2);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let id = answer.header("X-Kong-Request-Id").unwrap();
    assert_eq!(
        (line["status"].as_u64(), line["request_id"].as_str()),
        (Some(400), Some(id))
    );
    assert_eq!(
        (line["client"].as_str(), line["error"].as_str()),
        (Some("127.0.0.1"), Some("malformed"))
    );
}

#[test]
fn chunks_are_read_strictly_wherever_they_come() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  threads: 1\n");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for bad in [
        "\r\n\r\n",
        ";a\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "1\r\na\r\n\r\n\r\n",
    ] {
        // With the header, and after it.
        let mut client = gateway.client();
        client.send(format!("{head}{bad}"));
        client.receive().assert_own_answer(400, "Bad request");
        client.read_to_end();
        let mut client = gateway.client();
        client.send(head);
        client.send(bad);
        client.receive().assert_own_answer(400, "Bad request");
        client.read_to_end();
    }
    assert_eq!(origin.count(), 0);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(format!("{head}5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"));
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(origin.wait_for(2)[1].body, b"hello");
}

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {body_bytes: 10}\n");
    for _ in 0..10 {
        let mut client = gateway.client();
        let length = 1024 * 1024;
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(vec![b'x'; length]);
        client.receive().assert_own_answer(413, "Payload too large");
        client.assert_closes();
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn each_client_address_has_its_connections() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {connections_per_ip: 2}\n");
    let connect = |last: u8| Client::connect_from([127, 0, 0, last], gateway.address());
    let (mut one, mut two) = (connect(1), connect(1));
    assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
    connect(1).assert_closes();
    let counted = gateway
        .metrics()
        .sum("serin_connections_refused_total", &[("reason", "per_ip")]);
    assert_eq!(counted, Some(1.0));
    assert_eq!(connect(2).get("/").status, 200);
    // What is closed makes room.
    drop(one);
    wait_until("the address has room", || {
        (connect(1).try_exchange(&Request::get("/")).ok()?.status == 200).then_some(())
    });
}

#[test]
fn there_are_as_many_connections_as_allowed() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  limits: {connections: 3}\n");
    let mut clients = [gateway.client(), gateway.client(), gateway.client()];
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    gateway.client().assert_closes();
    let counted = gateway
        .metrics()
        .sum("serin_connections_refused_total", &[("reason", "total")]);
    assert_eq!(counted, Some(1.0));
    assert_eq!(clients[0].get("/").status, 200);
}

#[test]
fn clients_come_by_ipv6_and_by_unix_sockets() {
    let origin = Origin::start("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http");
    let gateway = gateway(
        &origin,
        &format!(
            "  listeners: [{{address: '[::1]:0'}}, {{address: 'unix:{}'}}]\n",
            path.display()
        ),
    );
    assert!(gateway.address().is_ipv6());
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(origin.only().header("X-Real-IP"), Some("::1"));
    origin.forget();
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.get("/").status, 200);
    // There is no address to tell.
    assert_eq!(origin.only().header("X-Real-IP"), None);
    assert_eq!(origin.only().header("X-Forwarded-For"), None);
}

#[test]
fn a_load_balancer_says_who_the_client_is() {
    let origin = Origin::start("a");
    let gateway = gateway(
        &origin,
        "  listeners: [{address: 127.0.0.1:0, proxy_protocol: true}]\n  trusted_ips: [127.0.0.1]\n  limits: {connections_per_ip: 2}\n",
    );
    let connect = |header: &str| {
        let mut client = gateway.client();
        client.send(header);
        client
    };
    let shop = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    let mut kept = connect(shop);
    // What the client says of itself is not believed: the load balancer is, the client is not.
    let request = Request::get("/").header("X-Forwarded-For", "9.9.9.9");
    assert_eq!(kept.exchange(&request).status, 200);
    assert_eq!(kept.get("/").status, 200);
    let received = origin.received();
    assert_eq!(received[0].header("X-Real-IP"), Some("192.0.2.1"));
    assert_eq!(received[1].header("X-Forwarded-For"), Some("192.0.2.1"));
    assert_eq!(received[1].header("X-Forwarded-Port"), Some("443"));
    // The limit is that of the client, and not of the load balancer.
    let mut second = connect(shop);
    assert_eq!(second.get("/").status, 200);
    connect(shop).assert_closes();
    origin.forget();
    // A health check of the load balancer's own.
    assert_eq!(connect("PROXY UNKNOWN\r\n").get("/").status, 200);
    assert_eq!(origin.only().header("X-Real-IP"), Some("127.0.0.1"));
    // Version 2, in two pieces.
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x02\0\x50\x01\xbb";
    let mut client = gateway.client();
    client.send(&header[..20]);
    client.send(&header[20..]);
    origin.forget();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(origin.only().header("X-Real-IP"), Some("192.0.2.7"));
}

#[test]
fn without_the_word_of_a_load_balancer_nothing_is_said() {
    let origin = Origin::start("a");
    let gateway = gateway(
        &origin,
        "  listeners: [{address: 127.0.0.1:0, proxy_protocol: true}]\n  trusted_ips: [127.0.0.1]\n  timeouts: {header: 300ms}\n",
    );
    let mut plain = gateway.client();
    plain.send(Request::get("/").to_bytes());
    plain.assert_closes();
    let mut stranger = Client::connect_from([127, 0, 0, 2], gateway.address());
    // It may be closed before all is sent.
    let _ = stranger.try_send("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n");
    stranger.assert_closes();
    let mut slow = gateway.client();
    slow.send("PROXY TCP4 ");
    slow.assert_closes();
    let refused = gateway
        .metrics()
        .sum("serin_connections_refused_total", &[("reason", "proxy_protocol")]);
    assert_eq!(refused, Some(3.0));
    assert_eq!(origin.count(), 0);
}
