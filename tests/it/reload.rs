//! Changes of the configuration under a running gateway: by file and by signal, good and bad, and
//! many of them under load.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{
    Command, DEBUG, Gateway, Origin, Request, complete, replace, shop, targets, wait_until,
};

fn reload_successful(gateway: &Gateway) -> Option<f64> {
    gateway.metrics().sum("serin_config_last_reload_successful", &[])
}

#[test]
fn an_edit_of_the_file_is_live_by_itself() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "a");
    gateway.apply(&shop(&[(&b, 1)]));
    // On the connection of before, too.
    assert_eq!(client.get("/").text(), "b");
    gateway.wait_for_metric("serin_config_generation", &[], 2.0);
    let applied = [("outcome", "applied")];
    assert_eq!(
        gateway.metrics().sum("serin_config_reloads_total", &applied),
        Some(1.0)
    );
    gateway.wait_for_log("generation 2 is in force");
}

#[test]
fn an_edit_in_place_is_live_by_itself() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let edited = text.replace(&a.address().to_string(), &b.address().to_string());
    std::fs::write(gateway.config_path(), edited).unwrap();
    gateway.wait_for_generation(2);
    assert_eq!(gateway.get("/").text(), "b");
}

/// The file lies behind a link into a folder that is not watched, so nothing but the signal (or a
/// poll after two seconds) can tell of the change.
#[test]
fn a_signal_makes_it_look() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target.yaml");
    std::fs::copy(gateway.config_path(), &target).unwrap();
    link(&target, &gateway);
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "unchanged")], 1.0);
    let text = std::fs::read_to_string(&target).unwrap();
    replace(
        &target,
        text.replace(&a.address().to_string(), &b.address().to_string()),
    );
    gateway.reload_by_signal();
    gateway.wait_for_generation(2);
    assert_eq!(gateway.get("/").text(), "b");
}

/// Puts a link in the place of the configuration, in one step.
fn link(target: &std::path::Path, gateway: &Gateway) {
    let new = gateway.folder().join("link.new");
    symlink(target, &new).unwrap();
    std::fs::rename(&new, gateway.config_path()).unwrap();
}

#[test]
fn an_unchanged_file_is_no_new_generation() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&shop(&[(&origin, 1)]));
    let unchanged = [("outcome", "unchanged")];
    for count in 1..=3 {
        gateway.reload_by_signal();
        gateway.wait_for_metric("serin_config_reloads_total", &unchanged, f64::from(count));
    }
    gateway.write_config(&shop(&[(&origin, 1)]));
    gateway.wait_for_metric("serin_config_reloads_total", &unchanged, 4.0);
    assert_eq!(gateway.status()["generation"], 1);
}

#[test]
fn files_beside_the_configuration_are_none_of_its_business() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&shop(&[(&origin, 1)]));
    for number in 0..50 {
        std::fs::write(gateway.folder().join(format!("note-{number}")), "x").unwrap();
    }
    // What is asked for after that is answered after that.
    gateway.reload_by_signal();
    gateway.wait_for_metric("serin_config_reloads_total", &[], 1.0);
}

#[test]
fn a_bad_file_changes_nothing_and_is_shown_as_check_shows_it() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "a");

    let bad = shop(&[(&b, 1)])
        .replace("weight: 1", "weight: many")
        .replace("strip_path", "stripe_path");
    gateway.write_config(&bad);
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    assert_eq!(client.get("/").text(), "a");
    assert_eq!(reload_successful(&gateway), Some(0.0));
    let status = gateway.status();
    assert_eq!(status["generation"], 1);
    let last = &status["configuration"]["last_reload"];
    assert_eq!(last["successful"], false);
    let shown: Vec<_> = last["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let bad = std::fs::read_to_string(gateway.config_path()).unwrap();
    let (code, stdout, _) = Command::new(&["check", "serin.yaml"])
        .file("serin.yaml", &bad)
        .finish();
    assert_eq!(code, Some(1));
    assert_eq!(shown.join("\n"), stdout.trim_end());
    // The log has it too, set in.
    let log: Vec<_> = gateway.log().iter().map(|line| line.trim().to_owned()).collect();
    for line in stdout.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(log.iter().any(|logged| logged == line), "{line}\n---\n{log:#?}");
    }

    // Looking again at what is still bad is a refusal again; a repaired file is taken.
    gateway.reload_by_signal();
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 2.0);
    gateway.apply(&shop(&[(&b, 1)]));
    assert_eq!(client.get("/").text(), "b");
    assert_eq!(reload_successful(&gateway), Some(1.0));
    let last = gateway.status()["configuration"]["last_reload"].clone();
    assert_eq!(last["successful"], true);
    assert_eq!(last["problems"], serde_json::Value::Array(vec![]));
}

