//! What tests make entities of.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::{Entity, Kind};

/// Makes an id of a number.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Returns the kind of a name.
pub(crate) fn kind(name: &str) -> Kind {
    Kind::named(name).unwrap()
}

/// Makes an entity of values that nobody judges.
pub(crate) fn entity(kind_name: &str, number: u128, values: Value) -> Arc<Entity> {
    let Value::Object(values) = values else {
        panic!("no object: {values}");
    };
    Arc::new(Entity::new(kind(kind_name), id(number), values))
}
