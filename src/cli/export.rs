//! `serin export`: what is in force, as a file.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::{Access, Client, ClientError, conclude};

/// What `serin export` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File to write, in one step; default standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// Prints or writes the configuration in force. It holds secrets.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(Client::new(&arguments.access).and_then(|client| {
        let text = configuration(&client)?;
        let Some(path) = &arguments.output else {
            let _ = io::stdout().lock().write_all(text.as_bytes());
            return Ok(ExitCode::SUCCESS);
        };
        if let Err(error) = replace(path, &text) {
            eprintln!("error: cannot write {}: {error}", path.display());
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }))
}

/// Returns the configuration in force as the text of a file.
pub fn configuration(client: &Client) -> Result<String, ClientError> {
    let answer = client.get("/config")?;
    Ok(answer.body["config"].as_str().unwrap_or_default().to_owned())
}

/// Writes a file beside its place and moves it there: whoever reads it meanwhile, such as the proxy itself, has the
/// old one or the new one. A file that is made is its owner's only.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        if let Ok(metadata) = std::fs::metadata(path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
