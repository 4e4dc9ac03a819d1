//! Least connections, latency and sticky sessions, by who received what.
//!
//! Origins hold requests for as long as a test wants them in flight, so that loads are known exactly.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Client, Gateway, Origin, Reply, Request, Response, targets};

const SECRET: &str = "server:\n  secret: an-example-secret-of-more-than-32-bytes\n";

/// An Upstream with these fields.
fn pool(server: &str, fields: &str, origins: &[(&Origin, u32)]) -> String {
    format!(
        "{server}services:\n- {{name: shop, host: shop, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- name: shop\n  {fields}\n{}",
        targets(origins)
    )
}

fn three() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

fn counts<const N: usize>(origins: &[Origin; N]) -> [usize; N] {
    origins.each_ref().map(Origin::count)
}

/// Sends a GET and waits until some origin has it.
fn place<const N: usize>(gateway: &Gateway, origins: &[Origin; N]) -> Client {
    let before: usize = counts(origins).iter().sum();
    let mut client = gateway.client();
    client.send(Request::get("/").to_bytes());
    crate::harness::wait_until("the request at an origin", || {
        (counts(origins).iter().sum::<usize>() > before).then_some(())
    });
    client
}

mod least_connections {
    use super::*;

    const FIELDS: &str = "algorithm: least-connections";

    #[test]
    fn requests_in_flight_are_shared_out_by_weight() {
        let origins = three();
        origins.iter().for_each(Origin::hold);
        let [a, b, c] = &origins;
        let gateway = Gateway::start(&pool("", FIELDS, &[(a, 3), (b, 2), (c, 1)]));
        let mut clients: Vec<_> = (0..12).map(|_| place(&gateway, &origins)).collect();
        assert_eq!(counts(&origins), [6, 4, 2]);

        // What was answered is no load: the one that is idle gets all until it has its share again.
        b.answer_name();
        let target = b.address().to_string();
        let labels = [("upstream", "shop"), ("target", &*target)];
        gateway.wait_for_metric("serin_target_requests_in_flight", &labels, 0.0);
        let answered: Vec<_> = (0..100).map(|_| gateway.get("/").text()).collect();
        assert_eq!(answered, vec!["b"; 100]);
        origins.iter().for_each(Origin::answer_name);
        for client in &mut clients {
            assert_eq!(client.receive().status, 200);
        }
    }

    /// Requests come over twenty connections, which the two workers share between them.
    #[test]
    fn loads_are_counted_over_all_workers() {
        let origins = ["a", "b", "c", "d"].map(Origin::start);
        origins.iter().for_each(Origin::hold);
        let equal = origins.each_ref().map(|origin| (origin, 100));
        let gateway = Gateway::start(&pool("server:\n  threads: 2\n", FIELDS, &equal));
        let _clients: Vec<_> = (0..20).map(|_| place(&gateway, &origins)).collect();
        assert_eq!(counts(&origins), [5; 4]);
        gateway.wait_for_metric("serin_target_requests_in_flight", &[("upstream", "shop")], 20.0);
    }

    #[test]
    fn an_idle_pool_takes_turns() {
        let origins = three();
        let gateway = Gateway::start(&pool("", FIELDS, &origins.each_ref().map(|origin| (origin, 7))));
        let mut client = gateway.client();
        for _ in 0..30 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(counts(&origins), [10; 3]);
    }

    #[test]
    fn weight_0_and_what_was_tried_are_never_picked() {
        let [out, bad, good] = three();
        bad.reset_before_header();
        let gateway = Gateway::start(&pool("", FIELDS, &[(&out, 0), (&bad, 100), (&good, 1)]));
        for _ in 0..10 {
            assert_eq!(gateway.get("/").text(), "c");
        }
        assert_eq!((out.count(), bad.count(), good.count()), (0, 10, 10));
    }
}

mod latency {
    use super::*;

    const FIELDS: &str = "algorithm: latency";

    #[test]
    fn each_target_is_asked_once_before_any_is_asked_again() {
        let origins = three();
        let gateway = Gateway::start(&pool("", FIELDS, &origins.each_ref().map(|origin| (origin, 100))));
        for round in 1..=3 {
            assert_eq!(gateway.get("/").status, 200);
            assert_eq!(
                counts(&origins).iter().filter(|count| **count == 1).count(),
                round
            );
        }
    }

