//! What lasts or is large: server-sent events, WebSockets, bodies beyond any buffer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::{Client, Gateway, HANG_LIMIT, Http2, Origin, Request, now, shop, wait_until};

/// A gigabyte: more than any buffer could hide.
const LARGE: usize = 1 << 30;
/// What a body of a gigabyte may add to the memory of the gateway.
const MEMORY_KIB: u64 = 32 * 1024;
/// What a connection may take that waits for its next request.
const WAITING_KIB: u64 = 12;

fn gateway(origin: &Origin, server: &str) -> Gateway {
    let listeners = "  listeners: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0, h2c: true}]\n";
    Gateway::start(&format!("server:\n{listeners}{server}{}", shop(&[(origin, 1)])))
}

#[test]
fn events_are_passed_on_as_they_come() {
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "");
    origin.stream();
    let mut client = gateway.client();
    client.send(
        Request::get("/events")
            .header("Accept", "text/event-stream")
            .to_bytes(),
    );
    assert_eq!(client.receive_head().0, 200);
    // Each is there before the next is sent.
    for event in ["data: one\n\n", "data: two\n\n", ": a comment\n\n"] {
        origin.send_part(event);
        assert_eq!(client.receive_chunk().as_deref(), Some(event.as_bytes()));
    }
    origin.end_stream();
    assert_eq!(client.receive_chunk(), None);

    let mut client = Http2::connect(gateway.addresses()[1]);
    let exchange = client.send(&Request::get("/events"));
    let mut answer = client.answer(exchange);
    for event in ["data: one\n\n", "data: two\n\n"] {
        origin.send_part(event);
        assert_eq!(client.part(&mut answer).as_deref(), Some(event.as_bytes()));
    }
    origin.end_stream();
    assert_eq!(client.read(answer).text(), "");
}

#[test]
fn a_websocket_may_be_idle_for_longer_than_a_body() {
    let origin = Origin::start("a");
    origin.upgrade();
    let gateway = gateway(
        &origin,
        "  timeouts: {body_idle: 100ms, header: 100ms, keepalive: 1s}\n",
    );
    let mut client = gateway.client();
    let request = Request::get("/chat").header("Connection", "Upgrade");
    client.send(request.header("Upgrade", "websocket").to_bytes());
    assert_eq!(client.receive_head().0, 101);
    let silent_until = now() + Duration::from_millis(1500);
    wait_until("the silence is over", || (now() >= silent_until).then_some(()));
    client.send("ping");
    assert_eq!(client.receive_bytes(4), b"ping");
}

/// An origin for bodies that are thrown away as they come, or made up as they go.
fn large_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve_large(stream));
        }
    });
    address
}

fn serve_large(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(HANG_LIMIT))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut bytes = vec![b'x'; 256 * 1024];
    if head.starts_with(b"POST") {
        let mut left = LARGE;
        while left > 0 {
            let count = stream.read(&mut bytes)?;
            assert!(count > 0);
            left -= count;
        }
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread");
    }
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())?;
    for _ in 0..LARGE / bytes.len() {
        stream.write_all(&bytes)?;
    }
    Ok(())
}

#[test]
fn a_gigabyte_goes_up_and_down_in_bounded_memory() {
    let origin = large_origin();
    let gateway = Gateway::start(&format!(
        "services:\n- {{name: files, host: 127.0.0.1, port: {}, routes: [{{name: all, paths: [/]}}]}}\n",
        origin.port()
    ));
    let before = gateway.peak_memory_kib();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    assert_eq!(client.receive_head().0, 200);
    let mut left = LARGE;
    while left > 0 {
        let count = client.read_up_to(left.min(1 << 20) as u64).len();
        assert!(count > 0, "{left} bytes are missing");
        left -= count;
    }
    let mut client = Client::connect(gateway.address());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"
    ));
    let bytes = vec![b'x'; 1 << 20];
    for _ in 0..LARGE / bytes.len() {
        client.send(&bytes);
    }
    assert_eq!(client.receive().text(), "read");
    let grown = gateway.peak_memory_kib() - before;
    assert!(grown < MEMORY_KIB, "{grown} KiB");
}

#[test]
fn a_connection_that_waits_for_its_next_request_takes_little_memory() {
    const COUNT: usize = 500;
    let origin = Origin::start("a");
    let gateway = gateway(&origin, "  threads: 1\n");
    let served = || {
        let mut client = gateway.client();
        assert_eq!(client.get("/").status, 200);
        client
    };
    let first: Vec<Client> = (0..100).map(|_| served()).collect();
    let before = gateway.peak_memory_kib();
    let others: Vec<Client> = (0..COUNT).map(|_| served()).collect();
    let each = (gateway.peak_memory_kib() - before) / COUNT as u64;
    assert!(each < WAITING_KIB, "{each} KiB");
    drop((first, others));
}
