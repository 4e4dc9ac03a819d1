//! The plugin `acl`: who may pass, by groups.

use http::StatusCode;

use super::Identity;
use crate::proxy::respond::Answer;
use crate::snapshot::{Acl, Consumers};

const UNKNOWN: Answer = Answer::keeping(StatusCode::UNAUTHORIZED, "Unauthorized");
const REFUSED: Answer = Answer::keeping(StatusCode::FORBIDDEN, "You cannot consume this service");

/// Refuses whoever may not pass, and tells the origin the groups of whoever may.
///
/// The anonymous Consumer is one like any other, but where it is in no group at all, a list of who may
/// pass asks the client to say who it is (401) instead of turning it away for good.
pub fn check(acl: &Acl, consumers: &Consumers, identity: &mut Identity) -> Result<(), Answer> {
    let consumer = consumers.get(identity.consumer.ok_or(UNKNOWN)?);
    let with_consumer_groups = acl.includes_consumer_groups;
    let (is_listed, is_in_none) = if with_consumer_groups {
        (consumer.is_in_any(&acl.groups), consumer.groups().is_empty())
    } else {
        let is_listed = consumer.is_in_any_acl_group(&acl.groups);
        (is_listed, consumer.acl_groups().is_empty())
    };
    if is_listed != acl.is_allow_list {
        let asks = acl.is_allow_list && is_in_none && identity.is_anonymous;
        return Err(if asks { UNKNOWN } else { REFUSED });
    }
    if acl.shows_groups {
        identity.groups = consumer.groups_header(with_consumer_groups).cloned();
    }
    Ok(())
}
