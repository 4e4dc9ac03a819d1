//! The directory of Consumers: whose a key, a name or an issuer is.
//!
//! A credential is found by SipHash-2-4 with 128 bits under a random key that is this directory's own
//! and never leaves it, and then compared in constant time: how long a wrong one takes says nothing of
//! how near it came. Keys themselves are not kept, only their hashes. One look-up is one hash and a
//! step or two in a table, at one Consumer as at a million. A Consumer with a key takes about 250 bytes
//! and its names, beside the model's own copy: headers share one piece of memory, and Consumers in the same groups
//! share the list.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher;
use std::time::Duration;

use http::HeaderValue;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::consumer::{Consumer, GroupId, Memberships, sorted};
use super::issuer::Issuer;
use super::table::Table;
use crate::model;
use crate::priority::patiently;

/// A Consumer, by its position in the directory of one Snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerIndex(u32);

/// Every Consumer with its credentials and groups, compiled.
pub struct Consumers {
    hash_key: [u8; 16],
    list: Box<[Consumer]>,
    by_id: Table,
    by_username: Table,
    keys: Box<[Key]>,
    by_key: Table,
    passwords: Box<[Password]>,
    by_password: Table,
    issuers: Box<[Issuer]>,
    by_issuer: Table,
    groups: HashMap<Box<str>, GroupId>,
}

/// A credential that was found, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a, C> {
    /// Whose it is.
    pub consumer: ConsumerIndex,
    /// What it is.
    pub credential: &'a C,
}

/// A compiled credential of the plugin `key-auth`.
pub struct Key {
    /// Its id in lower case: the value of `X-Credential-Identifier`.
    pub id_header: HeaderValue,
    consumer: ConsumerIndex,
    digest: Digest,
    expires_at: Option<Duration>,
}

/// A compiled credential of the plugin `basic-auth`.
pub struct Password {
    consumer: ConsumerIndex,
    /// The name that goes with it.
    pub username: Box<str>,
    hash: [u8; 20],
}

/// What a text is found by.
type Digest = u128;

impl Consumers {
    /// Compiles the Consumers of a configuration. Of equal names or credentials, which no checked
    /// configuration has, the first counts.
    ///
    /// # Panics
    ///
    /// With 2^32 - 1 Consumers, groups or credentials of one kind.
    pub fn build<C: Borrow<model::Consumer>>(source: &[C]) -> Self {
        // 122 of its bits are random.
        let hash_key = Uuid::new_v4().into_bytes();
        let mut memberships = Memberships::default();
        let mut list = Vec::with_capacity(source.len());
        let mut keys = Vec::new();
        let mut passwords = Vec::new();
        let mut issuers = Vec::new();
        for (position, consumer) in patiently(source).map(Borrow::borrow).enumerate() {
            let index = ConsumerIndex(number(position));
            let compiled = Consumer::build(consumer, memberships.of(consumer));
            let with_headers = consumer.keys.iter().zip(compiled.key_headers());
            keys.extend(with_headers.map(|(key, id_header)| Key {
                id_header,
                consumer: index,
                digest: digest(&hash_key, key.key.expose().as_bytes()),
                expires_at: key.expires_at,
            }));
            list.push(compiled);
            passwords.extend(consumer.passwords.iter().map(|password| Password {
                consumer: index,
                username: password.username.as_str().into(),
                hash: password.password.0,
            }));
            issuers.extend(consumer.tokens.iter().map(|token| Issuer::build(index, token)));
        }
        let hash = |text: &[u8]| short(digest(&hash_key, text));
        Self {
            by_id: Table::build(list.iter().map(|consumer| hash(consumer.id_text()))),
            // A Consumer without a username is found by no name: nobody asks for an empty one.
            by_username: Table::build(
                list.iter()
                    .map(|consumer| hash(consumer.username().unwrap_or_default().as_bytes())),
            ),
            by_key: Table::build(keys.iter().map(|key| short(key.digest))),
            by_password: Table::build(
                passwords
                    .iter()
                    .map(|password| hash(password.username.as_bytes())),
            ),
            by_issuer: Table::build(issuers.iter().map(|issuer| hash(issuer.key.as_bytes()))),
            hash_key,
            list: list.into(),
            keys: keys.into(),
            passwords: passwords.into(),
            issuers: issuers.into(),
            groups: memberships.ids,
        }
    }

