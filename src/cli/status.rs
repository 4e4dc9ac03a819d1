//! `serin status`: what a running proxy has in force, and what an operator should know of it.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::{Access, Client, ClientError, conclude};
use super::{Format, print, table};
use crate::config::count;

/// What `serin status` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    access: Access,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Kinds that are counted.
const COUNTED: [&str; 4] = ["services", "routes", "upstreams", "consumers"];

/// Prints the state; fails if nobody answers.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(Client::new(&arguments.access).and_then(|client| {
        let state = state(&client)?;
        match arguments.format {
            Format::Text => print(&text_of(&state)),
            Format::Json => print(&format!("{state:#}")),
        }
        Ok(ExitCode::SUCCESS)
    }))
}

/// Puts together what the Admin API tells in several places.
fn state(client: &Client) -> Result<Value, ClientError> {
    let status = client.get("/status")?.body;
    let mut state = json!({
        "version": client.get("/")?.body["serin_version"],
        "phase": status["phase"],
        "generation": status["generation"],
    });
    for kind in COUNTED {
        let all = client.whole(&format!("/{kind}?size=1000"))?;
        state[kind] = all.as_array().map_or(0, Vec::len).into();
    }
    let metrics = client.text("/metrics")?;
    let number = |name: &str| {
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    state["drifted"] = status["drifted"].clone();
    state["conflicts"] = status["conflicts"].clone();
    state["last_reload"] = json!({
        "successful": number("serin_config_last_reload_successful").map(|value| value > 0.0),
        "successful_at": number("serin_config_last_reload_success_timestamp_seconds"),
    });
    state["restart_required"] = number("serin_config_restart_required")
        .is_some_and(|value| value > 0.0)
        .into();
    Ok(state)
}

fn text_of(state: &Value) -> String {
    let word = |name: &str| match &state[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let counts = COUNTED.map(|kind| {
        let number = state[kind]
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        count(number.unwrap_or_default(), kind.trim_end_matches('s'))
    });
    let mut lines = vec![
        ("phase", word("phase")),
        ("version", word("version")),
        ("generation", word("generation")),
        ("entities", counts.join(", ")),
        ("drift", drift_of(state)),
    ];
    for conflict in state["conflicts"].as_array().into_iter().flatten() {
        lines.push(("conflict", conflict.as_str().unwrap_or_default().to_owned()));
    }
    lines.push(("reload", reload_of(&state["last_reload"])));
    if state["restart_required"] == true {
        lines.push((
            "restart",
            "needed: settings have changed that take effect at a start".to_owned(),
        ));
    }
    table(&lines)
}

fn drift_of(state: &Value) -> String {
    match state["drifted"].as_u64() {
        None | Some(0) => "none: what the files say is in force".to_owned(),
        Some(1) => "1 entity differs from the files; see serin diff".to_owned(),
        Some(number) => format!("{number} entities differ from the files; see serin diff"),
    }
}

fn reload_of(reload: &Value) -> String {
    let at = reload["successful_at"].as_f64().filter(|at| *at > 0.0);
    let at = at.map(|at| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs_f64(at)));
    match (reload["successful"].as_bool(), at) {
        (Some(false), Some(at)) => {
            format!("refused; the last that was taken was at {at}. The log says why, and so does serin check")
        }
        (Some(false), None) => "refused; the log says why, and so does serin check".to_owned(),
        (_, Some(at)) => format!("taken at {at}"),
        (_, None) => "none yet".to_owned(),
    }
}
