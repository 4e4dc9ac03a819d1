//! The gateway: the real binary, in a folder of its own, on ports that the system chose.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::{Admin, Client, HANG_LIMIT, PersistentClient, Request, Response, Watched, now, wait_until};

/// Name of the configuration in the gateway's folder.
const FILE: &str = "serin.yaml";

/// How a gateway is started.
pub struct Command {
    folder: Arc<TempDir>,
    command: std::process::Command,
}

/// A gateway that runs; stopped when it is dropped, with its log printed if the test failed.
pub struct Gateway {
    folder: Arc<TempDir>,
    child: Child,
    log: Arc<Watched<Log>>,
    addresses: Vec<SocketAddr>,
    status_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    is_complete: bool,
}

impl Command {
    /// Runs `serin` with these arguments in an empty folder, its environment free of settings.
    pub fn new(arguments: &[&str]) -> Self {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_serin"));
        Self::of(program, arguments, Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Runs `serin run` as [`Command::run`] does, in a shell that has run `before`.
    pub fn run_after(before: &str, config: &str) -> Self {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{before}\nexec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_serin"));
        Self::of(shell, &["run", FILE], Arc::new(tempfile::tempdir().unwrap())).file(FILE, &complete(config))
    }

    fn of(mut command: std::process::Command, arguments: &[&str], folder: Arc<TempDir>) -> Self {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SERIN_") || name == "RUST_LOG" {
                command.env_remove(&*name);
            }
        }
        command
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null());
        Self { folder, command }
    }

    /// Runs `serin run` on a configuration; see [`complete`] for what is added to it.
    pub fn run(config: &str) -> Self {
        Self::new(&["run", FILE]).file(FILE, &complete(config))
    }

    /// Writes a file into the folder.
    pub fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Returns the folder that the process will run in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs to the end and returns the exit code, standard output and standard error.
    pub fn finish(mut self) -> (Option<i32>, String, String) {
        let child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let done = Arc::new(Watched::new(false));
        let guard = std::thread::spawn({
            let done = done.clone();
            move || {
                if done.wait_for(|done| done.then_some(())).is_none() {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        });
        let output = child.wait_with_output().unwrap();
        done.change(|done| *done = true);
        guard.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Starts a gateway and waits until it is ready.
    pub fn start(self) -> Gateway {
        self.spawn().wait_until_ready()
    }

    /// Starts a gateway without waiting for anything.
    pub fn spawn(mut self) -> Gateway {
        let (child, log) = spawn(&mut self.command, self.folder.path());
        Gateway {
            folder: self.folder,
            child,
            log,
            addresses: Vec::new(),
            status_address: None,
            admin_address: None,
        }
    }
}

/// Starts the process, its standard output in the file `stdout`, its standard error in the log.
fn spawn(command: &mut std::process::Command, folder: &Path) -> (Child, Arc<Watched<Log>>) {
    let access_log = std::fs::File::create(folder.join("stdout")).unwrap();
    let mut child = command.stdout(access_log).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let log = Arc::new(Watched::new(Log::default()));
    std::thread::spawn({
        let log = log.clone();
        move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.change(|log| log.lines.push(line));
            }
            log.change(|log| log.is_complete = true);
        }
    });
    (child, log)
}

/// Adds to a configuration what every test needs: the format's version, and free ports and one
/// worker under `server`, in block or in flow style, unless the test sets them itself.
pub fn complete(config: &str) -> String {
    const SETTINGS: [(&str, &str); 4] = [
        ("threads", "1"),
        ("listeners", "[{address: 127.0.0.1:0}]"),
        ("status", "{address: 127.0.0.1:0}"),
        ("admin", "{address: 127.0.0.1:0}"),
    ];
    let (opening, before_each, after_each) = match config.contains("server: {") {
        true => ("server: {", "", ", "),
        false => ("server:\n", "  ", "\n"),
    };
    let (before, after) = config.split_once(opening).unwrap_or(("", config));
    let mut text = format!("_format_version: \"3.0\"\n{before}{opening}");
    for (name, value) in SETTINGS {
        if !after.contains(&format!(" {name}:")) && !after.starts_with(&format!("{name}:")) {
            text += &format!("{before_each}{name}: {value}{after_each}");
        }
    }
    text + after
}

