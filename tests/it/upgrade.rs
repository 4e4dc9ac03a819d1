//! Another process takes over, or fails to, and no request notices.
//!
//! Clients that keep their connection and clients that open one for each request go on asking throughout,
//! and insist on every answer. A connection that the answer announced to close is opened anew.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Admin, Client, Command, Gateway, Origin, PersistentClient, Request, shop, wait_until};

/// Upgrades in a row.
const UPGRADES: usize = 10;
/// Answers that each kind of client gets between two upgrades.
const ANSWERS: usize = 50;
/// Clients of each kind.
const CLIENTS: usize = 2;

/// Clients that ask without end.
#[derive(Default)]
struct Load {
    kept: AtomicUsize,
    new: AtomicUsize,
    is_over: AtomicBool,
}

/// Lets the clients stop whether the test goes on or not.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, gateway: &Gateway) -> EndOnDrop<'scope> {
        let address = gateway.address();
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = PersistentClient::new(address);
                for number in 0.. {
                    if self.is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let response = client.exchange(&request(number));
                    assert_eq!((response.status, response.text().as_str()), (200, "a"));
                    self.kept.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                for number in 0.. {
                    if self.is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let response = Client::connect(address).exchange(&request(number));
                    assert_eq!((response.status, response.text().as_str()), (200, "a"));
                    self.new.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        EndOnDrop(&self.is_over)
    }

    /// Waits until both kinds of clients have got some more answers.
    fn go_on(&self) {
        let counts = [&self.kept, &self.new];
        let before = counts.map(|count| count.load(Ordering::Relaxed));
        wait_until("answers to both kinds of clients", || {
            let is_enough =
                |(count, before): (&&AtomicUsize, &usize)| count.load(Ordering::Relaxed) >= before + ANSWERS;
            counts.iter().zip(&before).all(is_enough).then_some(())
        });
    }
}

fn request(number: usize) -> Request {
    match number % 2 {
        0 => Request::get("/"),
        _ => Request::post("/", "a body"),
    }
}

/// Two workers in front of an origin.
fn config(origin: &Origin, settings: &str) -> String {
    format!("server:\n  threads: 2\n{settings}{}", shop(&[(origin, 1)]))
}

/// A configuration whose start waits a second for the probe of a Target that takes connections and says
/// nothing, so that something can happen meanwhile.
fn slow_config(origin: &Origin, silent: &Origin, settings: &str) -> String {
    let check = "{type: http, timeout: 1, healthy: {interval: 600}, unhealthy: {interval: 600}}";
    format!(
        "{}- name: slow\n  healthchecks: {{active: {check}}}\n  targets: [{{target: '{}'}}]\n",
        config(origin, settings),
        silent.address()
    )
}

fn silent() -> Origin {
    let origin = Origin::start("silent");
    origin.hold();
    origin
}

/// Waits until the process that took over may itself be asked to hand over.
fn settle(next: &Gateway) {
    next.wait_for_log_with("upgrade: taken over from process");
    next.wait_for_log("upgrade: waiting for a successor");
}

fn set_retries(admin: &mut Admin, retries: usize) -> Value {
    admin
        .send("PATCH", "/services/shop", json!({"retries": retries}))
        .expect(200)
}

fn retries(gateway: &Gateway) -> Value {
    gateway.admin().get("/services/shop").expect(200)["retries"].take()
}

/// Checks that a gateway from which nobody has taken over works as before.
fn assert_works(gateway: &Gateway, retries_to_set: usize) {
    gateway.wait_for_log_with("failed, this process goes on");
    assert_eq!(gateway.get("/").text(), "a");
    assert_eq!(gateway.get_status("/status/ready").status, 200);
    set_retries(&mut gateway.admin(), retries_to_set);
    assert_eq!(retries(gateway), json!(retries_to_set));
    let generation = gateway.status()["generation"].as_u64().unwrap();
    gateway.reload_by_signal();
    gateway.wait_for_log_with(&format!("configuration unchanged, generation {generation} stays"));
    gateway.wait_for_metric("serin_upgrades_total", &[("outcome", "failed")], 1.0);
}

