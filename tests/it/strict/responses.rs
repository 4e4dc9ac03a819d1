//! Origins that break the protocol: the client gets 502 or a cut, and nobody gets what was another's.
//!
//! Each case has two clients and one origin. The first one's answer is wrong; the second one asks right
//! after it, over whatever connection the gateway has to the origin, and must get its own.

use super::origin::{StrictOrigin, Then};
use crate::harness::{Client, Gateway, Response};

/// What the first client gets.
#[derive(Debug, Clone, Copy)]
enum Gets {
    /// An answer of the gateway's own.
    BadGateway,
    /// A whole answer with this status and body.
    Whole(u16, &'static str),
    /// The beginning of an answer, which ends with the connection, or 502.
    Cut,
}

use Gets::{BadGateway, Cut, Whole};

#[track_caller]
fn check(method: &str, cases: &[(&str, Then, Gets)]) {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let mut other = gateway.client();
    for (bytes, then, gets) in cases {
        origin.answer("/wrong", *bytes, *then);
        let mut client = gateway.client();
        client.send(format!("{method} /wrong HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.try_receive(method != "HEAD");
        match (gets, answer) {
            (BadGateway, Ok(answer)) => {
                answer.assert_own_answer(502, "An invalid response was received from the upstream server");
            }
            (Cut, Ok(answer)) => assert_eq!(answer.status, 502, "{bytes:?}"),
            (Cut, Err(_)) => {}
            (Whole(status, body), Ok(answer)) => {
                assert_eq!((answer.status, &*answer.text()), (*status, *body), "{bytes:?}");
                assert!(answer.headers.all("Content-Length").len() <= 1, "{answer:?}");
                assert_is_framed_once(&answer);
            }
            (gets, Err(error)) => panic!("{error} instead of {gets:?} for {bytes:?}"),
        }
        assert_is_own(&mut other, "/other");
        // And on the connection of the first, if that is kept.
        if client.try_send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
            && let Ok(answer) = client.try_receive(true)
        {
            assert_eq!((answer.status, &*answer.text()), (200, "/next"), "{bytes:?}");
        }
        origin.take();
    }
}

#[track_caller]
fn assert_is_framed_once(answer: &Response) {
    let framing = ["Content-Length", "Transfer-Encoding"].map(|name| answer.headers.all(name).len());
    assert!(framing.iter().sum::<usize>() <= 1, "{answer:?}");
}

#[track_caller]
fn assert_is_own(client: &mut Client, target: &str) {
    let answer = client.get(target);
    assert_eq!((answer.status, &*answer.text()), (200, target));
}

#[test]
fn a_body_that_ends_in_two_ways_is_not_passed_on() {
    check(
        "GET",
        &[
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Then::Keep,
                BadGateway,
            ),
            // One reading is left where the length is one, or the coding overrides it (RFC 9112 §6.3).
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
                Then::Keep,
                Whole(200, "ok"),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 02\r\nContent-Length: 2\r\n\r\nok",
                Then::Keep,
                Whole(200, "ok"),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Then::Keep,
                Whole(200, "ok"),
            ),
        ],
    );
}

#[test]
fn what_is_no_answer_is_a_502() {
    check(
        "GET",
        &[
            ("hello\r\n", Then::Close, BadGateway),
            ("<html>hello</html>", Then::Close, BadGateway),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
                Then::Close,
                BadGateway,
            ),
            ("HTTP/1.1 200 OK\r\nno field\r\n\r\n", Then::Keep, BadGateway),
            (
                "HTTP/1.1 200 OK\r\nX\0: y\r\nContent-Length: 2\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Then::Keep,
                BadGateway,
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                Then::Keep,
                BadGateway,
            ),
            // Two lines in one, which the client sees as one.
            (
                "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
                Then::Keep,
                Whole(200, "ok"),
            ),
        ],
    );
}

#[test]
fn a_body_that_breaks_off_or_makes_no_sense_is_cut() {
    check(
        "GET",
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", Then::Close, Cut),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
                Then::Close,
                Cut,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n",
                Then::Keep,
                Cut,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
                Then::Keep,
                Cut,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!!\r\n0\r\n\r\n",
                Then::Keep,
                Cut,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
                Then::Keep,
                Cut,
            ),
        ],
    );
}

/// An answer that nobody has asked for, behind one that is whole.
const STRAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";

#[test]
fn what_follows_an_answer_reaches_nobody() {
    let after = |head: &str| format!("{head}{STRAY}");
    let cases = [
        (
            after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            Whole(200, "ok"),
        ),
        (
            after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            Whole(200, "ok"),
        ),
        (after("HTTP/1.1 204 No Content\r\n\r\n"), Whole(204, "")),
        (
            after("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
            Whole(204, ""),
        ),
        (
            after("HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n"),
            BadGateway,
        ),
        (
            after("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
            BadGateway,
        ),
        (
            after("HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n"),
            Whole(304, ""),
        ),
        (
            after("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Whole(304, ""),
        ),
    ];
    let cases = cases
        .each_ref()
        .map(|(bytes, gets)| (bytes.as_str(), Then::Keep, *gets));
    check("GET", &cases);
    let head = after("HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n");
    check("HEAD", &[(&head, Then::Keep, Whole(200, ""))]);
}

/// The same where the stray bytes come when the answer is with the client and the connection is idle.
#[test]
fn what_comes_on_an_idle_connection_reaches_nobody() {
    let origin = StrictOrigin::start();
    let gateway = Gateway::start(&origin.config());
    let (mut one, mut two) = (gateway.client(), gateway.client());
    for (target, bytes) in [
        ("/200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("/204", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 43\r\n\r\n"),
    ] {
        origin.answer(target, bytes, Then::Keep);
        assert_eq!(one.get(target).status.to_string(), target[1..]);
        origin.send_unasked(STRAY.as_bytes());
        assert_is_own(&mut two, "/two");
        assert_is_own(&mut one, "/one");
    }
    assert_eq!(origin.take().len(), 9);
}