impl Gateway {
    /// Starts a gateway on a configuration and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Command::run(config).start()
    }

    /// Waits until one that was spawned is ready.
    pub fn wait_until_ready(mut self) -> Self {
        self.wait_for_log("ready");
        self.read_addresses();
        self
    }

    /// Reads the ports that were chosen from the log.
    fn read_addresses(&mut self) {
        let log = self.log();
        // Unix sockets have no ports to be read.
        let after = |text: &'static str| {
            let addresses = log.iter().filter_map(move |line| Some(line.split_once(text)?.1));
            let inet = addresses.filter(|address| !address.starts_with("unix:"));
            inet.map(|address| address.parse().unwrap())
        };
        self.addresses = after("] listening on ").collect();
        self.status_address = after("] status on ").next();
        self.admin_address = after("] admin on ").next();
    }

    /// Returns what runs `serin run` in the same folder, on the same configuration.
    pub fn another(&self) -> Command {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_serin"));
        Command::of(program, &["run", FILE], self.folder.clone())
    }

    /// Returns what takes over from it, in the same folder, on the same configuration.
    pub fn successor(&self) -> Command {
        self.another().argument("--upgrade")
    }

    /// Ends the process and starts another one in the same folder.
    pub fn restart(self) -> Self {
        let another = self.another();
        drop(self);
        another.start()
    }

    /// Returns the address on which clients are served.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Returns every address on which clients are served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the status address.
    pub fn status_address(&self) -> SocketAddr {
        self.status_address.expect("a status address is configured")
    }

    /// Returns the address of the Admin API.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address.expect("an admin address is configured")
    }

    /// Opens a connection to the Admin API.
    pub fn admin(&self) -> Admin {
        Admin(Client::connect(self.admin_address()))
    }

    /// Opens a connection.
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// Makes a client that goes on when the gateway closes its connection after an answer.
    pub fn persistent_client(&self) -> PersistentClient {
        PersistentClient::new(self.address())
    }

    /// Sends a request on a connection of its own.
    pub fn exchange(&self, request: &Request) -> Response {
        self.client().exchange(request)
    }

    /// Sends a GET on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        self.exchange(&Request::get(target))
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the most memory that it had so far, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Sends a GET to the status address.
    pub fn get_status(&self, target: &str) -> Response {
        Client::connect(self.status_address()).get(target)
    }

    /// Returns `/status`.
    pub fn status(&self) -> Value {
        let response = self.get_status("/status");
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Returns `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let response = self.get_status("/metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text())
    }

    /// Waits until a metric, summed over the series with these labels, has a value. What a request
    /// counts is counted just after its answer was sent.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        wait_until(
            &format!("{name} {labels:?} = {value}\n{}", self.log_text()),
            || {
                let found = self.metrics().sum(name, labels)?;
                (found == value).then_some(())
            },
        );
    }

    /// Waits until a generation is in force.
    pub fn wait_for_generation(&self, generation: u64) {
        wait_until(&format!("generation {generation}\n{}", self.log_text()), || {
            let now = self.status()["generation"].as_u64().unwrap();
            assert!(
                now <= generation,
                "generation {now} instead of {generation}\n{}",
                self.log_text()
            );
            (now == generation).then_some(())
        });
    }

    /// Returns the folder that the gateway runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the configuration's path.
    pub fn config_path(&self) -> PathBuf {
        self.folder().join(FILE)
    }

    /// Replaces the configuration in one step, as editors and deployment tools do. The gateway
    /// notices by itself.
    pub fn write_config(&self, config: &str) {
        replace(&self.config_path(), complete(config));
    }

    /// Replaces the configuration and waits until it is in force and what goes with that is done: the generation
    /// shows as soon as requests read it, the series of what is gone go after that, and the count is last.
    pub fn apply(&self, config: &str) {
        let (name, labels) = ("serin_config_reloads_total", [("outcome", "applied")]);
        let generation = self.status()["generation"].as_u64().unwrap();
        let applied = self.metrics().sum(name, &labels).unwrap_or(0.0);
        self.write_config(config);
        self.wait_for_generation(generation + 1);
        self.wait_for_metric(name, &labels, applied + 1.0);
    }

    /// Lets no file of the process grow beyond this size; `None` lifts the limit.
    pub fn limit_file_size(&self, limit: Option<u64>) {
        let pid = Some(Pid::from_child(&self.child));
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit {
            current: limit.or(maximum),
            maximum,
        };
        prlimit(pid, Resource::Fsize, limit).unwrap();
    }

    /// Sends SIGHUP.
    pub fn reload_by_signal(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child, HANG_LIMIT)
            .unwrap_or_else(|| panic!("the process does not end\n{}", self.log_text()))
    }

    /// Says whether the process has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line that ends in this text, or for its end with time and level taken off.
    pub fn wait_for_log(&self, end: &str) {
        let ended = self
            .log
            .wait_for(|log| match log.lines.iter().any(|line| line.ends_with(end)) {
                true => Some(false),
                false => log.is_complete.then_some(true),
            });
        match ended {
            Some(false) => {}
            Some(true) => panic!("ended without logging {end:?}:\n{}", self.log_text()),
            None => panic!("never logged {end:?}:\n{}", self.log_text()),
        }
    }

    /// Waits for a line that holds this text and returns it.
    pub fn wait_for_log_with(&self, part: &str) -> String {
        let found = self
            .log
            .wait_for(|log| log.lines.iter().find(|line| line.contains(part)).cloned());
        found.unwrap_or_else(|| panic!("never logged {part:?}:\n{}", self.log_text()))
    }

    /// Returns the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// Returns the log so far as one text.
    pub fn log_text(&self) -> String {
        self.log().join("\n")
    }

    /// Waits until a file in the folder has this many lines and returns them; standard output is
    /// the file `stdout`.
    pub fn wait_for_lines(&self, file: &str, count: usize) -> Vec<String> {
        let path = self.folder().join(file);
        wait_until(&format!("{count} lines in {file}"), || {
            let text = std::fs::read_to_string(&path).ok()?;
            // The last line may be on its way still.
            let whole = &text[..text.rfind('\n')? + 1];
            let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // SIGINT ends the process at once, with the access log flushed.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        if wait_for_exit(&mut self.child, Duration::from_secs(2)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log_text());
        }
    }
}

fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = now() + limit;
    loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || now() >= deadline {
            return status;
        }
        std::thread::sleep(super::LOOK_AGAIN);
    }
}

/// Writes a file beside its place and moves it there.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Metrics as a scraper reads them.
#[derive(Debug)]
pub struct Metrics(Vec<Series>);

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(series.map(Series::parse).collect())
    }

    /// Returns the names, each once, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.iter().map(|series| &*series.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the sum over all series of a name that have these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = self.0.iter().filter(|series| {
            let has = |(label, value): &(&str, &str)| series.labels.get(*label).is_some_and(|v| v == value);
            series.name == name && labels.iter().all(has)
        });
        found.map(|series| series.value).reduce(|a, b| a + b)
    }
}

impl Series {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        // No value in these tests holds a comma or a quote.
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.parse().unwrap(),
        }
    }
}