#[test]
fn upgrades_under_load_fail_no_request_and_lose_no_change() {
    let origin = Origin::start("a");
    let mut gateway = Gateway::start(&config(&origin, ""));
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = load.start(scope, &gateway);
        for number in 1..=UPGRADES {
            load.go_on();
            if number == UPGRADES / 2 {
                let other = config(&origin, "").replace("threads: 2", "threads: 3");
                std::fs::write(gateway.config_path(), crate::harness::complete(&other)).unwrap();
            }
            let mut old_connection = gateway.admin();
            old_connection.get("/services/shop").expect(200);
            let next = gateway.successor().spawn();
            gateway.wait_for_log_with("upgrade: handing over to process");
            set_retries(&mut old_connection, number);
            let consumer = json!({"username": format!("of-upgrade-{number}")});
            gateway.admin().send("POST", "/consumers", consumer).expect(201);
            let mut next = next.wait_until_ready();
            settle(&next);
            assert_eq!(retries(&next), json!(number));
            std::mem::swap(&mut gateway, &mut next);
            assert_eq!(next.wait_for_exit().code(), Some(0), "{}", next.log_text());
            next.wait_for_log("drained");
        }
        load.go_on();
    });
    gateway.wait_for_log_with("is in force on 3 workers");
    let consumers = gateway.admin().get("/consumers").expect(200);
    assert_eq!(consumers["data"].as_array().unwrap().len(), UPGRADES);
    assert_eq!(retries(&gateway), json!(UPGRADES));
    gateway.wait_for_metric("serin_upgrades_total", &[("outcome", "completed")], 1.0);
}

#[test]
fn a_write_during_a_slow_start_waits_and_is_made_by_the_successor_in_the_name_of_its_client() {
    let (origin, silent) = (Origin::start("a"), silent());
    let mut gateway = Gateway::start(&slow_config(&origin, &silent, ""));
    let mut writer = Admin::on(Client::connect_from([127, 0, 0, 9], gateway.admin_address()));
    writer.get("/services/shop").expect(200);
    silent.forget();
    let next = gateway.successor().spawn();
    gateway.wait_for_log_with("upgrade: handing over to process");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| set_retries(&mut writer, 7));
        // Meanwhile what only reads is answered by the old process.
        silent.wait_for(1);
        gateway.admin().get("/services/shop").expect(200);
        assert_eq!(writing.join().unwrap()["retries"], 7);
    });
    let next = next.wait_until_ready();
    settle(&next);
    assert_eq!(retries(&next), json!(7));
    let audit = next.admin().get("/audit").expect(200);
    let newest = &audit["data"][0];
    assert_eq!(
        (&newest["who"], &newest["what"]),
        (&json!("127.0.0.9"), &json!("PATCH /services/shop"))
    );
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let made = next.log_text();
    assert!(made.contains("PATCH /services/shop by 127.0.0.9"), "{made}");
}

#[test]
fn a_bad_configuration_ends_the_new_process_before_it_asks() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, ""));
    std::fs::write(gateway.folder().join("bad.yaml"), "services: 5\n").unwrap();
    let (code, _, stderr) = gateway.successor().argument("bad.yaml").finish();
    assert_eq!(code, Some(1));
    assert!(stderr.contains("bad.yaml:1"), "{stderr}");
    assert!(
        !gateway.log_text().contains("upgrade: handing over"),
        "{}",
        gateway.log_text()
    );
    set_retries(&mut gateway.admin(), 3);
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_as_it_was() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, ""));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = load.start(scope, &gateway);
        load.go_on();
        let listeners = format!("server.listeners=[{{address: '127.0.0.1:0'}}, {{address: '{taken}'}}]");
        let failing = gateway.successor().argument("--set").argument(&listeners);
        let (code, _, stderr) = failing.finish();
        assert_eq!(code, Some(1));
        assert!(stderr.contains(&format!("cannot listen on {taken}")), "{stderr}");
        assert_works(&gateway, 4);
        load.go_on();
    });
    gateway.wait_for_log_with(&format!("cannot listen on {taken}"));
    // And the next one may try again.
    let next = gateway.successor().start();
    settle(&next);
    assert_eq!(retries(&next), json!(4));
}

