//! Timed ramps. `start` lies in the past, so that nobody waits: an hour of a hundred days' ramp is
//! longer than any test.

use crate::harness::{Gateway, Origin, Request, canary};

const DAY: u64 = 24 * 3600;
const USERS: usize = 200;

/// Seconds since 1970.
fn now() -> u64 {
    serin::clock::unix().as_secs()
}

/// A ramp of 100 days that has come half-way into the step after `steps` of `of`.
fn under_way(steps: u64, of: u64) -> String {
    let step = 100 * DAY / of;
    let start = now() - steps * step - step / 2;
    format!(
        "start: {start}, duration: {}, steps: {of}, hash: header, hash_header: x-user",
        100 * DAY
    )
}

fn answers(gateway: &Gateway) -> Vec<String> {
    let mut client = gateway.client();
    let user = |user: usize| Request::get("/").header("X-User", &user.to_string());
    (0..USERS)
        .map(|number| client.exchange(&user(number)).text())
        .collect()
}

fn assert_nobody_went_back(before: &[String], now: &[String], when: &str) {
    for (user, (before, now)) in before.iter().zip(now).enumerate() {
        assert!(
            before == "stable" || now == "canary",
            "user {user} went back {when}"
        );
    }
}

#[test]
fn at_each_of_ten_steps_the_share_is_a_tenth_more() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    // The buckets must not change with `start`, which the default salt has no part of.
    let gateway = Gateway::start(&canary(&stable, &trial, &under_way(0, 10)));
    let mut before = answers(&gateway);
    assert!(
        before.iter().all(|name| name == "stable"),
        "nobody in the first step"
    );
    for step in 1..10 {
        gateway.apply(&canary(&stable, &trial, &under_way(step, 10)));
        let share = step as f64 / 10.0;
        gateway.wait_for_metric("serin_release_share_ratio", &[("service", "shop")], share);
        let now = answers(&gateway);
        assert_nobody_went_back(&before, &now, &format!("at step {step}"));
        let on_canary = now.iter().filter(|name| *name == "canary").count() as f64;
        let deviation = (USERS as f64 * share * (1.0 - share)).sqrt();
        assert!(
            (on_canary - USERS as f64 * share).abs() < 4.0 * deviation,
            "{on_canary} of {USERS} at {share}"
        );
        before = now;
    }
    let over = format!(
        "start: {}, duration: {DAY}, hash: header, hash_header: x-user",
        now() - DAY - 1
    );
    gateway.apply(&canary(&stable, &trial, &over));
    assert!(
        answers(&gateway).iter().all(|name| name == "canary"),
        "everybody at the end"
    );
    let ahead = format!(
        "start: {}, duration: {DAY}, hash: header, hash_header: x-user",
        now() + DAY
    );
    gateway.apply(&canary(&stable, &trial, &ahead));
    assert!(
        answers(&gateway).iter().all(|name| name == "stable"),
        "nobody before the start"
    );
}

#[test]
fn a_restart_in_the_middle_moves_nobody() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let config = canary(&stable, &trial, &under_way(4, 10));
    let gateway = Gateway::start(&config);
    let before = answers(&gateway);
    drop(gateway);
    assert_eq!(answers(&Gateway::start(&config)), before);
}

/// Half-way into step 5 of 10 the share is 50 %; three steps would make it 33 %, seven 42 %.
#[test]
fn other_steps_in_the_middle_move_nobody_back() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let fields = under_way(5, 10);
    let gateway = Gateway::start(&canary(&stable, &trial, &fields));
    let mut before = answers(&gateway);
    for steps in [3, 7, 1000, 2] {
        gateway.apply(&canary(
            &stable,
            &trial,
            &fields.replace("steps: 10,", &format!("steps: {steps},")),
        ));
        let now = answers(&gateway);
        assert_nobody_went_back(&before, &now, &format!("with {steps} steps"));
        before = now;
    }
}

/// Nobody edits or signals anything: the share moves on by itself.
#[test]
fn the_share_grows_by_itself() {
    let (stable, trial) = (Origin::start("stable"), Origin::start("canary"));
    let fields = format!(
        "start: {}, duration: 2, steps: 20, hash: header, hash_header: x-user",
        now()
    );
    let gateway = Gateway::start(&canary(&stable, &trial, &fields));
    let mut before = answers(&gateway);
    crate::harness::wait_until("everybody is on the canary", || {
        let now = answers(&gateway);
        assert_nobody_went_back(&before, &now, "while it grows");
        before = now;
        before.iter().all(|name| name == "canary").then_some(())
    });
    assert_eq!(gateway.status()["generation"], 1);
}
