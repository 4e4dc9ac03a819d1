//! Entities to the model.
//!
//! Everything was judged by then, so this step only changes shapes: text to addresses, milliseconds to
//! durations, one entity's reference to another's id. What can still fail is what only trying shows: a
//! regular expression whose automaton is too large. What did not change since the last time is taken over
//! ([`Memo`]), so that the cost of a change grows with the change.

mod certificate;
mod consumer;
mod finding;
mod memo;
mod plugin;
mod route;
mod service;
mod settings;
mod upstream;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) use self::finding::{Finding, Findings};
pub use self::memo::Memo;
pub(super) use self::settings::settings;
use super::identity::MEMBERS;
use crate::entity::{Entity, Kind};
use crate::model::{Configuration, Settings};

/// Builds the model of entities in which every reference leads somewhere; of one kind they stand in the
/// order that breaks ties. The result is not to be used if there is an error among the findings.
pub(crate) fn build(
    entities: &[Arc<Entity>],
    settings: Settings,
    memo: &mut Memo,
) -> (Configuration, Findings) {
    let mut findings = Findings::default();
    let mut configuration = Configuration {
        settings,
        ..Configuration::default()
    };
    let parts = Parts::of(entities);
    for entity in entities {
        let one = || vec![entity.clone()];
        match entity.kind.name() {
            "services" => {
                let service = memo.services.take(one(), &mut findings, service::service);
                configuration.services.extend(service);
            }
            "routes" => {
                let route = memo.routes.take(one(), &mut findings, route::route);
                configuration.routes.extend(route);
            }
            "upstreams" => {
                let from = parts.with_children(entity);
                let upstream = memo.upstreams.take(from, &mut findings, upstream::upstream);
                configuration.upstreams.extend(upstream);
            }
            "consumers" => {
                let from = parts.with_children(entity);
                let consumer = memo.consumers.take(from, &mut findings, consumer::consumer);
                configuration.consumers.extend(consumer);
            }
            "ca_certificates" => {
                let ca = memo
                    .ca_certificates
                    .take(one(), &mut findings, certificate::ca_certificate);
                configuration.ca_certificates.extend(ca);
            }
            "certificates" => {
                let from = parts.with_children(entity);
                let certificate = memo
                    .certificates
                    .take(from, &mut findings, certificate::certificate);
                configuration.certificates.extend(certificate);
            }
            // One that is not enabled has been checked, and that is all.
            "plugins" if entity.values.get("enabled") != Some(&Value::Bool(false)) => {
                let plugin = memo.plugins.take(one(), &mut findings, plugin::plugin);
                configuration.plugins.extend(plugin);
            }
            _ => {}
        }
    }
    service::check_authorities(entities, &configuration, &mut findings);
    (configuration, findings)
}

/// What belongs to Upstreams, Consumers and certificates, by their ids.
struct Parts<'a> {
    children: HashMap<Uuid, Vec<&'a Arc<Entity>>, RandomState>,
    groups: HashMap<Uuid, &'a Arc<Entity>, RandomState>,
}

impl<'a> Parts<'a> {
    fn of(entities: &'a [Arc<Entity>]) -> Self {
        let mut parts = Self {
            children: HashMap::default(),
            groups: HashMap::default(),
        };
        for entity in entities {
            let parent = match entity.kind.name() {
                "targets" => entity.reference("upstream"),
                "snis" => entity.reference("certificate"),
                "keyauth_credentials" | "basicauth_credentials" | "jwt_secrets" | "acls" | MEMBERS => {
                    entity.reference("consumer")
                }
                "consumer_groups" => {
                    parts.groups.insert(entity.id, entity);
                    None
                }
                _ => None,
            };
            if let Some(parent) = parent {
                parts.children.entry(parent).or_default().push(entity);
            }
        }
        parts
    }

    /// Returns an entity followed by what it is built from beside itself.
    fn with_children(&self, entity: &Arc<Entity>) -> Vec<Arc<Entity>> {
        let mut from = vec![entity.clone()];
        for child in self.children.get(&entity.id).into_iter().flatten() {
            let group = child.reference("consumer_group");
            // Of a membership only the group's name is of use.
            let part = group.and_then(|group| self.groups.get(&group)).unwrap_or(child);
            from.push(Arc::clone(part));
        }
        from
    }
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