/// Has a process take over under load and, as its start takes a second, something happen to it meanwhile;
/// checks that the old one goes on and no client notices. `befall` is given the old one, the new one and the
/// Target whose probe the new one waits for.
fn assert_goes_on(befall: impl FnOnce(&Gateway, &mut Gateway, &Origin)) {
    let (origin, silent) = (Origin::start("a"), silent());
    let gateway = Gateway::start(&slow_config(&origin, &silent, ""));
    silent.forget();
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = load.start(scope, &gateway);
        load.go_on();
        befall(&gateway, &mut gateway.successor().spawn(), &silent);
        assert_works(&gateway, 4);
        load.go_on();
    });
}

#[test]
fn a_new_process_that_is_killed_in_the_midst_leaves_the_old_one_as_it_was() {
    assert_goes_on(|old, new, silent| {
        new.wait_for_log_with("sockets handed over by process");
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| set_retries(&mut old.admin(), 9));
            silent.wait_for(1);
            new.signal(Signal::KILL);
            new.wait_for_exit();
            assert_eq!(writing.join().unwrap()["retries"], 9);
        });
    });
}

/// The sockets are the successor's already: what comes waits there until it serves.
#[test]
fn sigterm_to_the_old_process_midway_leaves_everything_to_the_new_one() {
    let (origin, silent) = (Origin::start("a"), silent());
    let mut gateway = Gateway::start(&slow_config(&origin, &silent, ""));
    set_retries(&mut gateway.admin(), 7);
    silent.forget();
    let load = Load::default();
    std::thread::scope(|scope| {
        let _end = load.start(scope, &gateway);
        load.go_on();
        let next = gateway.successor().spawn();
        silent.wait_for(1);
        gateway.terminate();
        assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log_text());
        gateway.wait_for_log("drained");
        let mut next = next.wait_until_ready();
        next.wait_for_log("upgrade: waiting for a successor");
        load.go_on();
        assert_eq!(retries(&next), json!(7));
        set_retries(&mut next.admin(), 8);
        std::mem::swap(&mut gateway, &mut next);
    });
    // And it may be taken over from itself.
    let next = gateway.successor().start();
    settle(&next);
    assert_eq!(retries(&next), json!(8));
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

/// What has not started yet has promised nobody anything, and dies of it at once.
#[test]
fn sigterm_to_the_new_process_midway_leaves_the_old_one_as_it_was() {
    assert_goes_on(|_, new, silent| {
        silent.wait_for(1);
        new.terminate();
        assert_eq!(new.wait_for_exit().signal(), Some(15));
    });
}

/// As from a supervisor that stops all processes of a service.
#[test]
fn sigterm_to_both_processes_midway_ends_both_and_loses_no_request() {
    let (origin, silent) = (Origin::start("a"), silent());
    let mut gateway = Gateway::start(&slow_config(&origin, &silent, ""));
    silent.forget();
    origin.hold();
    let mut client = gateway.client();
    client.send(request(0).to_bytes());
    origin.wait_for(1);
    let mut next = gateway.successor().spawn();
    silent.wait_for(1);
    gateway.terminate();
    next.terminate();
    next.wait_for_exit();
    origin.answer_name();
    let answer = client.receive();
    assert_eq!((answer.status, answer.text().as_str()), (200, "a"));
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log_text());
}

