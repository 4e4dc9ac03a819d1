//! Finding a Consumer by its key among 1, 1,000 and 1,000,000, and verifying a token.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serin::model::{Consumer, JwtAlgorithm, JwtCredential, KeyCredential, Masked};
use serin::snapshot::Consumers;
use uuid::Uuid;

const SIZES: [usize; 3] = [1, 1_000, 1_000_000];
const NOW: Duration = Duration::from_secs(1_800_000_000);
/// Keys asked for in turn: more than fit a cache where there are many.
const ASKED: usize = 65_536;

fn key(number: usize) -> String {
    // As long as the keys that Kong generates.
    format!("{number:032}")
}

fn people(count: usize) -> Vec<Consumer> {
    (0..count)
        .map(|number| Consumer {
            id: Uuid::from_u128(number as u128),
            username: Some(format!("consumer-{number}")),
            custom_id: None,
            acl_groups: vec![format!("group-{}", number % 10)],
            consumer_groups: Vec::new(),
            keys: vec![KeyCredential {
                id: Uuid::from_u128(number as u128),
                key: Masked::new(key(number)),
                expires_at: None,
            }],
            passwords: Vec::new(),
            tokens: Vec::new(),
        })
        .collect()
}

fn find_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find_key");
    for size in SIZES {
        let consumers = Consumers::build(&people(size));
        // A stride that is prime to the sizes visits them in no order that a cache could guess.
        let known: Vec<String> = (0..ASKED)
            .map(|number| key(number.wrapping_mul(999_983) % size))
            .collect();
        let unknown: Vec<String> = (0..ASKED).map(|number| key(size + number)).collect();
        for (name, keys, is_found) in [("known", known, true), ("unknown", unknown, false)] {
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    turn = (turn + 1) % ASKED;
                    let found = consumers.find_key(black_box(keys[turn].as_bytes()), NOW);
                    assert_eq!(found.is_some(), is_found);
                });
            });
        }
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consumers_build");
    group.sample_size(10);
    for size in SIZES {
        let people = people(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Consumers::build(black_box(&people)));
        });
    }
    group.finish();
}

fn verify_token(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify_token");
    let pem = |name: &str| {
        std::fs::read(format!("{}/tests/data/keys/{name}", env!("CARGO_MANIFEST_DIR")))
            .expect("the keys are there")
    };
    let message = "x".repeat(200);
    for (name, algorithm, signing, public) in [
        (
            "HS256",
            JwtAlgorithm::Hs256,
            jsonwebtoken::EncodingKey::from_secret(b"secret"),
            None,
        ),
        (
            "RS256",
            JwtAlgorithm::Rs256,
            jsonwebtoken::EncodingKey::from_rsa_pem(&pem("rsa.pem")).expect("an RSA key"),
            Some("rsa.pub.pem"),
        ),
        (
            "ES256",
            JwtAlgorithm::Es256,
            jsonwebtoken::EncodingKey::from_ec_pem(&pem("es256.pem")).expect("an EC key"),
            Some("es256.pub.pem"),
        ),
        (
            "EdDSA",
            JwtAlgorithm::EdDsa,
            jsonwebtoken::EncodingKey::from_ed_pem(&pem("ed25519.pem")).expect("an Ed25519 key"),
            Some("ed25519.pub.pem"),
        ),
    ] {
        let mut person = people(1).remove(0);
        person.tokens = vec![JwtCredential {
            id: Uuid::nil(),
            key: name.to_owned(),
            algorithm,
            secret: Masked::new("secret"),
            public_key: public.map(|file| String::from_utf8(pem(file)).expect("PEM is text")),
        }];
        let consumers = Consumers::build(&[person]);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &signing, name.parse().expect("a name"))
                .expect("it signs");
        let issuer = consumers.find_issuer(name).expect("it is there").credential;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                issuer
                    .verify(black_box(message.as_bytes()), black_box(&signature), false)
                    .expect("it verifies");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, find_key, build, verify_token);
criterion_main!(benches);