    /// Returns a Consumer.
    ///
    /// # Panics
    ///
    /// When the index is another directory's.
    pub fn get(&self, index: ConsumerIndex) -> &Consumer {
        &self.list[index.0 as usize]
    }

    /// Returns every Consumer, in the order of the source.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.list.iter()
    }

    /// Returns how many Consumers there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Finds a Consumer by its id or else by its username.
    pub fn find(&self, id_or_username: &str) -> Option<ConsumerIndex> {
        let by_id = || {
            let id: Uuid = id_or_username.parse().ok()?;
            let mut buffer = Uuid::encode_buffer();
            let hash = self.short_digest(id.hyphenated().encode_lower(&mut buffer));
            self.by_id.find(hash, |position| self.list[position].id == id)
        };
        let by_username = || {
            self.by_username
                .find(self.short_digest(id_or_username), |position| {
                    self.list[position].username() == Some(id_or_username)
                })
        };
        by_id()
            .or_else(by_username)
            .map(|position| ConsumerIndex(number(position)))
    }

    /// Finds a group by its name; none when no Consumer is in it.
    pub fn group(&self, name: &str) -> Option<GroupId> {
        self.groups.get(name).copied()
    }

    /// Finds the groups of these names that somebody is in, ascending.
    pub fn groups<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Box<[GroupId]> {
        let groups = names.into_iter().filter_map(|name| self.group(name));
        sorted(groups.collect())
    }

    /// Finds whose a key is; none when it has expired at `now`, which is the time since 1970.
    ///
    /// One hash, a step or two in the table, and one comparison in constant time.
    pub fn find_key(&self, key: &[u8], now: Duration) -> Option<Found<'_, Key>> {
        let digest = digest(&self.hash_key, key);
        let position = self.by_key.find(short(digest), |position| {
            self.keys[position].digest.ct_eq(&digest).into()
        })?;
        let credential = &self.keys[position];
        let is_current = credential.expires_at.is_none_or(|end| now < end);
        is_current.then_some(Found {
            consumer: credential.consumer,
            credential,
        })
    }

    /// Finds the password that goes with a name. Names are no secrets: what is compared in constant
    /// time is the password.
    pub fn find_username(&self, username: &str) -> Option<Found<'_, Password>> {
        let position = self.by_password.find(self.short_digest(username), |position| {
            *self.passwords[position].username == *username
        })?;
        let credential = &self.passwords[position];
        Some(Found {
            consumer: credential.consumer,
            credential,
        })
    }

    /// Finds the issuer that a token names.
    pub fn find_issuer(&self, key: &str) -> Option<Found<'_, Issuer>> {
        let position = self.by_issuer.find(self.short_digest(key), |position| {
            *self.issuers[position].key == *key
        })?;
        let credential = &self.issuers[position];
        Some(Found {
            consumer: credential.consumer,
            credential,
        })
    }

    fn short_digest(&self, text: &str) -> u64 {
        short(digest(&self.hash_key, text.as_bytes()))
    }
}

/// An empty directory.
impl Default for Consumers {
    fn default() -> Self {
        Self::build::<model::Consumer>(&[])
    }
}

/// Tells sizes only: what is in it is credentials.
impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumers")
            .field("consumers", &self.list.len())
            .field("keys", &self.keys.len())
            .field("passwords", &self.passwords.len())
            .field("issuers", &self.issuers.len())
            .finish_non_exhaustive()
    }
}

/// Tells whose it is, and not what it is.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id_header)
            .finish_non_exhaustive()
    }
}

impl Password {
    /// Compares with the SHA-1 of a password and its Consumer's id, in constant time.
    pub fn is(&self, hash: &[u8; 20]) -> bool {
        self.hash.ct_eq(hash).into()
    }
}

/// Tells whose it is, and not what it is.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

pub(super) fn number(position: usize) -> u32 {
    u32::try_from(position).expect("fewer than 2^32 of them")
}

fn digest(key: &[u8; 16], text: &[u8]) -> Digest {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(text);
    hasher.finish128().as_u128()
}

