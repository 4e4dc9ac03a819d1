//! Consumers with their credentials and groups.

use std::sync::Arc;
use std::time::Duration;

use super::{Findings, read};
use crate::config::document as written;
use crate::config::review::parse_hash;
use crate::entity::Entity;
use crate::model::{
    BasicCredential, Consumer, JwtAlgorithm, JwtCredential, KeyCredential, Masked, PasswordHash,
};

/// Builds a Consumer; its credentials and the groups that it is in follow it.
pub(super) fn consumer(from: &[Arc<Entity>], findings: &mut Findings) -> Option<Consumer> {
    let (entity, parts) = from.split_first()?;
    let names = read::<written::Consumer>(&entity.values, entity, findings)?;
    let mut consumer = Consumer {
        id: entity.id,
        username: names.username,
        custom_id: names.custom_id,
        acl_groups: Vec::new(),
        consumer_groups: Vec::new(),
        keys: Vec::new(),
        passwords: Vec::new(),
        tokens: Vec::new(),
    };
    for part in parts {
        add(&mut consumer, part, findings)?;
    }
    Some(consumer)
}

fn add(consumer: &mut Consumer, part: &Entity, findings: &mut Findings) -> Option<()> {
    let (id, values) = (part.id, &part.values);
    match part.kind.name() {
        "keyauth_credentials" => {
            let key = read::<written::KeyCredential>(values, part, findings)?;
            consumer.keys.push(KeyCredential {
                id,
                expires_at: expires_at(&key, part.created_at),
                key: Masked::new(key.key),
            });
        }
        "basicauth_credentials" => {
            let credential = read::<written::BasicCredential>(values, part, findings)?;
            consumer.passwords.push(BasicCredential {
                id,
                password: PasswordHash(parse_hash(&credential.password)?),
                username: credential.username,
            });
        }
        "jwt_secrets" => {
            let credential = read::<written::JwtCredential>(values, part, findings)?;
            consumer.tokens.push(JwtCredential {
                id,
                key: credential.key,
                algorithm: algorithm(&credential.algorithm),
                secret: Masked::new(credential.secret),
                public_key: credential.rsa_public_key,
            });
        }
        "acls" => {
            let acl = read::<written::Acl>(values, part, findings)?;
            consumer.acl_groups.push(acl.group);
        }
        "consumer_groups" => consumer
            .consumer_groups
            .extend(part.text("name").map(str::to_owned)),
        _ => {}
    }
    Some(())
}

fn expires_at(key: &written::KeyCredential, created_at: Option<f64>) -> Option<Duration> {
    let created_at = Duration::try_from_secs_f64(created_at?).ok()?;
    (key.ttl > 0).then(|| created_at + Duration::from_secs(key.ttl))
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
