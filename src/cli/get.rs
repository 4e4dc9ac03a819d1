//! `serin get`: what the Admin API has at a path, as JSON.

use std::process::ExitCode;

use super::client::{Access, Client, ClientError, conclude, path_of};
use super::print;

/// What `serin get` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A kind of entity, e.g. services, or a path, e.g. /upstreams/green/health
    #[arg(value_name = "KIND|PATH")]
    what: String,
    /// Name or id of one entity
    name: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Prints what is there; of a list all pages, as one list.
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(Client::new(&arguments.access).and_then(|client| {
        let path = place(&arguments.what, arguments.name.as_deref());
        let found = client.whole(&path).map_err(|error| explain(error, &path))?;
        print(&format!("{found:#}"));
        Ok(ExitCode::SUCCESS)
    }))
}

/// Returns the path of a kind or of one entity of it; what has a slash is a path already.
pub fn place(what: &str, name: Option<&str>) -> String {
    let path = format!("/{}", what.trim_matches('/'));
    match name {
        Some(name) => path + &path_of(&[name]),
        None => path,
    }
}

/// Says how to find out what there is.
pub fn explain(error: ClientError, path: &str) -> ClientError {
    match error.is_not_found() {
        true => error.with_hint(format!(
            "nothing is at {path}; 'serin get endpoints' lists the paths, 'serin get services' the entities of a kind"
        )),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_a_name_make_a_path() {
        assert_eq!(place("services", None), "/services");
        assert_eq!(place("services", Some("a b")), "/services/a%20b");
        assert_eq!(place("/services?tags=a", None), "/services?tags=a");
        assert_eq!(
            place("upstreams/green/targets", Some("10.0.0.1:80")),
            "/upstreams/green/targets/10.0.0.1%3A80"
        );
    }
}
