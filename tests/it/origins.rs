//! Connections to origins, byte by byte: what goes out when, how long one is kept, and by whom it is shared.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::harness::{Gateway, HANG_LIMIT, Origin, Request, targets};

/// An origin whose connections the test serves itself.
struct Raw(TcpListener);

impl Raw {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn gateway(&self) -> Gateway {
        let port = self.0.local_addr().unwrap().port();
        Gateway::start(&format!(
            "services:\n- {{name: raw, host: 127.0.0.1, port: {port}, routes: [{{name: all, paths: [/]}}]}}\n"
        ))
    }

    fn accept(&self) -> Connection {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        Connection(stream)
    }
}

struct Connection(TcpStream);

impl Connection {
    /// Reads until what has come ends so; returns the number of reads that it took.
    fn read_to(&mut self, end: &str) -> (Vec<u8>, usize) {
        let (mut all, mut reads) = (Vec::new(), 0);
        let mut bytes = [0; 64 * 1024];
        while !all.ends_with(end.as_bytes()) {
            let count = self.0.read(&mut bytes).unwrap();
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&all));
            all.extend(&bytes[..count]);
            reads += 1;
        }
        (all, reads)
    }

    fn assert_silent(&self) {
        self.0.set_nonblocking(true).unwrap();
        let outcome = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn answer(&mut self) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        self.0.write_all(answer).unwrap();
    }

    fn assert_closes(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_body_that_comes_with_its_header_goes_out_with_it() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    let mut client = gateway.client();
    let mut kept: Option<Connection> = None;
    for size in [1, 100, 3_000, 7_000] {
        let body = "b".repeat(size);
        client.send(Request::post("/", &body).to_bytes());
        let mut connection = kept.take().unwrap_or_else(|| origin.accept());
        let (request, reads) = connection.read_to(&format!("\r\n\r\n{body}"));
        assert_eq!(reads, 1, "{size}: {}", String::from_utf8_lossy(&request));
        connection.answer();
        assert_eq!(client.receive().text(), "ok");
        kept = Some(connection);
    }
}

#[test]
fn a_slow_upload_goes_out_as_it_comes() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    for (framing, first, second) in [
        ("Content-Length: 9", "part", "other"),
        (
            "Transfer-Encoding: chunked",
            "4\r\npart\r\n",
            "5\r\nother\r\n0\r\n\r\n",
        ),
    ] {
        // The header alone, then the rest; or both at once, then the rest.
        for pieces in [["", first], [first, ""]] {
            let mut client = gateway.client();
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{}",
                pieces[0]
            ));
            let mut connection = origin.accept();
            let header_and = |piece: &str| format!("\r\n\r\n{piece}");
            connection.read_to(&header_and(pieces[0]));
            if !pieces[1].is_empty() {
                connection.assert_silent();
                client.send(pieces[1]);
                connection.read_to(pieces[1]);
            }
            connection.assert_silent();
            client.send(second);
            connection.read_to(second);
            connection.answer();
            assert_eq!(client.receive().text(), "ok");
            // The next one is on a connection of its own.
            drop(connection);
        }
    }
}

#[test]
fn half_a_chunk_holds_back_no_header() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4");
    let mut connection = origin.accept();
    connection.read_to("\r\n\r\n");
    client.send("\r\npart\r\n0\r\n\r\n");
    connection.read_to("4\r\npart\r\n0\r\n\r\n");
    connection.answer();
    assert_eq!(client.receive().text(), "ok");
}

#[test]
fn an_idle_connection_that_its_origin_closes_is_closed() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    let mut connection = origin.accept();
    connection.read_to("\r\n\r\n");
    connection.answer();
    assert_eq!(client.receive().text(), "ok");
    connection.0.shutdown(std::net::Shutdown::Write).unwrap();
    connection.assert_closes();
}

/// A connection is kept after any answer that is whole, and after no other.
#[test]
fn answers_of_every_framing_leave_their_connection_as_they_should() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    let mut client = gateway.client();
    let mut connection: Option<Connection> = None;
    for (answer, is_kept) in [
        ("200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("204 No Content\r\n\r\n", true),
        ("304 Not Modified\r\n\r\n", true),
        (
            "103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
            true,
        ),
        (
            "200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            false,
        ),
        ("200 OK\r\nContent-Length: 2\r\n\r\nok and more", false),
    ] {
        client.send(Request::get("/").to_bytes());
        let mut used = connection.take().unwrap_or_else(|| origin.accept());
        used.read_to("\r\n\r\n");
        used.0.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
        while client.receive().status < 200 {}
        if is_kept {
            connection = Some(used);
        } else {
            used.assert_closes();
        }
    }
}

/// An answer that comes byte by byte is read as such, whatever the buffer of its header has left.
#[test]
fn an_answer_may_come_in_pieces_of_any_size() {
    let origin = Raw::start();
    let gateway = origin.gateway();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    let mut connection = origin.accept();
    connection.read_to("\r\n\r\n");
    let filler = "f".repeat(9_000);
    let answer = format!("HTTP/1.1 200 OK\r\nFiller: {filler}\r\nContent-Length: 2\r\n\r\nok");
    connection.0.set_nodelay(true).unwrap();
    for byte in answer.as_bytes().chunks(1) {
        connection.0.write_all(byte).unwrap();
    }
    let response = client.receive();
    assert_eq!(
        (response.text().as_str(), response.header("filler")),
        ("ok", Some(&*filler))
    );
    client.send(Request::get("/").to_bytes());
    connection.read_to("\r\n\r\n");
}

#[test]
fn two_upstreams_share_no_connection_at_one_address() {
    let origin = Origin::start("a");
    let targets = targets(&[(&origin, 1)]);
    let gateway = Gateway::start(&format!(
        r#"services:
- {{name: one, host: one, routes: [{{name: one, paths: [/one]}}]}}
- {{name: other, host: other, routes: [{{name: other, paths: [/other]}}]}}
upstreams:
- name: one
{targets}- name: other
{targets}"#
    ));
    let mut client = gateway.client();
    for _ in 0..3 {
        for path in ["/one", "/other"] {
            assert_eq!(client.get(path).text(), "a");
        }
    }
    assert_eq!((origin.count(), origin.connections()), (6, 2));
}
