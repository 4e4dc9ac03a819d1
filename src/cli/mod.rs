//! The command line: a file per verb.

mod check;
mod demo;
mod explain;
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
    /// Say which release a request would get, and why, by the files alone.
    Explain(Box<explain::Arguments>),
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
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Schema => schema::run(),
        Verb::Demo(arguments) => demo::run(arguments),
        Verb::Healthcheck(arguments) => healthcheck::run(&arguments),
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