    /// One origin holds its first request while the other answers 200. After that the first is known
    /// to take as long as all these together, so another 20 go past it as well.
    #[test]
    fn a_slow_target_is_passed_by() {
        let [slow, quick] = ["slow", "quick"].map(Origin::start);
        slow.hold();
        let gateway = Gateway::start(&pool("", FIELDS, &[(&slow, 100), (&quick, 100)]));
        let mut held = gateway.client();
        held.send(Request::get("/").to_bytes());
        slow.wait_for(1);
        let mut client = gateway.client();
        for _ in 0..200 {
            assert_eq!(client.get("/").text(), "quick");
        }
        slow.answer_name();
        assert_eq!(held.receive().text(), "slow");
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "quick");
        }
        assert_eq!((slow.count(), quick.count()), (1, 220));
        let average = |origin: &Origin| {
            let target = origin.address().to_string();
            let labels = [("upstream", "shop"), ("target", &*target)];
            gateway
                .metrics()
                .sum("serin_target_latency_average_seconds", &labels)
                .unwrap()
        };
        assert!(average(&slow) > average(&quick));
    }

    #[test]
    fn a_target_that_fails_at_once_does_not_look_quick() {
        let (dead, alive) = (Origin::refusing("dead"), Origin::start("alive"));
        let gateway = Gateway::start(&pool("", FIELDS, &[(&dead, 100), (&alive, 100)]));
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "alive");
        }
        // It was asked once, when nobody knew anything.
        let retried = [("service", "shop"), ("reason", "connect")];
        gateway.wait_for_metric("serin_upstream_retries_total", &retried, 1.0);
    }

    #[test]
    fn weight_0_is_never_picked() {
        let [out, a, b] = three();
        let gateway = Gateway::start(&pool("", FIELDS, &[(&out, 0), (&a, 1), (&b, 1)]));
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!((out.count(), a.count() + b.count()), (0, 20));
    }
}

mod sticky_sessions {
    use super::*;

    const FIELDS: &str =
        "algorithm: sticky-sessions\n  sticky_sessions_cookie: serin\n  sticky_sessions_cookie_path: /shop";

    fn sticky(origins: &[(&Origin, u32)]) -> String {
        pool(SECRET, FIELDS, origins)
    }

    /// The cookie that the gateway set, without its attributes.
    fn issued(response: &Response) -> Option<String> {
        let set = response.header("Set-Cookie")?;
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/shop; SameSite=Lax; HttpOnly");
        let token = cookie.strip_prefix("serin=").unwrap();
        assert!(crate::harness::is_request_id(token), "{token}");
        Some(cookie.to_owned())
    }

    fn with(cookie: &str) -> Request {
        Request::get("/").header("Cookie", &format!("theme=dark; {cookie}; lang=en"))
    }

    #[test]
    fn first_requests_take_turns_and_later_ones_come_back() {
        let origins = three();
        let gateway = Gateway::start(&sticky(&origins.each_ref().map(|origin| (origin, 100))));
        let mut client = gateway.client();
        let sessions: Vec<_> = (0..6)
            .map(|_| {
                let response = client.get("/");
                (issued(&response).unwrap(), response.text())
            })
            .collect();
        assert_eq!(counts(&origins), [2; 3]);
        assert_eq!(sessions[..3], sessions[3..], "a token for each target");
        for (cookie, name) in &sessions {
            for _ in 0..5 {
                let response = client.exchange(&with(cookie));
                assert_eq!((response.text(), issued(&response)), (name.clone(), None));
            }
        }
        assert_eq!(counts(&origins), [12; 3]);
    }

    #[test]
    fn sessions_outlive_a_restart_with_the_same_secret() {
        let origins = three();
        let config = sticky(&origins.each_ref().map(|origin| (origin, 100)));
        let first = Gateway::start(&config).get("/");
        let cookie = issued(&first).unwrap();
        let gateway = Gateway::start(&config);
        for _ in 0..4 {
            assert_eq!(gateway.exchange(&with(&cookie)).text(), first.text());
        }
        let other = Gateway::start(&config.replace("an-example", "another-example"));
        assert!(issued(&other.exchange(&with(&cookie))).is_some());
    }

