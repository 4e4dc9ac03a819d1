//! `serin demo`: real traffic split between two releases, from one command.
//!
//! Two origins and a steady load run in this process; the gateway is the real one, in a process of
//! its own. Shares are counted by what the origins received, not by what the gateway says it chose.

mod gateway;
mod load;
mod origin;
mod scenario;
mod switcher;
mod table;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::client::ClientError;
use crate::clock;
use crate::config::reload::with_causes;
use gateway::Gateway;
use load::Load;
use origin::Origin;
use scenario::Scenario;
use switcher::Switcher;
use table::Table;

/// What `serin demo` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What the demo shows.
    #[arg(long, value_enum, default_value_t = Scenario::Weighted)]
    pub scenario: Scenario,
    /// The configuration to run, by default the scenario's in `conf/`; edit it while the demo goes on. Where
    /// there is no such file, one is written.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// How long the demo runs, e.g. `20s` or `5m`.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Requests per second, 1 to 20000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
}

/// Variable by which the ramp's example finds its start, and how long after the demo's that is.
const START: &str = "SERIN_DEMO_START";
const LEAD: Duration = Duration::from_secs(3);
/// How often the table is drawn.
const REFRESH: Duration = Duration::from_millis(500);

/// The demo could not be run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A socket, file or process could not be had.
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
    /// The gateway ended before it was ready; its own words follow.
    #[error("the gateway did not start:\n{0}")]
    Gateway(String),
    /// The Admin API does not do what it is asked.
    #[error("cannot switch")]
    Switch(#[from] ClientError),
}

/// Runs the demo; fails if a request failed.
pub fn run(arguments: Arguments) -> ExitCode {
    match play(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Returns how many requests failed.
fn play(arguments: &Arguments) -> Result<u64, DemoError> {
    let scenario = arguments.scenario;
    let file = existing_or_example(arguments)?;
    let origins = scenario
        .origins()
        .into_iter()
        .map(|(name, variable, port)| Origin::start(name, variable, port))
        .collect::<Result<Vec<_>, _>>()?;
    let mut environment: Vec<(&str, String)> = origins
        .iter()
        .map(|origin| (origin.variable, origin.address.port().to_string()))
        .collect();
    environment.push((START, (clock::unix() + LEAD).as_secs().to_string()));
    // Of this run alone: no file is left behind.
    environment.push((
        "SERIN_SERVER_SECRET",
        format!("{0}{0}", uuid::Uuid::new_v4().simple()),
    ));
    let mut gateway = Gateway::start(&file, &environment)?;
    say(&format!(
        "Gateway on http://{}, Admin API on http://{}, status on http://{}",
        gateway.address, gateway.admin, gateway.status
    ))?;
    for origin in &origins {
        say(&format!("Origin {} on http://{}", origin.name, origin.address))?;
    }
    let (rate, duration) = (arguments.rate, arguments.duration);
    say(&format!(
        "{rate} requests/s for {duration:?}. {}\n",
        scenario
            .invitation()
            .replace("{file}", &file.display().to_string())
            .replace("{admin}", &gateway.admin.to_string())
    ))?;

    let people = scenario.people();
    let is_blue_green = scenario == Scenario::BlueGreen;
    let load = Load::start(gateway.address, arguments.rate, &people, is_blue_green);
    let mut switcher = is_blue_green.then(|| Switcher::new(gateway.admin)).transpose()?;
    let started = clock::monotonic();
    let is_terminal = std::io::stdout().is_terminal();
    let mut table = Table::new(scenario, people, file, environment, is_terminal);
    loop {
        std::thread::sleep(REFRESH);
        let elapsed = clock::monotonic() - started;
        let is_over = elapsed >= arguments.duration;
        let news = gateway.take_log();
        if let Some(switcher) = switcher.as_mut().filter(|_| gateway.is_running()) {
            switcher.step(&[origins[0].name, origins[1].name], is_over)?;
        }
        let told = (gateway.ask(), switcher.as_ref());
        table.draw(elapsed, told, &origins, &load.measured(), &news, is_over)?;
        if is_over || !gateway.is_running() {
            break;
        }
    }
    let measured = load.stop();
    gateway.stop();
    say(&format!(
        "\n{} requests, {} failed",
        measured.requests, measured.failed
    ))?;
    if let Some(failure) = measured.first_failure {
        say(&format!("first failure: {failure}"))?;
    }
    Ok(measured.failed)
}

/// Returns the file, or where it does not exist the example, written in its place; beside us where
/// there is no such folder as the default names.
fn existing_or_example(arguments: &Arguments) -> Result<PathBuf, DemoError> {
    let default = arguments.scenario.file();
    let file = arguments.file.as_deref().unwrap_or(default);
    if file.exists() {
        return Ok(file.to_owned());
    }
    let has_folder = file
        .parent()
        .is_none_or(|folder| folder == Path::new("") || folder.is_dir());
    let written = match has_folder || file != default {
        true => file.to_owned(),
        false => PathBuf::from(default.file_name().unwrap_or_default()),
    };
    if !written.exists() {
        // The schema that the first line names lies in the repository.
        let text: Vec<&str> = arguments
            .scenario
            .example()
            .lines()
            .filter(|line| !line.contains("yaml-language-server"))
            .collect();
        std::fs::write(&written, text.join("\n") + "\n")
            .map_err(|error| DemoError::System("write the example", error))?;
        say(&format!("Wrote the example to {}", written.display()))?;
    }
    Ok(written)
}

/// Prints a line; whoever stops reading ends the demo.
fn say(line: &str) -> Result<(), DemoError> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| DemoError::System("print", error))
}
