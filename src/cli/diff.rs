//! `serin diff`: in what the configuration in force differs from files.
//!
//! Without files it asks the proxy, which keeps what its own files said when it read them last. With files it compares
//! these, as they are now, with what is in force: what a reload of them would meet, not what it would do, since a
//! reload keeps changes that the files do not contradict.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{Access, Client, ClientError, conclude};
use super::export::configuration;
use super::print;
use crate::config::{self, Known, Overrides, Report};
use crate::control::differences;
use crate::entity::{Kind, State};

/// What `serin diff` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration files, or directories of them; default what the proxy has read last
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// An entity in which the two differ.
#[derive(Debug)]
struct Item {
    kind: String,
    name: String,
    state: Change,
    /// Every field that differs: its path, what the file says, what is in force.
    fields: Vec<(String, Option<Value>, Option<Value>)>,
}

/// In what way they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    OnlyInFile,
    OnlyInForce,
    Fields,
}

/// Prints the differences; the exit code is 1 when there is one, as that of `diff`.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(Client::new(&arguments.access).and_then(|client| {
        let items = match arguments.files.is_empty() {
            true => drift(&client)?,
            false => match compare(&client, &arguments.files)? {
                Ok(items) => items,
                Err(report) => {
                    eprintln!("{report}");
                    return Ok(ExitCode::FAILURE);
                }
            },
        };
        print(&text_of(&items));
        Ok(match items.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }))
}

fn drift(client: &Client) -> Result<Vec<Item>, ClientError> {
    let drift = client.whole("/drift")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let given = |value: &Value| Some(value.clone()).filter(|value| !value.is_null());
    let items = drift.as_array().into_iter().flatten().map(|item| Item {
        kind: text(&item["entity"]),
        name: text(&item["name"]),
        state: match item["state"].as_str() {
            Some("removed") => Change::OnlyInFile,
            Some("added") => Change::OnlyInForce,
            _ => Change::Fields,
        },
        fields: (item["fields"].as_array().into_iter().flatten())
            .map(|field| {
                (
                    text(&field["field"]),
                    given(&field["file"]),
                    given(&field["live"]),
                )
            })
            .collect(),
    });
    Ok(items.collect())
}

fn compare(client: &Client, files: &[PathBuf]) -> Result<Result<Vec<Item>, Report>, ClientError> {
    let text = configuration(client)?;
    let overrides = Overrides::from_process(Vec::new());
    let loaded = config::load(files, &overrides, &mut Known::default()).and_then(|file| {
        Ok((
            file,
            config::load_text("the configuration in force", &text, &Overrides::default())?,
        ))
    });
    let (file, live) = match loaded {
        Ok((file, live)) => (State::of(file.entities), State::of(live.entities)),
        Err(report) => return Ok(Err(report)),
    };
    let items = differences(&file, &live).into_iter().map(|difference| Item {
        kind: difference.kind.name().to_owned(),
        name: difference.name.clone(),
        state: match (&difference.file, &difference.live) {
            (Some(_), None) => Change::OnlyInFile,
            (None, _) => Change::OnlyInForce,
            _ => Change::Fields,
        },
        fields: (difference.fields().into_iter())
            .map(|(path, file, live)| match is_secret(difference.kind, &path) {
                true => (path, Some(Value::from("***")), Some(Value::from("***"))),
                false => (path, file, live),
            })
            .collect(),
    });
    Ok(Ok(items.collect()))
}

/// Secrets are fields at the top, none is nested.
fn is_secret(kind: Kind, path: &str) -> bool {
    let mut fields = kind.schema().fields.iter();
    fields.any(|field| field.is_secret && field.name == path)
}

fn text_of(items: &[Item]) -> String {
    if items.is_empty() {
        return "no difference".to_owned();
    }
    let mut lines = Vec::new();
    for item in items {
        lines.push(format!(
            "{} {}{}",
            item.kind,
            item.name,
            match item.state {
                Change::OnlyInFile => ": in the file, not in force",
                Change::OnlyInForce => ": in force, not in the file",
                Change::Fields => "",
            }
        ));
        let shown = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
        for (path, file, live) in &item.fields {
            lines.push(format!("  {path}: {} → {}", shown(file), shown(live)));
        }
    }
    lines.push(match items.len() {
        1 => "1 entity differs, file → in force".to_owned(),
        number => format!("{number} entities differ, file → in force"),
    });
    lines.join("\n")
}
