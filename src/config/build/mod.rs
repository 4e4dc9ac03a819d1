//! Checked rows to the model.
//!
//! Everything was judged by then, so this step only changes shapes: text to addresses, milliseconds to
//! durations, one entity's reference to another's id. What can still fail is what only trying shows: a
//! regular expression whose automaton is too large.

mod consumer;
mod plugin;
mod route;
mod service;
mod settings;
mod upstream;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::consumer::Consumers;
use self::upstream::Upstreams;
use super::check::Checker;
use super::identity::Identities;
use super::rows::Row;
use crate::model::{Configuration, Route, Scope};

/// Builds the model; whatever fails is reported, and the result is then not to be used.
pub(crate) fn build(
    rows: &[Row<'_>],
    identities: &Identities,
    server: Map<String, Value>,
    checker: &mut Checker<'_>,
) -> Configuration {
    let mut configuration = Configuration {
        settings: settings::settings(server, checker),
        ..Configuration::default()
    };
    let mut routes: Vec<(f64, Route)> = Vec::new();
    let mut upstreams = Upstreams::default();
    let mut consumers = Consumers::default();
    for (index, row) in rows.iter().enumerate() {
        let id = identities.ids[index];
        match row.entity.name {
            "services" => configuration.services.extend(service::service(id, row, checker)),
            "routes" => {
                let service = identities.references[index].map(|row| identities.ids[row]);
                let created_at = row.values.get("created_at").and_then(Value::as_f64);
                let route = route::route(id, service, row, checker);
                routes.extend(route.map(|route| (created_at.unwrap_or(f64::MAX), route)));
            }
            "upstreams" => upstreams.add(index, id, row, checker),
            "consumers" => {
                let groups = identities.groups.get(&index).into_iter().flatten();
                let names = groups.filter_map(|group| rows[*group].written_text("name"));
                consumers.add(index, id, row, names.map(str::to_owned).collect(), checker);
            }
            // One that is not enabled has been checked, and that is all.
            "plugins" if row.values.get("enabled") != Some(&Value::Bool(false)) => {
                let plugin = plugin::plugin(id, scope_of(index, identities), row, checker);
                configuration.plugins.extend(plugin);
            }
            _ => {}
        }
    }
    // Targets may be listed before their Upstream, credentials before their Consumer.
    for (index, row) in rows.iter().enumerate() {
        let id = identities.ids[index];
        match (identities.references[index], row.entity.name) {
            (Some(upstream), "targets") => upstreams.add_target(upstream, id, row, checker),
            (Some(consumer), "keyauth_credentials" | "basicauth_credentials" | "jwt_secrets" | "acls") => {
                consumers.add_to(consumer, id, row, checker);
            }
            _ => {}
        }
    }
    configuration.upstreams = upstreams.into_list();
    configuration.consumers = consumers.into_list();
    // Stable, so Routes without a time keep the order of the source, behind those that have one.
    routes.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    configuration.routes = routes.into_iter().map(|(_, route)| route).collect();
    configuration
}

/// Returns which requests the plugin of a row is for.
fn scope_of(index: usize, identities: &Identities) -> Scope {
    let service = identities.references[index].map(|row| identities.ids[row]);
    let route = identities.routes.get(&index).map(|row| identities.ids[*row]);
    match (route, service) {
        (Some(route), Some(service)) => Scope::RouteOfService { route, service },
        (Some(route), None) => Scope::Route(route),
        (None, Some(service)) => Scope::Service(service),
        (None, None) => Scope::Global,
    }
}

/// Reads a checked value into its shape. A failure means that table and shape disagree, which is a
/// defect; it is reported rather than allowed to end the process.
fn read<T: DeserializeOwned>(values: Map<String, Value>, path: &str, checker: &mut Checker<'_>) -> Option<T> {
    match serde_json::from_value(Value::Object(values)) {
        Ok(value) => Some(value),
        Err(error) => {
            checker.error(
                None,
                path,
                format!("this should have been found earlier: {error}"),
                None,
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load_text};
    use crate::model::Configuration;

    /// Loads what stands below the version.
    pub(super) fn load(text: &str) -> Configuration {
        let text = format!("_format_version: \"3.0\"\n{text}");
        match load_text("f.yaml", &text, &Overrides::default()) {
            Ok(loaded) => loaded.configuration,
            Err(report) => panic!("{report}"),
        }
    }
}
