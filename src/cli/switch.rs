//! `serin switch`: a Service from one Upstream to another, and the drain of the one it leaves.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Access, Client, ClientError, conclude, path_of, words};
use super::print;
use crate::clock;
use crate::model::TargetHost;

/// What `serin switch` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The Service
    service: String,
    /// The Upstream that it is to use
    upstream: String,
    /// Switch even if no Target of the Upstream may be chosen, or if there is no such Upstream
    #[arg(long)]
    force: bool,
    /// How long to wait until nothing is under way on the Upstream that it leaves, e.g. 5m; 0s for not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    access: Access,
}

/// It has switched, but something is still under way on the Upstream that it left.
const NOT_DRAINED: u8 = 2;
/// How often the proxy is asked what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Switches and watches the drain. The exit code is 0 when nothing is left under way, 1 when the switch was refused,
/// 2 when something was left at the end of the time.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(switch(arguments))
}

fn switch(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let Arguments {
        service, upstream, ..
    } = arguments;
    let client = Client::new(&arguments.access)?;
    let path = path_of(&["services", service]);
    let before = client.get(&path).map_err(|error| match error.is_not_found() {
        true => missing(
            format!("there is no service '{service}'"),
            "'serin get services' lists those that there are",
        ),
        false => error,
    })?;
    let old = before.body["host"].as_str().unwrap_or_default();
    if old == upstream {
        print(&format!("{service} is on {upstream} already"));
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.force {
        let there = client.get(&path_of(&["upstreams", upstream]));
        there.map_err(|error| match error.is_not_found() {
            true => missing(
                format!("there is no upstream '{upstream}', {service} stays on {old}"),
                "'serin get upstreams' lists those that there are; --force takes it as the name of a host",
            ),
            false => error,
        })?;
    }
    let query = if arguments.force { "?force=true" } else { "" };
    // Only if it still is where it was seen: the way back would be a wrong one.
    let etag = before.header("etag");
    let switched = client.patch(&format!("{path}{query}"), &json!({ "host": upstream }), etag);
    let switched = switched.map_err(|error| match error {
        ClientError::Refused {
            status: 409,
            message,
            hints,
        } => {
            let message = format!("{message}; {service} stays on {old}");
            ClientError::Refused {
                status: 409,
                message,
                hints,
            }
            .with_hint("--force switches all the same")
        }
        other => other,
    })?;
    print(&format!(
        "{service}: {old} → {upstream}, generation {}",
        switched.generation()
    ));
    let outcome = watch(&client, old, &before.body["port"], arguments.wait);
    print(&format!("to go back: serin switch {service} {old}"));
    Ok(match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_DRAINED),
        Err(error) => {
            eprintln!("{}", words(&error));
            ExitCode::from(NOT_DRAINED)
        }
    })
}

/// Shows what is under way until nothing is; says whether that came to pass.
fn watch(client: &Client, old: &str, port: &Value, limit: Duration) -> Result<bool, ClientError> {
    let deadline = clock::monotonic() + limit;
    let is_terminal = std::io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let Some(drain) = drain(client, old, port)? else {
            print(&format!("{old}: nothing under way"));
            return Ok(true);
        };
        // The requests of other Routes begin there for ever.
        if drain["is_routed"] == true {
            print(&format!("{old}: still serves other routes, so it does not drain"));
            return Ok(true);
        }
        let count = |name: &str| drain[name].as_u64().unwrap_or_default();
        let is_over = clock::monotonic() >= deadline;
        if count("in_flight") == 0 {
            clear(is_terminal && !shown.is_empty());
            print(&format!("{old}: drained"));
            return Ok(true);
        }
        let mut line = format!("{old}: {} in flight", count("in_flight"));
        if count("upgraded") > 0 {
            line += &format!(", of them {} upgraded", count("upgraded"));
        }
        if is_over {
            clear(is_terminal && !shown.is_empty());
            let limit = humantime::format_duration(limit);
            print(&format!(
                "{line} after {limit}, and they go on; see serin get upstreams/{old}/drain"
            ));
            return Ok(false);
        }
        if line != shown {
            clear(is_terminal && !shown.is_empty());
            print(&line);
            shown = line;
        }
        std::thread::sleep(LOOK_AGAIN.min(deadline.saturating_duration_since(clock::monotonic())));
    }
}

/// Returns what is under way; nothing where neither an Upstream nor a host of this name has anything.
fn drain(client: &Client, old: &str, port: &Value) -> Result<Option<Value>, ClientError> {
    let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
    let host = TargetHost::parse(old).label(port.unwrap_or_default());
    for name in [old, &host] {
        match client.get(&path_of(&["upstreams", name, "drain"])) {
            Ok(answer) => return Ok(Some(answer.body)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Takes the last line off a terminal.
fn clear(is_drawn: bool) {
    if is_drawn {
        let _ = write!(std::io::stdout().lock(), "\x1b[1A\x1b[J");
    }
}

fn missing(message: String, hint: &str) -> ClientError {
    ClientError::Refused {
        status: 404,
        message,
        hints: vec![hint.to_owned()],
    }
}
