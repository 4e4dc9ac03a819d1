//! The command line: a file per verb.

mod check;
mod demo;
mod healthcheck;
mod run;
mod schema;

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
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Watch real traffic being split between two releases of a service.
    Demo(demo::Arguments),
    /// Ask a running proxy whether it is ready; exit 1 if not.
    Healthcheck(healthcheck::Arguments),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run(arguments) => run::run(arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Schema => schema::run(),
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::Healthcheck(arguments) => healthcheck::run(&arguments),
    }
}
