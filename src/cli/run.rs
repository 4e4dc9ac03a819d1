//! `serin run`: the proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::Overrides;
use crate::config::reload::{Source, with_causes};
use crate::control::RefusedError;
use crate::server::{self, StartError};

/// What `serin run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration files, or directories of them
    #[arg(required = true, value_name = "FILE", env = "SERIN_CONFIG")]
    pub files: Vec<PathBuf>,
    /// Sets a field under `server`, e.g. --set server.threads=2; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Take over from the process that runs on these files, without a request lost: it hands its sockets over
    /// and drains once this one serves
    #[arg(long)]
    pub upgrade: bool,
    /// Ends when the process that started it does, so that a demo that is killed leaves nothing behind.
    #[arg(long, hide = true)]
    pub until_parent_ends: bool,
}

/// Log level without `RUST_LOG`: the proxy's own news, and of Pingora only what needs a person. What goes
/// wrong on one connection does not: a client could fill the disk with it.
const DEFAULT_LOG: &str = "info,pingora=error,pingora_core=error,pingora_core::apps=off,\
    pingora_core::protocols=off,pingora_proxy=off,hickory=error";

/// Runs until the process is told to stop.
pub fn run(arguments: Arguments) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_LOG))
        .format_timestamp_millis()
        .init();
    if arguments.until_parent_ends {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
    let overrides = Overrides::from_process(arguments.set);
    let source = Source {
        paths: arguments.files,
        overrides,
    };
    match server::run(source, arguments.upgrade) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Refused(RefusedError::Problems(report))) => {
            eprintln!("{report}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