#[test]
fn taking_a_bad_edit_back_is_good_again_without_a_new_generation() {
    let origin = Origin::start("a");
    let good = shop(&[(&origin, 1)]);
    let gateway = Gateway::start(&good);
    for count in 1..=3 {
        gateway.write_config("services: 7\n");
        gateway.wait_for_metric(
            "serin_config_reloads_total",
            &[("outcome", "refused")],
            f64::from(count),
        );
        assert_eq!(reload_successful(&gateway), Some(0.0));
        gateway.write_config(&good);
        gateway.wait_for_metric("serin_config_last_reload_successful", &[], 1.0);
    }
    assert_eq!(gateway.status()["generation"], 1);
}

#[test]
fn a_file_that_is_gone_for_a_moment_changes_nothing() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&shop(&[(&a, 1)]));
    std::fs::remove_file(gateway.config_path()).unwrap();
    gateway.wait_for_metric("serin_config_reloads_total", &[("outcome", "refused")], 1.0);
    assert_eq!(gateway.get("/").text(), "a");
    gateway.write_config(&shop(&[(&b, 1)]));
    gateway.wait_for_generation(2);
    assert_eq!(gateway.get("/").text(), "b");
}

/// Kubernetes mounts `serin.yaml -> ..data/serin.yaml` and `..data -> ..2024_1`, and swaps `..data`.
#[test]
fn a_swap_of_kubernetes_links_is_live_by_itself() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let command = Command::run(&shop(&[(&a, 1)]));
    let folder = command.folder().to_owned();
    std::fs::create_dir(folder.join("..2024_1")).unwrap();
    std::fs::rename(folder.join("serin.yaml"), folder.join("..2024_1/serin.yaml")).unwrap();
    symlink("..2024_1", folder.join("..data")).unwrap();
    symlink("..data/serin.yaml", folder.join("serin.yaml")).unwrap();
    let gateway = command.start();
    assert_eq!(gateway.get("/").text(), "a");

    let text = std::fs::read_to_string(folder.join("serin.yaml")).unwrap();
    std::fs::create_dir(folder.join("..2024_2")).unwrap();
    let edited = text.replace(&a.address().to_string(), &b.address().to_string());
    std::fs::write(folder.join("..2024_2/serin.yaml"), edited).unwrap();
    symlink("..2024_2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    std::fs::remove_dir_all(folder.join("..2024_1")).unwrap();
    gateway.wait_for_generation(2);
    assert_eq!(gateway.get("/").text(), "b");
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_in_force() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let config = |listener: &str, origin: &Origin| {
        format!(
            "server:\n  listeners: [{{address: '{listener}'}}]\n{}",
            shop(&[(origin, 1)])
        )
    };
    let gateway = Gateway::start(&config("127.0.0.1:0", &a));
    let restart_required = || gateway.metrics().sum("serin_config_restart_required", &[]);
    assert_eq!(restart_required(), Some(0.0));
    gateway.apply(&config("127.0.0.2:0", &b));
    assert_eq!(restart_required(), Some(1.0));
    assert_eq!(gateway.status()["configuration"]["restart_required"], true);
    gateway.wait_for_log("server.listeners changed and needs a restart; the rest is in force");
    assert_eq!(gateway.get("/").text(), "b");
    gateway.apply(&config("127.0.0.1:0", &b));
    assert_eq!(restart_required(), Some(0.0));
}

#[test]
fn a_request_under_way_ends_under_the_configuration_it_began_with() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let config = |origin: &Origin| format!("{DEBUG}{}", shop(&[(origin, 1)]));
    let gateway = Gateway::start(&config(&a));
    a.hold();
    let mut client = gateway.client();
    let request = Request::get("/").header("X-Serin-Debug", "1");
    client.send(request.to_bytes());
    a.wait_for(1);
    gateway.apply(&config(&b));
    let response = gateway.exchange(&request);
    assert_eq!(response.text(), "b");
    assert_eq!(response.header("X-Serin-Generation"), Some("2"));
    a.answer_name();
    let response = client.receive();
    assert_eq!(response.text(), "a");
    assert_eq!(response.header("X-Serin-Generation"), Some("1"));
}

#[test]
fn trusted_ips_apply_to_the_next_request() {
    let origin = Origin::start("a");
    let config = |trusted: &str| format!("server:\n  trusted_ips: [{trusted}]\n{}", shop(&[(&origin, 1)]));
    let gateway = Gateway::start(&config(""));
    let mut client = gateway.client();
    let request = Request::get("/").header("X-Serin-Debug", "1");
    assert_eq!(client.exchange(&request).header("X-Serin-Generation"), None);
    gateway.apply(&config("127.0.0.1"));
    assert_eq!(client.exchange(&request).header("X-Serin-Generation"), Some("2"));
}

const RELOADS: u64 = 100;
/// Answers that every generation gives before the next one comes.
const ANSWERS: usize = 60;
/// Clients that keep their connection for as many requests as it serves, and clients that open one for each request.
const KEEPING: usize = 4;
const OPENING: usize = 2;