    #[test]
    fn without_a_secret_one_is_made() {
        let origins = three();
        let equal = origins.each_ref().map(|origin| (origin, 100));
        let gateway = Gateway::start(&pool("", FIELDS, &equal));
        let file = gateway.folder().join("serin.secret");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_forged_cookie_counts_as_absent() {
        let origins = three();
        let gateway = Gateway::start(&sticky(&origins.each_ref().map(|origin| (origin, 100))));
        let issued_once = issued(&gateway.get("/")).unwrap();
        let forged = [
            "serin=".to_owned(),
            "serin=0".to_owned(),
            format!("serin={}", "0".repeat(32)),
            format!("serin={}", origins[0].address()),
            format!("{issued_once}0"),
            issued_once.replace("serin=", "other="),
        ];
        for cookie in &forged {
            assert!(issued(&gateway.exchange(&with(cookie))).is_some(), "{cookie}");
        }
        // One and six requests, all by round robin.
        let mut counts = counts(&origins);
        counts.sort_unstable();
        assert_eq!(counts, [2, 2, 3]);
    }

    #[test]
    fn a_target_of_weight_0_loses_its_sessions_at_once_and_the_others_keep_theirs() {
        let [a, b] = ["a", "b"].map(Origin::start);
        let gateway = Gateway::start(&sticky(&[(&a, 100), (&b, 100)]));
        let sessions = [(); 2].map(|()| {
            let response = gateway.get("/");
            (issued(&response).unwrap(), response.text())
        });
        let cookie_of = |name: &str| &sessions.iter().find(|session| session.1 == name).unwrap().0;
        gateway.apply(&sticky(&[(&a, 0), (&b, 100)]));
        let moved = gateway.exchange(&with(cookie_of("a")));
        assert_eq!(
            (moved.text(), issued(&moved).as_ref()),
            ("b".to_owned(), Some(cookie_of("b")))
        );
        let kept = gateway.exchange(&with(cookie_of("b")));
        assert_eq!((kept.text(), issued(&kept)), ("b".to_owned(), None));

        // Back in rotation its old sessions are good again: a token is a pure function of the address.
        gateway.apply(&sticky(&[(&a, 1), (&b, 100)]));
        assert_eq!(gateway.exchange(&with(cookie_of("a"))).text(), "a");
    }

    #[test]
    fn a_session_moves_for_good_when_its_target_fails() {
        let [a, b] = ["a", "b"].map(Origin::start);
        let gateway = Gateway::start(&sticky(&[(&a, 100), (&b, 100)]));
        let first = gateway.get("/");
        let (home, other) = if first.text() == "a" { (&a, &b) } else { (&b, &a) };
        home.reset_before_header();
        let cookie = issued(&first).unwrap();
        let moved = gateway.exchange(&with(&cookie));
        assert_eq!(moved.text(), other.name());
        let cookie = issued(&moved).unwrap();
        home.answer_name();
        for _ in 0..4 {
            assert_eq!(gateway.exchange(&with(&cookie)).text(), other.name());
        }
    }

    #[test]
    fn errors_after_a_choice_set_the_cookie_too() {
        let [a, b] = ["a", "b"].map(Origin::start);
        for origin in [&a, &b] {
            origin.answer(Reply::status(500).body("broken"));
        }
        let gateway = Gateway::start(&sticky(&[(&a, 100), (&b, 100)]));
        let response = gateway.get("/");
        assert_eq!(response.status, 500);
        let cookie = issued(&response).unwrap();
        let before = counts_of(&a, &b);
        assert_eq!(gateway.exchange(&with(&cookie)).status, 500);
        let after = counts_of(&a, &b);
        assert!(before == (1, 0) && after == (2, 0) || before == (0, 1) && after == (0, 2));

        for origin in [&a, &b] {
            origin.reset_before_header();
        }
        let response = gateway.exchange(&Request::post("/", "an order"));
        response.assert_own_answer(502, "An invalid response was received from the upstream server");
        assert!(issued(&response).is_some());
    }

    fn counts_of(a: &Origin, b: &Origin) -> (usize, usize) {
        (a.count(), b.count())
    }

    /// TLS ends at a trusted proxy in front, which says so.
    #[test]
    fn cookies_are_secure_for_clients_that_came_by_tls() {
        let origin = Origin::start("a");
        let server = format!("{SECRET}  trusted_ips: [127.0.0.1]\n");
        let hash = "hash_on: cookie\n  hash_on_cookie: serin\n  hash_on_cookie_path: /shop";
        for fields in [FIELDS, hash] {
            let gateway = Gateway::start(&pool(&server, fields, &[(&origin, 100)]));
            let secure = |from: [u8; 4], scheme: &str| {
                let request = Request::get("/").header("X-Forwarded-Proto", scheme);
                let response = Client::connect_from(from, gateway.address()).exchange(&request);
                let set = response.header("Set-Cookie").unwrap().to_owned();
                assert!(set.contains("; Path=/shop; SameSite=Lax; HttpOnly"), "{set}");
                set.ends_with("; HttpOnly; Secure")
            };
            assert!(secure([127, 0, 0, 1], "https"));
            assert!(!secure([127, 0, 0, 1], "http"));
            assert!(!secure([127, 0, 0, 2], "https"), "not trusted");
        }
    }
}
