//! Anonymous visitors: a share of them, not of their requests, and each keeps the release, by a signed
//! cookie that comes with the first answer, whatever that is.

use crate::harness::{Gateway, Origin, Reply, Request, Response, canary};

const SECRET: &str = "server:\n  secret: \"an example of a secret: 32 bytes\"\n";

fn config(stable: &Origin, trial: &Origin, fields: &str) -> String {
    let plugin = format!("hash: cookie, cookie: visitor, {fields}");
    format!(
        "{SECRET}  trusted_ips: [127.0.0.9]\n  timeouts: {{requests_per_connection: 1000000}}\n{}",
        canary(stable, trial, &plugin)
    )
}

/// The cookie that an answer sets, as a browser sends it back.
fn issued(response: &Response) -> Option<String> {
    let cookie = response.header("Set-Cookie")?;
    Some(cookie.split(';').next().unwrap().to_owned())
}

fn with_cookie(cookie: &str) -> Request {
    Request::get("/").header("Cookie", cookie)
}

/// A share of requests would, after fifty of them, have shown the canary to 92 % of the visitors.
/// Gateway and visitors are strangers to each other: every id is made at random, so the share is within
/// four standard deviations, of 9.7 in 2,000, and not exact.
#[test]
fn two_thousand_visitors_of_fifty_requests_see_one_release_each() {
    const VISITORS: usize = 2000;
    const REQUESTS: usize = 50;
    const THREADS: usize = 8;
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let gateway = Gateway::start(&config(&stable, &trial, "percentage: 5"));
    let on_canary: usize = std::thread::scope(|scope| {
        let visit = || {
            let mut client = gateway.client();
            let one = |_| {
                let first = client.get("/");
                let cookie = issued(&first).expect("a new visitor is given a cookie");
                for _ in 1..REQUESTS {
                    let next = client.exchange(&with_cookie(&cookie));
                    assert_eq!(next.text(), first.text());
                    assert_eq!(next.header("Set-Cookie"), None, "nobody is given a second one");
                }
                usize::from(first.text() == "canary")
            };
            (0..VISITORS / THREADS).map(one).sum::<usize>()
        };
        let visits: Vec<_> = (0..THREADS).map(|_| scope.spawn(visit)).collect();
        visits.into_iter().map(|visit| visit.join().unwrap()).sum()
    });
    println!("{on_canary} of {VISITORS} visitors on the canary at 5 %");
    assert!((61..=139).contains(&on_canary), "{on_canary} of {VISITORS}");
    assert_eq!(trial.count(), on_canary * REQUESTS);
    assert_eq!(stable.count(), (VISITORS - on_canary) * REQUESTS);
}

#[test]
fn the_cookie_is_for_a_month_and_for_no_script() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let gateway = Gateway::start(&config(&stable, &trial, "percentage: 50"));
    let cookie = gateway.get("/").header("Set-Cookie").unwrap().to_owned();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=2592000; SameSite=Lax; HttpOnly");
    let (id, tag) = value.strip_prefix("visitor=").unwrap().split_once('.').unwrap();
    for part in [id, tag] {
        assert!(
            part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{value}"
        );
    }
    let mut client = crate::harness::Client::connect_from([127, 0, 0, 9], gateway.address());
    let secure = client.exchange(&Request::get("/").header("X-Forwarded-Proto", "https"));
    assert!(
        secure
            .header("Set-Cookie")
            .unwrap()
            .ends_with("; HttpOnly; Secure")
    );
}

/// Whoever could make up ids could try until one is on the canary.
#[test]
fn a_forged_cookie_is_as_good_as_none() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let gateway = Gateway::start(&config(&stable, &trial, "percentage: 50"));
    let cookie = issued(&gateway.get("/")).unwrap();
    assert_eq!(issued(&gateway.exchange(&with_cookie(&cookie))), None);
    let (id, tag) = cookie.split_once('.').unwrap();
    let other_id = format!("visitor={}", "0".repeat(32));
    for forged in [
        "visitor=".to_owned(),
        "visitor=canary".to_owned(),
        id.to_owned(),
        format!("{other_id}.{tag}"),
        format!("{id}.{}", "0".repeat(32)),
        cookie.to_uppercase().replace("VISITOR", "visitor"),
    ] {
        let response = gateway.exchange(&with_cookie(&forged));
        assert!(issued(&response).is_some_and(|new| new != cookie), "{forged}");
    }
    // Beside a forged one, a sound one counts.
    let both = format!("visitor=canary; {cookie}");
    assert_eq!(issued(&gateway.exchange(&with_cookie(&both))), None);
}