/// What the clients saw, by generation and origin.
type Seen = BTreeMap<u64, [usize; 2]>;

/// Two origins, weights that swap between 90:10 and 10:90 with each generation, and a Service path
/// that names the generation, so that the origins can count by generation too.
fn generation(number: u64, a: &Origin, b: &Origin) -> String {
    let (light, heavy) = (10, 90);
    let weights = match number % 2 {
        1 => [heavy, light],
        _ => [light, heavy],
    };
    format!(
        "{}  threads: 2\n  timeouts: {{requests_per_connection: 1000}}\nservices:\n\
         - {{name: shop, host: shop, path: /g{number}, routes: [{{name: all, paths: [/]}}]}}\n\
         upstreams:\n- name: shop\n{}",
        DEBUG,
        targets(&[(a, weights[0]), (b, weights[1])])
    )
}

/// A hundred reloads under load, every other one by SIGHUP alone: the configuration is a link into
/// one of two folders; moving the link is seen by the watch, a change behind it is not.
///
/// How exact the shares are: each first pick takes the next position of a counter that reloads do
/// not touch, and a run of positions gives two targets their shares but for less than one pick.
/// A request under way at a swap takes its position under the old generation though the counter is
/// at the new one's; there are at most as many as clients at each end of a generation. So of the
/// n positions of a generation at most 6 are others' and 6 lie elsewhere, and each such is at most
/// 0.9 off its share: |count − n·w| ≤ 1 + 12 · 0.9 < 12.
#[test]
fn a_hundred_reloads_under_load_lose_no_request_and_split_as_configured() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gateway = Gateway::start(&generation(1, &a, &b));
    let elsewhere = tempfile::tempdir().unwrap();
    let (seen, is_over) = (Mutex::new(Seen::new()), AtomicBool::new(false));
    let answered = |number: u64| {
        seen.lock()
            .unwrap()
            .get(&number)
            .map_or(0, |counts| counts.iter().sum::<usize>())
    };
    std::thread::scope(|scope| {
        for number in 0..KEEPING + OPENING {
            let (gateway, seen, is_over) = (&gateway, &seen, &is_over);
            scope.spawn(move || send_requests(gateway, number < KEEPING, seen, is_over));
        }
        let _end = EndOnDrop(&is_over);
        for number in 1..=RELOADS {
            wait_until(&format!("answers of generation {number}"), || {
                (answered(number) >= ANSWERS).then_some(())
            });
            let next = generation(number + 1, &a, &b);
            let file = elsewhere.path().join(format!("{}.yaml", number.div_ceil(2)));
            replace(&file, complete(&next));
            match number % 2 {
                1 => link(&file, &gateway),
                _ => gateway.reload_by_signal(),
            }
            gateway.wait_for_generation(number + 1);
        }
        wait_until("answers of the last generation", || {
            (answered(RELOADS + 1) >= ANSWERS).then_some(())
        });
    });

    let seen = seen.into_inner().unwrap();
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        (1..=RELOADS + 1).collect::<Vec<_>>(),
        "every generation has served"
    );
    assert_eq!(received(&[&a, &b]), seen, "the origins saw what the clients saw");
    for (number, counts) in seen {
        let sum: usize = counts.iter().sum();
        let share = if number % 2 == 1 { 0.9 } else { 0.1 };
        let off = counts[0] as f64 - sum as f64 * share;
        assert!(
            off.abs() < 12.0,
            "generation {number}: {counts:?} is {off:.1} off"
        );
    }
    gateway.wait_for_metric(
        "serin_config_reloads_total",
        &[("outcome", "applied")],
        RELOADS as f64,
    );
    let refused = gateway
        .metrics()
        .sum("serin_config_reloads_total", &[("outcome", "refused")]);
    assert_eq!(refused, None);
}

/// Lets the clients stop whether the test goes on or not.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn send_requests(gateway: &Gateway, keeps: bool, seen: &Mutex<Seen>, is_over: &AtomicBool) {
    let request = Request::get("/").header("X-Serin-Debug", "1");
    let mut client = gateway.persistent_client();
    while !is_over.load(Ordering::Relaxed) {
        if !keeps {
            client = gateway.persistent_client();
        }
        let response = client.exchange(&request);
        assert_eq!(response.status, 200, "{}", response.text());
        let generation = response.header("X-Serin-Generation").unwrap().parse().unwrap();
        let origin = usize::from(response.text() == "b");
        seen.lock().unwrap().entry(generation).or_default()[origin] += 1;
    }
}

/// What the origins received, by the generation in the path.
fn received(origins: &[&Origin; 2]) -> Seen {
    let mut seen = Seen::new();
    for (index, origin) in origins.iter().enumerate() {
        for request in origin.received() {
            let number = request.target.trim_start_matches("/g").trim_end_matches('/');
            seen.entry(number.parse().unwrap()).or_default()[index] += 1;
        }
    }
    seen
}
