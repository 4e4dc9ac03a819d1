//! What was acknowledged is kept, whatever happens to the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use serde_json::json;

use crate::harness::{Gateway, wait_until};

const WRITERS: usize = 10;
const KILLS: usize = 200;

/// What a writer knows of its entity's field.
#[derive(Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    /// What was sent last; perhaps kept, if the process was killed before it could answer.
    sent: u64,
}

/// Writes ever larger numbers until the process is gone.
fn write_on(gateway: &Gateway, writer: usize, mut known: Known, answers: &AtomicUsize) -> Known {
    let mut admin = gateway.admin();
    loop {
        known.sent = known.acknowledged + 1;
        let body = json!({"host": "h", "connect_timeout": known.sent});
        match admin.try_send("PUT", &format!("/services/s{writer}"), &body) {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.body);
                known.acknowledged = known.sent;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return known,
        }
    }
}

fn changed_at(gateway: &Gateway) -> SystemTime {
    std::fs::metadata(gateway.folder().join("serin.redb"))
        .and_then(|store| store.modified())
        .unwrap()
}

/// Ten writers never rest. Half of the kills come a number of answers after the start, the others as soon as the
/// store's file is seen to change, which is while a commit is written or before it is answered. After each start
/// every entity holds what was acknowledged last, or what was under way at the kill.
#[test]
fn every_acknowledged_write_outlives_two_hundred_kills() {
    let mut gateway = Gateway::start("");
    let mut known = [Known::default(); WRITERS];
    let mut kept_unanswered = 0;
    for kill in 0..KILLS {
        let answers = AtomicUsize::new(0);
        let running = &gateway;
        known = std::thread::scope(|scope| {
            let writers: Vec<_> = known
                .iter()
                .enumerate()
                .map(|(writer, known)| {
                    let answers = &answers;
                    scope.spawn(move || write_on(running, writer, *known, answers))
                })
                .collect();
            wait_until("answers", || {
                (answers.load(Ordering::Relaxed) > kill % 23).then_some(())
            });
            if kill % 2 == 1 {
                let before = changed_at(running);
                wait_until("a commit", || (changed_at(running) != before).then_some(()));
            }
            running.signal(rustix::process::Signal::KILL);
            let known: Vec<Known> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            known.try_into().unwrap_or_else(|_| panic!("one each"))
        });
        gateway.wait_for_exit();
        gateway = gateway.restart();
        let mut admin = gateway.admin();
        for (writer, known) in known.iter_mut().enumerate() {
            let answer = admin.get(&format!("/services/s{writer}"));
            let found = answer.body["connect_timeout"].as_u64().unwrap_or(0);
            let is_either = found == known.acknowledged || found == known.sent;
            assert!(
                is_either,
                "kill {kill}: {found} instead of {} or {}",
                known.acknowledged, known.sent
            );
            kept_unanswered += usize::from(found > known.acknowledged);
            known.acknowledged = found;
        }
    }
    eprintln!("{kept_unanswered} writes were kept and not answered, in {KILLS} kills");
    // If none were, no kill came between commit and answer and the test would not try what it says.
    assert!(kept_unanswered > 0);
}

/// Both read, add one, and write under the condition that nobody has written meanwhile.
#[test]
fn two_writers_lose_no_update_in_a_thousand_rounds() {
    const ROUNDS: u64 = 1000;
    let gateway = Gateway::start("");
    gateway
        .admin()
        .send("PUT", "/services/s", json!({"host": "h", "retries": 0}))
        .expect(200);
    let add = || {
        let mut admin = gateway.admin();
        for _ in 0..ROUNDS {
            loop {
                let now = admin.get("/services/s");
                let tag = now.response.header("etag").unwrap().to_owned();
                let retries = now.body["retries"].as_u64().unwrap() + 1;
                let answer = admin.send_if("PATCH", "/services/s", json!({"retries": retries}), &tag);
                match answer.status {
                    200 => break,
                    status => assert_eq!(status, 412, "{}", answer.body),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(add);
        scope.spawn(add);
    });
    assert_eq!(gateway.admin().get("/services/s").body["retries"], 2 * ROUNDS);
}

/// Each writes a field of its own, both at once, without a condition: a PATCH is read, changed and written in one.
#[test]
fn patches_of_two_fields_at_once_are_both_there() {
    let gateway = Gateway::start("");
    gateway
        .admin()
        .send("PUT", "/services/s", json!({"host": "h"}))
        .expect(200);
    for round in 1..=100 {
        std::thread::scope(|scope| {
            for field in ["retries", "port"] {
                let gateway = &gateway;
                scope.spawn(move || {
                    let body = json!({ field: round });
                    gateway.admin().send("PATCH", "/services/s", body).expect(200);
                });
            }
        });
        let service = gateway.admin().get("/services/s").expect(200);
        assert_eq!(
            (&service["retries"], &service["port"]),
            (&json!(round), &json!(round))
        );
    }
}
