//! What the service manager is told: a datagram socket in its place sees the words in order.

use std::os::unix::net::UnixDatagram;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Command, Gateway, HANG_LIMIT, Origin, shop, wait_until};

/// The manager's socket, in the folder of a command.
fn manager(command: Command) -> (UnixDatagram, Command) {
    let path = command.folder().join("manager");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(HANG_LIMIT)).unwrap();
    (socket, command.variable("NOTIFY_SOCKET", path.to_str().unwrap()))
}

fn next_words(manager: &UnixDatagram) -> String {
    let mut words = [0; 1024];
    let length = manager.recv(&mut words).expect("the manager is told nothing");
    String::from_utf8_lossy(&words[..length]).trim_end().to_owned()
}

fn check(manager: &UnixDatagram, expected: &str) {
    assert_eq!(next_words(manager), expected);
}

#[test]
fn the_manager_hears_of_start_reload_and_stop() {
    let origin = Origin::start("a");
    let (manager, command) = manager(Command::run(&shop(&[(&origin, 1)])));
    let mut gateway = command.start();
    check(&manager, "READY=1");
    gateway.reload_by_signal();
    let words = next_words(&manager);
    let time = words.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{words}");
    check(&manager, "READY=1");
    gateway.terminate();
    check(&manager, "STOPPING=1");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

#[test]
fn a_process_that_has_taken_over_is_the_main_one_and_the_old_one_does_not_stop_the_service() {
    let origin = Origin::start("a");
    let (manager, command) = manager(Command::run(&shop(&[(&origin, 1)])));
    let mut gateway = command.start();
    check(&manager, "READY=1");
    gateway.signal(Signal::USR2);
    let words = next_words(&manager);
    let pid = words
        .strip_prefix("MAINPID=")
        .and_then(|rest| rest.strip_suffix("\nREADY=1"));
    let pid: i32 = pid.unwrap_or_else(|| panic!("{words}")).parse().unwrap();
    let successor = EndOnDrop(Pid::from_raw(pid).unwrap());
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    assert_eq!(gateway.get("/").text(), "a");
    kill_process(successor.0, Signal::TERM).unwrap();
    check(&manager, "STOPPING=1");
    wait_until("the successor has ended", || {
        std::net::TcpStream::connect(gateway.address()).err()
    });
}

/// A process that is nobody's child.
struct EndOnDrop(Pid);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::INT);
    }
}

#[test]
fn a_watchdog_is_told_again_and_again_that_the_process_lives() {
    let (manager, command) = manager(Command::run(""));
    let _gateway: Gateway = command.variable("WATCHDOG_USEC", "20000").start();
    check(&manager, "READY=1");
    for _ in 0..3 {
        check(&manager, "WATCHDOG=1");
    }
}
