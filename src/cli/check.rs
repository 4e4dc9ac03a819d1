//! `serin check`: every mistake of a configuration at once.
//!
//! Touches nothing but the files named: no socket, no name resolution, no state. Prints to standard
//! output what a refused reload would log; the exit code is 1 when there is an error.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Format, print};
use crate::config::{self, Known, Loaded, Overrides, Problem, Report};

/// What `serin check` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration files, or directories of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Sets a field under `server`, e.g. --set server.threads=2; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// Checks the files and prints what there is to say.
pub fn run(args: &Args) -> ExitCode {
    let overrides = Overrides::from_process(args.set.clone());
    let result = config::load(&args.files, &overrides, &mut Known::default());
    let text = match (args.format, &result) {
        (Format::Text, Ok(loaded)) => success(args, loaded),
        (Format::Text, Err(report)) => report.to_string(),
        (
            Format::Json,
            Ok(Loaded {
                warnings: problems, ..
            })
            | Err(Report { problems }),
        ) => {
            let mut object = config::problems_to_json(problems);
            object["ok"] = json!(result.is_ok());
            format!("{object:#}")
        }
    };
    print(&text);
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn success(args: &Args, loaded: &Loaded) -> String {
    let configuration = &loaded.configuration;
    let targets = configuration
        .upstreams
        .iter()
        .map(|upstream| upstream.targets.len())
        .sum();
    let counts = [
        (configuration.services.len(), "service"),
        (configuration.routes.len(), "route"),
        (configuration.upstreams.len(), "upstream"),
        (targets, "target"),
        (configuration.consumers.len(), "consumer"),
        (configuration.plugins.len(), "plugin"),
    ]
    .map(|(number, noun)| config::count(number, noun));
    let names: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
    let warnings: String = loaded
        .warnings
        .iter()
        .map(|problem: &Problem| format!("{problem}\n"))
        .collect();
    let tail = if loaded.warnings.is_empty() {
        String::new()
    } else {
        format!(", {}", config::count_problems(&loaded.warnings))
    };
    format!("{warnings}{}: ok, {}{tail}", names.join(" "), counts.join(", "))
}
