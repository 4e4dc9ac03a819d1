//! The kept corpus and proptest, over every body.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const CASES: u32 = 256;

/// Runs a body over its corpus, then over bytes and over fragments put together, from a fixed seed.
fn check(name: &str, body: fn(&[u8]), fragments: &'static [&'static str]) {
    replay(name, body);
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    let put_together = prop::collection::vec(prop::sample::select(fragments), 0..12);
    let put_together = put_together.prop_map(|parts| parts.concat().into_bytes());
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let config = Config {
        // What fails is for the corpus.
        failure_persistence: None,
        ..Config::with_cases(CASES)
    };
    let mut runner = TestRunner::new_with_rng(config, seed);
    let either = prop_oneof![1 => bytes, 3 => put_together];
    let outcome = runner.run(&either, |data| {
        body(&data);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn replay(name: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        // Named where it breaks: the body's own message has the bytes only.
        eprintln!("{}", path.display());
        body(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn config() {
    check(
        "config",
        super::config,
        &[
            "_format_version: \"3.0\"\n",
            "services:\n",
            "- name: a\n",
            "  host: b\n",
            "  url: http://c/d\n",
            "  routes: [{paths: [/x], name: r}]\n",
            "upstreams: [{name: u, targets: [{target: 'a:1', weight: 0}]}]\n",
            "consumers: [{username: c, tags: [t]}]\n",
            "plugins: [{name: canary, config: {percentage: 5}}]\n",
            "server: {threads: 1}\n",
            "x: &a [*a]\n",
            "  <<: {port: 1}\n",
            "- &b {id: 1}\n",
            "${A:-x}",
            "\u{feff}",
            "\t",
            "---\n",
            "!!binary ",
            "\"\\x00",
            "- {",
        ],
    );
}

#[test]
fn form() {
    check(
        "form",
        super::form,
        &[
            "name=a",
            "&",
            "&",
            "&",
            "=",
            "host=b",
            "port=80",
            "tags[]=x",
            "hosts[1]=y",
            "config.percentage=5",
            "[",
            "]",
            ".",
            "[b]",
            "%5B",
            "%ff",
            "+",
            "%2",
            "service.id=",
            "=false",
            "=1e400",
            "=-0",
            "{",
            "}",
            "{\"a\":[",
            "\"",
            "--XX\r\n",
            "Content-Disposition: form-data; name=\"a\"\r\n\r\n",
            "--XX--\r\n",
        ],
    );
}

#[test]
fn authority() {
    check(
        "authority",
        super::authority,
        &[
            "a",
            "A.b",
            ".",
            ":",
            ":80",
            ":65536",
            ":065535",
            "[",
            "]",
            "[::1]",
            "::",
            "%",
            "%41",
            "%4",
            "@",
            "\0",
            " ",
            "-",
            "_",
            "\u{fc}",
            "/",
            "?",
            "#",
            ",",
            "1.2.3.4",
            "[::ffff:1.2.3.4]",
            "+1",
        ],
    );
}

#[test]
fn target() {
    check(
        "target",
        super::target,
        &[
            "/", "/", "*", "http://", "HTTPS://", "a", "a:80", "@", "?", "#", "%", "%41", "%00", "%7f",
            "%2e", "..", "//", "\\", " ", "\t", "|", "\u{fc}", "[::1]", ":", "<", "\"", "%+1",
        ],
    );
}

#[test]
fn path() {
    check(
        "path",
        super::path,
        &[
            "/", "/", "/", ".", "..", "a", "%", "%2e", "%2E", "%2f", "%2F", "%25", "%61", "%%32e", "%zz",
            "\u{e9}", ";", "...", "%c3%A9", "//",
        ],
    );
}

#[test]
fn client() {
    check(
        "client",
        super::client,
        &[
            "10.0.0.9",
            "1.1.1.1",
            ",",
            ", ",
            "\n",
            "=",
            "[2001:db8::1]:4711",
            "2001:db8:1::9",
            "unknown",
            "::ffff:10.0.0.2",
            "[::1]",
            "1.1.1.1:80",
            " ",
            "\t",
            "\u{e9}",
            "[",
            "]",
            "127.0.0.1",
            "256.1.1.1",
            ":",
        ],
    );
}

#[test]
fn chunks() {
    check(
        "chunks",
        super::chunks,
        &[
            "0",
            "1",
            "5",
            "a",
            "\r\n",
            "\r\n",
            "\r",
            "\n",
            ";",
            " ",
            "x",
            "hello",
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "A: b\r\n",
            "\0",
            "\u{e9}",
            "\"",
            "000000000000000",
            "fffffffffffffff",
            "0x5",
            "+5",
            "\t",
        ],
    );
}

#[test]
fn head() {
    check(
        "head",
        super::head,
        &[
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.1\r\n",
            "GET http://a/ HTTP/1.0\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "Host: a\r\n",
            "Host: a\r\n",
            "Host: a\r\n",
            "\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            "Content-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding:\tchunked \r\n",
            "Connection: close\r\n",
            "Upgrade: websocket\r\nConnection: upgrade\r\n",
            "Expect: 100-continue\r\n",
            " x\r\n",
            "X_a: b\r\n",
            "hello",
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "1;x=\"\n",
            ": ",
            "\0",
            "\u{fc}",
            "#",
            "%00",
        ],
    );
}
