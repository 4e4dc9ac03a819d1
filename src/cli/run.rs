//! `serin run`: the proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::Overrides;
use crate::config::reload::{RefusedError, Source, with_causes};
use crate::server::{self, StartError};

/// What `serin run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration files, or folders of them.
    #[arg(required = true, value_name = "FILE", env = "SERIN_CONFIG")]
    pub files: Vec<PathBuf>,
    /// Overrides one setting of `server`, e.g. `server.status.address=127.0.0.1:9000`; repeatable.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// Log level without `RUST_LOG`: the proxy's own news, and of Pingora only what needs a person.
const DEFAULT_LOG: &str = "info,pingora=error,pingora_core=error,pingora_proxy=error,hickory=error";

/// Runs until the process is told to stop.
pub fn run(arguments: Arguments) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_LOG))
        .format_timestamp_millis()
        .init();
    let overrides = Overrides::from_process(arguments.set);
    match server::run(Source {
        paths: arguments.files,
        overrides,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Refused(RefusedError::Problems(report))) => {
            eprintln!("{report}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
