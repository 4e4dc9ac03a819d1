//! `serin patch`: some fields of one entity.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{Access, Client, ClientError, conclude, set_field};
use super::get::{explain, place};
use super::print;

/// What `serin patch` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Kind of the entity, e.g. services, or the path of its list, e.g. upstreams/green/targets
    kind: String,
    /// Its name or id
    name: String,
    /// A field and its new value: host=green, retries=3, tags='["a"]', config.percentage=10; null stands for the
    /// default, and what is no JSON is a text
    #[arg(value_name = "FIELD=VALUE", required = true, value_parser = parse_field)]
    fields: Vec<(String, Value)>,
    #[command(flatten)]
    access: Access,
}

/// Changes the fields and prints the entity as it is now.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(patch(arguments))
}

fn patch(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.access)?;
    let mut body = json!({});
    for (name, value) in &arguments.fields {
        set_field(&mut body, name, value.clone());
    }
    let path = place(&arguments.kind, Some(&arguments.name));
    let answer = client
        .patch(&path, &body, None)
        .map_err(|error| explain(error, &path))?;
    print(&format!("{:#}", answer.body));
    // Not on standard output: that is the entity, for programs.
    eprintln!("generation {} is in force", answer.generation());
    Ok(ExitCode::SUCCESS)
}

fn parse_field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as field=value")?;
    if name.split('.').any(str::is_empty) {
        return Err(format!("'{name}' is no name of a field"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Value), &str>) {
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(parse_field(text), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn values_are_json_or_else_text() {
        check("host=green", Ok(("host", json!("green"))));
        check("retries=3", Ok(("retries", json!(3))));
        check("enabled=false", Ok(("enabled", json!(false))));
        check("path=null", Ok(("path", json!(null))));
        check("tags=[\"a\"]", Ok(("tags", json!(["a"]))));
        check("host=\"8\"", Ok(("host", json!("8"))));
        check("path=/a=b", Ok(("path", json!("/a=b"))));
        check("host=", Ok(("host", json!(""))));
        check("host", Err("write it as field=value"));
        check("config..a=1", Err("'config..a' is no name of a field"));
        check("=1", Err("'' is no name of a field"));
    }
}