#[test]
fn a_share_that_is_lowered_takes_the_canary_back_from_those_it_took_in_last() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let gateway = Gateway::start(&config(&stable, &trial, "percentage: 100"));
    let cookies: Vec<String> = (0..200).map(|_| issued(&gateway.get("/")).unwrap()).collect();
    let mut client = gateway.client();
    let mut on_canary = || -> Vec<bool> {
        cookies
            .iter()
            .map(|cookie| client.exchange(&with_cookie(cookie)).text() == "canary")
            .collect()
    };
    let mut before = on_canary();
    assert!(before.iter().all(|is_on_canary| *is_on_canary));
    for share in [60, 20, 0] {
        gateway.apply(&config(&stable, &trial, &format!("percentage: {share}")));
        let now = on_canary();
        assert!(
            now.iter().zip(&before).all(|(now, before)| *before || !now),
            "nobody new at {share}"
        );
        before = now;
    }
    assert!(before.iter().all(|is_on_canary| !is_on_canary));
}

/// The first answer decides for good, so it brings the cookie even if it is an error.
#[test]
fn the_cookie_comes_with_errors_too() {
    let stable = Origin::start("stable");
    let mut trial = Origin::start("canary");
    let gateway = Gateway::start(&config(&stable, &trial, "percentage: 100"));
    trial.answer(Reply::status(500));
    let response = gateway.get("/");
    assert_eq!(response.status, 500);
    assert!(issued(&response).is_some());
    trial.refuse();
    let response = gateway.get("/");
    assert_eq!(response.status, 502);
    assert!(issued(&response).is_some());
    gateway.apply(&config(
        &stable,
        &trial,
        "percentage: 100, upstream_fallback: true",
    ));
    let response = gateway.get("/");
    assert_eq!((response.status, response.text()), (200, "stable".to_owned()));
    assert!(issued(&response).is_some());
    // Nobody may be chosen: answered before the request goes anywhere.
    let nobody = canary(&stable, &trial, "percentage: 100, hash: cookie, cookie: visitor")
        .replace("weight: 100", "weight: 0");
    gateway.apply(&format!("{SECRET}{nobody}"));
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!(response.status, 503);
        assert!(issued(&response).is_some());
    }
}

/// Without a secret one is made, so that visitors are known again after a restart.
#[test]
fn a_secret_is_made_where_there_is_none() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let gateway = Gateway::start(&canary(
        &stable,
        &trial,
        "percentage: 50, hash: cookie, cookie: visitor",
    ));
    let cookie = issued(&gateway.get("/")).unwrap();
    assert!(gateway.folder().join("serin.secret").exists());
    assert_eq!(issued(&gateway.exchange(&with_cookie(&cookie))), None);
}

/// With `hash: consumer` a visitor who has shown no credential goes by the cookie, if one is configured,
/// and one who has goes by the Consumer.
#[test]
fn the_cookie_stands_in_for_a_consumer() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let plugins = "plugins: [{name: key-auth, config: {anonymous: nobody}}, ";
    let consumers =
        "consumers:\n- {username: nobody}\n- {username: alice, keyauth_credentials: [{key: alice}]}\n";
    let config = canary(&stable, &trial, "percentage: 50, cookie: visitor").replace("plugins: [", plugins);
    let gateway = Gateway::start(&format!("{config}{consumers}"));
    let mut client = gateway.client();
    let alice = Request::get("/").header("apikey", "alice");
    let of_alice: Vec<String> = (0..10).map(|_| client.exchange(&alice).text()).collect();
    assert!(of_alice.iter().all(|name| *name == of_alice[0]), "{of_alice:?}");
    assert_eq!(issued(&client.exchange(&alice)), None);
    // Anonymous visitors are many, not one: forty of them are not all on one side.
    let of_visitors: Vec<String> = (0..40).map(|_| client.get("/").text()).collect();
    assert!(
        of_visitors.iter().any(|name| name == "stable") && of_visitors.iter().any(|name| name == "canary")
    );
    let first = client.get("/");
    let cookie = issued(&first).unwrap();
    assert_eq!(client.exchange(&with_cookie(&cookie)).text(), first.text());
}