/// The part of a digest that picks a slot.
fn short(digest: Digest) -> u64 {
    digest as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BasicCredential, KeyCredential, Masked, PasswordHash};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn person(number: u128, username: Option<&str>, custom_id: Option<&str>) -> model::Consumer {
        model::Consumer {
            id: id(number),
            username: username.map(str::to_owned),
            custom_id: custom_id.map(str::to_owned),
            acl_groups: Vec::new(),
            consumer_groups: Vec::new(),
            keys: Vec::new(),
            passwords: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn key(number: u128, key: &str, expires_at: Option<Duration>) -> KeyCredential {
        KeyCredential {
            id: id(number),
            key: Masked::new(key),
            expires_at,
        }
    }

    /// Looks a key up and insists on the credential with this number.
    fn check(consumers: &Consumers, key: &str, credential: Option<u128>) {
        let found = consumers.find_key(key.as_bytes(), NOW);
        assert_eq!(
            found.map(|found| found.credential.id_header.as_bytes().to_vec()),
            credential.map(|number| id(number).to_string().into_bytes()),
            "{key}"
        );
    }

    #[test]
    fn a_key_finds_its_consumer() {
        let mut people: Vec<_> = (0..100)
            .map(|n| person(n, Some(&format!("c{n}")), None))
            .collect();
        for (n, person) in (0..).zip(&mut people) {
            person.keys = vec![key(1000 + n, &format!("key-{n}"), None)];
        }
        let consumers = Consumers::build(&people);
        for n in 0..100 {
            let found = consumers.find_key(format!("key-{n}").as_bytes(), NOW).unwrap();
            assert_eq!(consumers.get(found.consumer).id, id(n));
            assert_eq!(found.credential.id_header, id(1000 + n).to_string());
        }
        for unknown in ["", "key-", "key-100", "key-1 ", "KEY-1"] {
            check(&consumers, unknown, None);
        }
        check(&Consumers::default(), "key-1", None);
    }

    #[test]
    fn an_expired_key_is_unknown() {
        let mut alice = person(1, Some("alice"), None);
        let second = Duration::from_secs(1);
        alice.keys = vec![
            key(1, "over", Some(NOW - second)),
            key(2, "ends-now", Some(NOW)),
            key(3, "lasts", Some(NOW + second)),
        ];
        let consumers = Consumers::build(&[alice]);
        check(&consumers, "over", None);
        check(&consumers, "ends-now", None);
        check(&consumers, "lasts", Some(3));
    }

    #[test]
    fn a_consumer_is_found_by_id_then_by_username() {
        let confusing = id(1).to_string();
        let consumers = Consumers::build(&[
            person(1, Some("alice"), Some("a-7")),
            person(2, Some(&confusing), None),
            person(3, None, Some("only-custom")),
        ]);
        let find = |name: &str| consumers.find(name).map(|index| consumers.get(index).id);
        assert_eq!(find("alice"), Some(id(1)));
        assert_eq!(find(&confusing), Some(id(1)));
        assert_eq!(find(&id(3).to_string().to_uppercase()), Some(id(3)));
        for unknown in ["Alice", "a-7", "only-custom", "", &id(4).to_string()] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_name_finds_its_password() {
        let mut alice = person(1, Some("alice"), None);
        alice.passwords = vec![BasicCredential {
            id: id(7),
            username: "al".to_owned(),
            password: PasswordHash([3; 20]),
        }];
        let consumers = Consumers::build(&[person(2, Some("bob"), None), alice]);
        let found = consumers.find_username("al").unwrap();
        assert_eq!(consumers.get(found.consumer).id, id(1));
        assert!(found.credential.is(&[3; 20]) && !found.credential.is(&[4; 20]));
        assert!(consumers.find_username("alice").is_none() && consumers.find_username("").is_none());
    }

    #[test]
    fn nothing_prints_a_credential() {
        let mut alice = person(1, Some("alice"), None);
        alice.keys = vec![key(1, "topsecret", None)];
        let consumers = Consumers::build(&[alice]);
        let found = consumers.find_key(b"topsecret", NOW).unwrap();
        let printed = format!("{consumers:?} {found:?} {:?}", consumers.get(found.consumer));
        assert!(!printed.contains("topsecret"), "{printed}");
    }
}
