//! `serin targets`: weights of Targets in a running proxy.

use std::process::ExitCode;

use serde_json::json;

use super::client::{Access, Client, ClientError, conclude, path_of};
use super::print;

/// What `serin targets` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Set how much a Target gets; 0 takes it out of rotation.
    SetWeight(SetWeight),
}

#[derive(Debug, clap::Args)]
struct SetWeight {
    /// The Upstream that the Target is in
    upstream: String,
    /// The Target, e.g. 10.0.0.1:8080
    target: String,
    /// Its new weight, 0 to 65535
    weight: u16,
    #[command(flatten)]
    access: Access,
}

/// Does what the verb says.
pub fn run(arguments: &Arguments) -> ExitCode {
    let Verb::SetWeight(arguments) = &arguments.verb;
    conclude(set_weight(arguments))
}

fn set_weight(arguments: &SetWeight) -> Result<ExitCode, ClientError> {
    let SetWeight {
        upstream,
        target,
        weight,
        access,
    } = arguments;
    let client = Client::new(access)?;
    let path = path_of(&["upstreams", upstream, "targets", target]);
    let explain = |error: ClientError| {
        match error.is_not_found() {
        true => error.with_hint(format!(
            "'serin get upstreams/{upstream}/targets' lists the targets of '{upstream}', 'serin get upstreams' the upstreams"
        )),
        false => error,
    }
    };
    let before = client.get(&path).map_err(explain)?.body["weight"].clone();
    let answer = client
        .patch(&path, &json!({ "weight": weight }), None)
        .map_err(explain)?;
    print(&format!(
        "{upstream} {target}: weight {before} → {weight}, generation {}",
        answer.generation()
    ));
    Ok(ExitCode::SUCCESS)
}
