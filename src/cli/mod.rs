//! The command line: a file per verb.

mod check;
mod client;
mod demo;
mod diff;
mod explain;
mod export;
mod get;
mod healthcheck;
mod patch;
mod run;
mod schema;
mod status;
mod switch;
mod targets;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An edge proxy and API gateway that makes a release safe.
#[derive(Debug, Parser)]
#[command(name = "serin", version, long_version = LONG_VERSION, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (pingora 0.9.1, rustls)");

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy.
    Run(run::Arguments),
    /// Report every mistake of a configuration at once; exit 1 if there is one.
    Check(check::Args),
    /// Say which release a request would get, and why: in the running proxy, or by files alone.
    Explain(Box<explain::Arguments>),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Watch real traffic being split between two releases of a service.
    Demo(demo::Arguments),
    /// Ask a running proxy whether it is ready; exit 1 if not.
    Healthcheck(healthcheck::Arguments),
    /// Show what a running proxy has in force.
    Status(status::Arguments),
    /// Print what the Admin API has at a path, as JSON.
    Get(get::Arguments),
    /// Change fields of an entity of a running proxy.
    Patch(patch::Arguments),
    /// Move a Service to another Upstream and wait until the old one has drained; exit 2 if it does not in time.
    Switch(switch::Arguments),
    /// Change Targets of a running proxy.
    Targets(targets::Arguments),
    /// Print what a running proxy has in force, as a configuration file.
    Export(export::Arguments),
    /// Show in what a running proxy differs from its files; exit 1 if it does.
    Diff(diff::Arguments),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run(arguments) => run::run(arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Schema => schema::run(),
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::Healthcheck(arguments) => healthcheck::run(&arguments),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Get(arguments) => get::run(&arguments),
        Verb::Patch(arguments) => patch::run(&arguments),
        Verb::Switch(arguments) => switch::run(&arguments),
        Verb::Targets(arguments) => targets::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Diff(arguments) => diff::run(&arguments),
    }
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: one object.
    Json,
}

/// Prints a line; a reader that has gone away, such as `head`, is no reason to panic.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Puts names and what they stand for under one another.
fn table(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<String> = lines
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}
