//! One Consumer, compiled: its names as header fields hold them, and its groups.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;

use super::consumers::number;
use crate::model;

/// A group, by a number that holds within the directory of one Snapshot. ACL groups and consumer
/// groups share their names: one that is both is one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(u32);

/// A compiled Consumer.
pub struct Consumer {
    /// Identity.
    pub id: Uuid,
    /// The id in lower case, the username, the custom id and the ids of keys, one after the other: what headers
    /// hold, in one piece of memory.
    text: Bytes,
    username_end: usize,
    custom_id_end: usize,
    membership: Arc<Membership>,
}

/// The groups of a Consumer; one for all Consumers that are in the same ones.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Groups of both kinds, ascending.
    all: Box<[GroupId]>,
    /// ACL groups, ascending.
    acl: Box<[GroupId]>,
    /// Names of the ACL groups as `X-Consumer-Groups` lists them.
    acl_names: Option<HeaderValue>,
    /// Names of the groups of both kinds.
    all_names: Option<HeaderValue>,
}

/// Length of an id as text.
const ID_BYTES: usize = 36;

impl Consumer {
    pub(super) fn build(source: &model::Consumer, membership: Arc<Membership>) -> Self {
        let username = source.username.as_deref().unwrap_or_default();
        let custom_id = source.custom_id.as_deref().unwrap_or_default();
        let username_end = ID_BYTES + username.len();
        let custom_id_end = username_end + custom_id.len();
        let mut text = Vec::with_capacity(custom_id_end + ID_BYTES * source.keys.len());
        text.extend_from_slice(source.id.to_string().as_bytes());
        text.extend_from_slice(username.as_bytes());
        text.extend_from_slice(custom_id.as_bytes());
        for key in &source.keys {
            text.extend_from_slice(key.id.to_string().as_bytes());
        }
        Self {
            id: source.id,
            text: text.into(),
            username_end,
            custom_id_end,
            membership,
        }
    }

    /// Returns the id as text, in lower case: what hashes take.
    pub fn id_text(&self) -> &[u8] {
        &self.text[..ID_BYTES]
    }

    /// Returns the name as operators know it.
    pub fn username(&self) -> Option<&str> {
        Some(text_of(&self.text[ID_BYTES..self.username_end])).filter(|name| !name.is_empty())
    }

    /// Returns the name as another system knows it.
    pub fn custom_id(&self) -> Option<&str> {
        Some(text_of(&self.text[self.username_end..self.custom_id_end])).filter(|id| !id.is_empty())
    }

    /// Returns the username, or the custom id where there is none: what logs call the Consumer.
    pub fn label(&self) -> &str {
        self.username().or(self.custom_id()).unwrap_or_default()
    }

    /// Returns the groups of both kinds, ascending.
    pub fn groups(&self) -> &[GroupId] {
        &self.membership.all
    }

    /// Returns the ACL groups, ascending.
    pub fn acl_groups(&self) -> &[GroupId] {
        &self.membership.acl
    }

    /// Says whether the Consumer is in one of these groups, of either kind. `sorted` ascends; one pass
    /// over both lists.
    pub fn is_in_any(&self, sorted: &[GroupId]) -> bool {
        intersect(&self.membership.all, sorted)
    }

    /// Says whether one of these is an ACL group of the Consumer. `sorted` ascends.
    pub fn is_in_any_acl_group(&self, sorted: &[GroupId]) -> bool {
        intersect(&self.membership.acl, sorted)
    }

    /// Returns the value of `X-Consumer-ID`. Shares the memory of the text, as the next ones do.
    pub fn id_header(&self) -> Option<HeaderValue> {
        self.header(0..ID_BYTES)
    }

    /// Returns the value of `X-Consumer-Username`; none for a name that no header can hold.
    pub fn username_header(&self) -> Option<HeaderValue> {
        self.header(ID_BYTES..self.username_end)
    }

    /// Returns the value of `X-Consumer-Custom-ID`; none for one that no header can hold.
    pub fn custom_id_header(&self) -> Option<HeaderValue> {
        self.header(self.username_end..self.custom_id_end)
    }

    /// Returns the values of `X-Credential-Identifier` for the keys, in their order.
    pub(super) fn key_headers(&self) -> impl Iterator<Item = HeaderValue> {
        let starts = (self.custom_id_end..self.text.len()).step_by(ID_BYTES);
        starts.map(|start| {
            self.header(start..start + ID_BYTES)
                .expect("an id is visible ASCII")
        })
    }

    fn header(&self, range: Range<usize>) -> Option<HeaderValue> {
        if range.is_empty() {
            return None;
        }
        HeaderValue::from_maybe_shared(self.text.slice(range)).ok()
    }

    /// Returns the value of `X-Consumer-Groups`: names with `, ` between them; none when there are
    /// none.
    pub fn groups_header(&self, with_consumer_groups: bool) -> Option<&HeaderValue> {
        let Membership {
            acl_names, all_names, ..
        } = &*self.membership;
        if with_consumer_groups {
            all_names
        } else {
            acl_names
        }
        .as_ref()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("id", &self.id)
            .field("label", &self.label())
            .finish_non_exhaustive()
    }
}

/// Groups by name, and the sets of them that Consumers are in.
#[derive(Default)]
pub(super) struct Memberships {
    pub ids: HashMap<Box<str>, GroupId>,
    known: HashMap<(Vec<GroupId>, Vec<GroupId>), Arc<Membership>>,
}

