//! Starting a successor: the program that is now where this process's was, with the same arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use log::{error, info};

/// How this process was started.
#[derive(Debug)]
pub struct Launch {
    /// Looked up at start: once the file is replaced, the system names the deleted one.
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    /// Remembers how this process was started.
    ///
    /// # Errors
    /// When the system does not tell which file it runs.
    pub fn of_this_process() -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: with_upgrade(std::env::args_os().skip(1).collect()),
        })
    }

    /// Starts a successor, which asks for the sockets by itself.
    pub(super) fn start(&self) {
        let mut command = Command::new(&self.program);
        // Of the service manager's variables this one is about this process alone.
        command
            .args(&self.arguments)
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                info!("SIGUSR2: process {} started, to take over", child.id());
                // Somebody has to take note of its end, should it end first.
                std::thread::spawn(move || {
                    if let Ok(status) = child.wait() {
                        error!("process {} has ended: {status}", child.id());
                    }
                });
            }
            Err(error) => error!("SIGUSR2: cannot start {}: {error}", self.program.display()),
        }
    }
}

/// Adds the flag, in front of what may be file names.
fn with_upgrade(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if !arguments.iter().any(|argument| argument == "--upgrade") {
        arguments.insert(arguments.len().min(1), "--upgrade".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_there_once() {
        for (given, expected) in [
            ("run serin.yaml", "run --upgrade serin.yaml"),
            ("run --upgrade -- serin.yaml", "run --upgrade -- serin.yaml"),
            ("run serin.yaml --upgrade", "run serin.yaml --upgrade"),
        ] {
            let given = given.split(' ').map(OsString::from).collect();
            let found: Vec<_> = (with_upgrade(given).into_iter())
                .map(|argument| argument.into_string().unwrap())
                .collect();
            assert_eq!(found.join(" "), expected);
        }
    }
}
