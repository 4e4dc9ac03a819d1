//! Services.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Findings, read};
use crate::config::document as written;
use crate::entity::{Entity, InOrder};
use crate::model::{Configuration, Protocol, Service};

/// Builds a Service.
pub(super) fn service(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Service> {
    let entity = from.first()?;
    let service = read::<written::Service>(&entity.values, entity, findings)?;
    Some(Service {
        id: entity.id,
        name: service.name,
        protocol: match &*service.protocol {
            "https" => Protocol::Https,
            "grpc" => Protocol::Grpc,
            "grpcs" => Protocol::Grpcs,
            _ => Protocol::Http,
        },
        verifies: service.tls_verify.unwrap_or(true),
        ca_certificates: service
            .ca_certificates
            .iter()
            .flatten()
            .filter_map(|id| Uuid::parse_str(id).ok())
            .collect(),
        client_certificate: entity.reference("client_certificate"),
        host: service.host,
        port: service.port,
        path: service.path,
        retries: service.retries,
        connect_timeout: Duration::from_millis(service.connect_timeout),
        write_timeout: Duration::from_millis(service.write_timeout),
        read_timeout: Duration::from_millis(service.read_timeout),
        enabled: service.enabled,
    })
}

/// Reports authorities that Services name and that are not there.
pub(super) fn check_authorities(entities: &InOrder, configuration: &Configuration, findings: &mut Findings) {
    let known: HashSet<Uuid> = configuration.ca_certificates.iter().map(|ca| ca.id).collect();
    for service in configuration.services.iter() {
        for (index, id) in service.ca_certificates.iter().enumerate() {
            if known.contains(id) {
                continue;
            }
            let entity = entities.iter().find(|entity| entity.id == service.id);
            if let Some(entity) = entity {
                let message = format!("invalid reference '{id}' (no such entry in 'ca_certificates')");
                let hint = Some("declare it under 'ca_certificates' with this id, or leave it out");
                let path = format!("ca_certificates[{index}]");
                findings.error(entity, ("ca_certificates", Some(index)), path, message, hint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;

    #[test]
    fn a_service_has_kongs_defaults_and_a_url_is_expanded() {
        let services =
            load("services: [{name: a, host: b}, {name: c, url: 'http://d:81/e', enabled: false}]").services;
        let minute = Duration::from_secs(60);
        let first = Service {
            id: services[0].id,
            name: Some("a".into()),
            protocol: Protocol::Http,
            verifies: true,
            ca_certificates: Vec::new(),
            client_certificate: None,
            host: "b".into(),
            port: 80,
            path: None,
            retries: 5,
            connect_timeout: minute,
            write_timeout: minute,
            read_timeout: minute,
            enabled: true,
        };
        assert_eq!(*services[0], first);
        let second = &services[1];
        assert_eq!(
            (
                second.host.as_str(),
                second.port,
                second.path.as_deref(),
                second.enabled
            ),
            ("d", 81, Some("/e"), false)
        );
    }
}
