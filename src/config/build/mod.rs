//! Entities to the model.
//!
//! Everything was judged by then, so this step only changes shapes: text to addresses, milliseconds to
//! durations, one entity's reference to another's id. What can still fail is what only trying shows: a
//! regular expression whose automaton is too large. What did not change since the last time is taken over
//! ([`Memo`]): a kind of which nothing changed as a whole, and otherwise each part by itself.

mod certificate;
mod consumer;
mod finding;
mod memo;
mod parts;
mod plugin;
mod route;
mod service;
mod settings;
mod upstream;

use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

pub(crate) use self::finding::{Finding, Findings};
pub use self::memo::Memo;
pub(super) use self::settings::settings;
use super::identity::MEMBERS;
use crate::entity::{Entity, InOrder, Kind};
use crate::model::{Configuration, Settings};

/// Builds the model of entities in which every reference leads somewhere; of one kind they stand in the
/// order that breaks ties. The result is not to be used if there is an error among the findings.
pub(crate) fn build(entities: &InOrder, settings: Settings, memo: &mut Memo) -> (Configuration, Findings) {
    let mut findings = Findings::default();
    let Memo {
        services,
        routes,
        upstreams,
        consumers,
        plugins,
        certificates,
        ca_certificates,
    } = memo;
    let sources = |names: &[&str]| -> Vec<_> {
        let kinds = names.iter().filter_map(|name| Kind::named(name));
        kinds.map(|kind| entities.of_kind(kind)).collect()
    };
    let of_consumers = [
        "consumers",
        "consumer_groups",
        MEMBERS,
        "keyauth_credentials",
        "basicauth_credentials",
        "jwt_secrets",
        "acls",
    ];
    let found = &mut findings;
    let configuration = Configuration {
        settings,
        ca_certificates: ca_certificates.all(
            sources(&["ca_certificates"]),
            found,
            certificate::ca_certificate,
        ),
        certificates: certificates.all(
            sources(&["certificates", "snis"]),
            found,
            certificate::certificate,
        ),
        services: services.all(sources(&["services"]), found, service::service),
        routes: routes.all(sources(&["routes"]), found, route::route),
        upstreams: upstreams.all(sources(&["upstreams", "targets"]), found, upstream::upstream),
        consumers: consumers.all(sources(&of_consumers), found, consumer::consumer),
        plugins: plugins.all(sources(&["plugins"]), found, plugin::plugin),
    };
    service::check_authorities(entities, &configuration, &mut findings);
    (configuration, findings)
}

/// Returns the kind of an entity that is known to be one of the table's.
fn is_kind(entity: &Entity, name: &str) -> bool {
    Kind::named(name) == Some(entity.kind)
}

/// Reads checked values into their shape. A failure means that table and shape disagree, which is a
/// defect; it is reported rather than allowed to end the process.
fn read<T: DeserializeOwned>(
    values: &Map<String, Value>,
    entity: &Entity,
    findings: &mut Findings,
) -> Option<T> {
    match T::deserialize(values.into_deserializer()) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("this should have been found earlier: {error}");
            findings.error(entity, ("", None), String::new(), message, None);
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
