//! Services.

use std::sync::Arc;
use std::time::Duration;

use super::{Findings, read};
use crate::config::document as written;
use crate::entity::Entity;
use crate::model::{Protocol, Service};

/// Builds a Service.
pub(super) fn service(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Service> {
    let entity = from.first()?;
    let service = read::<written::Service>(&entity.values, entity, findings)?;
    Some(Service {
        id: entity.id,
        name: service.name,
        protocol: Protocol::Http,
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