impl Memberships {
    /// Returns the groups of a Consumer.
    pub fn of(&mut self, consumer: &model::Consumer) -> Arc<Membership> {
        let mut ids = |names: &[String]| -> Vec<GroupId> {
            let mut id_of = |name: &String| match self.ids.get(&**name) {
                Some(id) => *id,
                None => {
                    let id = GroupId(number(self.ids.len()));
                    self.ids.insert(name.as_str().into(), id);
                    id
                }
            };
            names.iter().map(&mut id_of).collect()
        };
        let (acl, others) = (ids(&consumer.acl_groups), ids(&consumer.consumer_groups));
        let membership = self
            .known
            .entry((acl, others))
            .or_insert_with_key(|(acl, others)| {
                let acl_names = consumer.acl_groups.iter();
                let more = consumer
                    .consumer_groups
                    .iter()
                    .filter(|name| !consumer.acl_groups.contains(name));
                Arc::new(Membership {
                    all: sorted(acl.iter().chain(others).copied().collect()),
                    acl: sorted(acl.clone()),
                    acl_names: listed(acl_names.clone()),
                    all_names: listed(acl_names.chain(more)),
                })
            });
        membership.clone()
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(names.join(", ").as_bytes()).ok()
}

/// Puts groups in ascending order, each once.
pub(super) fn sorted(mut groups: Vec<GroupId>) -> Box<[GroupId]> {
    groups.sort_unstable();
    groups.dedup();
    groups.into()
}

/// Says whether two ascending lists have something in common.
fn intersect(mut a: &[GroupId], mut b: &[GroupId]) -> bool {
    while let ([first_a, rest_a @ ..], [first_b, rest_b @ ..]) = (a, b) {
        match first_a.cmp(first_b) {
            std::cmp::Ordering::Less => a = rest_a,
            std::cmp::Ordering::Greater => b = rest_b,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the pieces were strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Consumers;

    fn person(number: u128, username: Option<&str>, custom_id: Option<&str>) -> model::Consumer {
        model::Consumer {
            id: Uuid::from_u128(number),
            username: username.map(str::to_owned),
            custom_id: custom_id.map(str::to_owned),
            acl_groups: Vec::new(),
            consumer_groups: Vec::new(),
            keys: Vec::new(),
            passwords: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn member(number: u128, acl: &[&str], others: &[&str]) -> model::Consumer {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        model::Consumer {
            acl_groups: owned(acl),
            consumer_groups: owned(others),
            ..person(number, Some(&format!("c{number}")), None)
        }
    }

    #[test]
    fn a_consumer_tells_its_names() {
        let consumers = Consumers::build(&[
            person(0xab, Some("alice"), Some("a-7")),
            person(2, None, Some("only-custom")),
            person(3, Some("zoë"), None),
            person(4, Some("line\nbreak"), None),
        ]);
        let get = |position: usize| consumers.iter().nth(position).unwrap();
        let alice = get(0);
        assert_eq!(alice.id_text(), b"00000000-0000-0000-0000-0000000000ab");
        assert_eq!((alice.label(), alice.custom_id()), ("alice", Some("a-7")));
        assert_eq!(alice.id_header().unwrap().as_bytes(), alice.id_text());
        assert_eq!(alice.username_header().unwrap(), "alice");
        assert_eq!(alice.custom_id_header().unwrap(), "a-7");
        assert_eq!((get(1).username(), get(1).label()), (None, "only-custom"));
        assert_eq!(get(1).username_header(), None);
        assert_eq!(get(2).username_header().unwrap().as_bytes(), "zoë".as_bytes());
        assert_eq!(get(3).username_header(), None);
    }

    #[test]
    fn groups_of_both_kinds_are_one_set() {
        let consumers = Consumers::build(&[
            member(1, &["testers", "staff"], &["gold", "staff"]),
            member(2, &[], &["gold"]),
            member(3, &[], &[]),
        ]);
        let group = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            consumers.groups(&names)
        };
        let list: Vec<&Consumer> = consumers.iter().collect();
        let [first, second, third] = list[..] else {
            panic!("three Consumers")
        };
        assert_eq!(first.groups().len(), 3);
        assert!(first.is_in_any(&group(&["gold"])) && first.is_in_any(&group(&["nobody", "staff"])));
        assert!(
            first.is_in_any_acl_group(&group(&["staff"])) && !first.is_in_any_acl_group(&group(&["gold"]))
        );
        assert!(second.is_in_any(&group(&["gold", "testers"])) && !second.is_in_any(&group(&["testers"])));
        assert!(!third.is_in_any(&group(&["gold", "staff", "testers"])) && !first.is_in_any(&[]));
        assert_eq!(consumers.group("nobody"), None);

        let header = |consumer: &Consumer, all| {
            consumer
                .groups_header(all)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header(first, false).as_deref(), Some("testers, staff"));
        assert_eq!(header(first, true).as_deref(), Some("testers, staff, gold"));
        assert_eq!(
            (header(second, false), header(second, true).as_deref()),
            (None, Some("gold"))
        );
        assert_eq!(header(third, true), None);
    }

    #[test]
    fn lists_that_ascend_are_compared_in_one_pass() {
        let groups = |numbers: &[u32]| numbers.iter().copied().map(GroupId).collect::<Vec<_>>();
        for (a, b, have_common) in [
            (&[][..], &[][..], false),
            (&[1], &[], false),
            (&[1, 3, 5], &[2, 4, 6], false),
            (&[1, 3, 5], &[5], true),
            (&[9], &[1, 2, 3, 9], true),
        ] {
            assert_eq!(intersect(&groups(a), &groups(b)), have_common, "{a:?} {b:?}");
            assert_eq!(intersect(&groups(b), &groups(a)), have_common, "{b:?} {a:?}");
        }
    }
}
