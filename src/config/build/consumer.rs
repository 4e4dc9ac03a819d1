//! Consumers with their credentials and groups.

use std::collections::HashMap;
use std::time::Duration;

use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::read;
use crate::config::check::Checker;
use crate::config::document as written;
use crate::config::review::parse_hash;
use crate::config::rows::Row;
use crate::model::{
    BasicCredential, Consumer, JwtAlgorithm, JwtCredential, KeyCredential, Masked, PasswordHash,
};

/// Consumers while what belongs to them is gathered.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    list: Vec<Consumer>,
    /// Place in the list by row.
    of_row: HashMap<usize, usize>,
}

impl Consumers {
    /// Adds the Consumer of a row, without credentials.
    pub(super) fn add(
        &mut self,
        index: usize,
        id: Uuid,
        row: &Row<'_>,
        consumer_groups: Vec<String>,
        checker: &mut Checker<'_>,
    ) {
        let Some(consumer) = read::<written::Consumer>(row.values.clone(), &row.path, checker) else {
            return;
        };
        self.of_row.insert(index, self.list.len());
        self.list.push(Consumer {
            id,
            username: consumer.username,
            custom_id: consumer.custom_id,
            acl_groups: Vec::new(),
            consumer_groups,
            keys: Vec::new(),
            passwords: Vec::new(),
            tokens: Vec::new(),
        });
    }

    /// Adds what a row holds to the Consumer of row `consumer`.
    pub(super) fn add_to(&mut self, consumer: usize, id: Uuid, row: &Row<'_>, checker: &mut Checker<'_>) {
        let found = self
            .of_row
            .get(&consumer)
            .and_then(|place| self.list.get_mut(*place));
        let Some(consumer) = found else {
            return;
        };
        let values = row.values.clone();
        match row.entity.name {
            "keyauth_credentials" => {
                let key = read::<written::KeyCredential>(values, &row.path, checker);
                consumer.keys.extend(key.map(|key| KeyCredential {
                    id,
                    expires_at: expires_at(&key),
                    key: Masked::new(key.key),
                }));
            }
            "basicauth_credentials" => {
                let credential = read::<written::BasicCredential>(values, &row.path, checker);
                let id_text = consumer.id.to_string();
                consumer
                    .passwords
                    .extend(credential.map(|credential| BasicCredential {
                        id,
                        password: password_hash(&credential.password, &id_text, row.is_transformed),
                        username: credential.username,
                    }));
            }
            "jwt_secrets" => {
                let credential = read::<written::JwtCredential>(values, &row.path, checker);
                consumer.tokens.extend(credential.map(|credential| JwtCredential {
                    id,
                    key: credential.key,
                    algorithm: algorithm(&credential.algorithm),
                    secret: Masked::new(credential.secret),
                    public_key: credential.rsa_public_key,
                }));
            }
            "acls" => {
                let acl = read::<written::Acl>(values, &row.path, checker);
                consumer.acl_groups.extend(acl.map(|acl| acl.group));
            }
            _ => {}
        }
    }

    /// Returns the Consumers in the order of the source.
    pub(super) fn into_list(self) -> Vec<Consumer> {
        self.list
    }
}

fn expires_at(key: &written::KeyCredential) -> Option<Duration> {
    let created_at = Duration::try_from_secs_f64(key.created_at).ok()?;
    (key.ttl > 0).then(|| created_at + Duration::from_secs(key.ttl))
}

fn password_hash(password: &str, consumer: &str, is_transformed: bool) -> PasswordHash {
    let hashed = if is_transformed {
        None
    } else {
        parse_hash(password)
    };
    PasswordHash(hashed.unwrap_or_else(|| {
        Sha1::new()
            .chain_update(password)
            .chain_update(consumer)
            .finalize()
            .into()
    }))
}

fn algorithm(name: &str) -> JwtAlgorithm {
    match name {
        "HS384" => JwtAlgorithm::Hs384,
        "HS512" => JwtAlgorithm::Hs512,
        "RS256" => JwtAlgorithm::Rs256,
        "RS384" => JwtAlgorithm::Rs384,
        "RS512" => JwtAlgorithm::Rs512,
        "ES256" => JwtAlgorithm::Es256,
        "ES384" => JwtAlgorithm::Es384,
        "PS256" => JwtAlgorithm::Ps256,
        "PS384" => JwtAlgorithm::Ps384,
        "PS512" => JwtAlgorithm::Ps512,
        "EdDSA" => JwtAlgorithm::EdDsa,
        _ => JwtAlgorithm::Hs256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::build::tests::load;

    const ALICE: &str = "  id: 5d1f1a3e-0000-4000-8000-000000000009\n";

    #[test]
    fn credentials_are_found_nested_and_apart() {
        let consumers = load(
            "keyauth_credentials: [{consumer: alice, key: k2, ttl: 10, created_at: 1.5}]\nacls: [{consumer: {username: alice}, group: b}]\n\
             consumers:\n- username: alice\n  keyauth_credentials: [{key: k1}]\n  acls: [{group: a}]\n  groups: [{name: gold}]\n  consumer_groups: [gold, silver]\n\
             - custom_id: '7'\n  jwt_secrets: [{key: i, secret: s, algorithm: HS384}]\n\
             consumer_groups: [{name: gold}, {name: silver}]\n",
        )
        .consumers;
        let alice = &consumers[0];
        let keys: Vec<_> = alice
            .keys
            .iter()
            .map(|key| (key.key.expose(), key.expires_at))
            .collect();
        assert_eq!(keys, [("k2", Some(Duration::from_millis(11_500))), ("k1", None)]);
        assert_eq!(alice.acl_groups, ["b", "a"]);
        assert_eq!(alice.consumer_groups, ["gold", "silver"]);
        assert_eq!(consumers[1].label(), "7");
        assert_eq!(consumers[1].tokens[0].algorithm, JwtAlgorithm::Hs384);
        assert_eq!(consumers[1].tokens[0].secret.expose(), "s");
    }

    #[test]
    fn a_password_is_kongs_hash_whether_hashed_here_or_there() {
        // printf %s secret5d1f1a3e-0000-4000-8000-000000000009 | sha1sum
        let hash = "1d82f82bda38b33bdf8c2f1aa192cf973e989455";
        let plain = format!(
            "consumers:\n- username: alice\n{ALICE}  basicauth_credentials: [{{username: a, password: secret}}]\n"
        );
        let hashed = format!(
            "_transform: false\n{}",
            plain.replace("secret}", &format!("'{hash}'}}"))
        );
        let expected = PasswordHash(parse_hash(hash).unwrap());
        for text in [plain, hashed] {
            assert!(
                load(&text).consumers[0].passwords[0].password == expected,
                "{text}"
            );
        }
    }

    #[test]
    fn ids_are_made_from_what_is_unique() {
        let ids = |tags: &str| {
            let consumers = load(&format!(
                "consumers:\n- {{custom_id: '7', tags: [{tags}], keyauth_credentials: [{{key: k, tags: [{tags}]}}]}}\n- {{username: '7'}}"
            ))
            .consumers;
            (consumers[0].id, consumers[0].keys[0].id, consumers[1].id)
        };
        assert_eq!(ids("a"), ids("b"));
        assert_ne!(ids("a").0, ids("a").2);
    }
}
