//! `serin schema`: the JSON Schema of a configuration file, for editors.

use std::io::Write as _;
use std::process::ExitCode;

/// Prints the schema.
pub fn run() -> ExitCode {
    let _ = writeln!(std::io::stdout().lock(), "{:#}", crate::config::json_schema());
    ExitCode::SUCCESS
}