#[test]
fn a_new_process_that_hangs_is_given_up_at_the_deadline_and_killed() {
    let (origin, silent) = (Origin::start("a"), silent());
    let gateway = Gateway::start(&slow_config(&origin, &silent, "  upgrade: {deadline: 1s}\n"));
    silent.forget();
    let mut next = gateway.successor().spawn();
    silent.wait_for(1);
    next.signal(Signal::STOP);
    gateway.wait_for_log("it has not started within 1s");
    assert_eq!(next.wait_for_exit().code(), None);
    assert_works(&gateway, 4);
}

#[test]
fn more_listeners_than_fit_a_message_are_handed_over() {
    const LISTENERS: usize = 150;
    let origin = Origin::start("a");
    let addresses = (1..=LISTENERS).map(|last| format!("{{address: '127.0.0.{last}:0'}}"));
    let listeners = format!("  listeners: [{}]\n", addresses.collect::<Vec<_>>().join(", "));
    let mut gateway = Gateway::start(&config(&origin, &listeners));
    let before = gateway.addresses().to_vec();
    assert_eq!(before.len(), LISTENERS);
    let next = gateway.successor().start();
    settle(&next);
    assert_eq!(next.addresses(), before);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    for address in before {
        assert_eq!(Client::connect(address).get("/").text(), "a");
    }
}

#[test]
fn addresses_that_come_and_go_do_so_with_the_new_process() {
    let origin = Origin::start("a");
    let two = "  listeners: [{address: '127.0.0.1:0'}, {address: '127.0.0.2:0'}]\n";
    let mut gateway = Gateway::start(&config(&origin, two));
    let old = gateway.addresses().to_vec();
    let other = two.replace("127.0.0.1", "127.0.0.3");
    std::fs::write(
        gateway.config_path(),
        crate::harness::complete(&config(&origin, &other)),
    )
    .unwrap();
    let next = gateway.successor().start();
    settle(&next);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    next.wait_for_log("no longer listening on 127.0.0.1:0");
    assert_eq!(next.addresses()[1], old[1]);
    for address in next.addresses() {
        assert_eq!(Client::connect(*address).get("/").text(), "a");
    }
    assert!(std::net::TcpStream::connect(old[0]).is_err());
}

#[test]
fn there_must_be_somebody_to_take_over_from() {
    let refused = |command: Command| {
        let (code, _, stderr) = command.argument("--upgrade").finish();
        assert_eq!(code, Some(1), "{stderr}");
        stderr
    };
    let stderr = refused(Command::run(""));
    assert!(
        stderr.contains("no process to take over from at serin.sock"),
        "{stderr}"
    );
    assert!(stderr.contains("start without --upgrade"), "{stderr}");
    let stderr = refused(Command::run("server:\n  upgrade: false\n"));
    assert!(stderr.contains("server.upgrade is false"), "{stderr}");
}

#[test]
fn a_second_process_that_does_not_ask_is_refused() {
    let origin = Origin::start("a");
    let gateway = Gateway::start(&config(&origin, ""));
    let socket = format!(
        "server.upgrade.socket={}",
        gateway.folder().join("serin.sock").display()
    );
    let (code, _, stderr) = Command::run("").argument("--set").argument(&socket).finish();
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("start with --upgrade to take over from it"),
        "{stderr}"
    );
    assert_eq!(gateway.get("/").text(), "a");
}

#[test]
fn a_status_address_that_is_asked_throughout_is_always_ready() {
    let origin = Origin::start("a");
    let mut gateway = Gateway::start(&config(&origin, ""));
    let address = gateway.status_address();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let response = Client::connect(address).get("/status/ready");
                assert_eq!(response.status, 200, "{}", response.text());
            }
        });
        for _ in 0..3 {
            let mut next = gateway.successor().start();
            settle(&next);
            std::mem::swap(&mut gateway, &mut next);
            assert_eq!(next.wait_for_exit().code(), Some(0));
        }
    });
}
