//! What choosing a target costs, and what building the selectors costs.

use std::hint::black_box;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serin::balance::{
    Candidate, HashKey, Input, PeakEwma, Ring, SessionKey, Sessions, Weighted, latency, least_connections,
};

/// Kong's default of `slots`.
const SLOTS: u32 = 10_000;

/// Targets whose weights, 100 to 106, share no factor, so that cycles are as long as they look.
fn candidates(count: u16) -> Vec<Candidate> {
    (0..count)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            Candidate {
                index: number.into(),
                address: SocketAddr::from(([10, 0, high, low], 80)),
                weight: NonZeroU32::MIN.saturating_add(99 + u32::from(number % 7)),
            }
        })
        .collect()
}

fn weighted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("weighted");
    for count in [2, 10, 1_000] {
        let candidates = candidates(count);
        let weighted = Weighted::build(&candidates).expect("there are candidates");
        let mut next = 0;
        group.bench_function(BenchmarkId::new("pick", count), |bencher| {
            bencher.iter(|| {
                next += 1;
                weighted.pick(black_box(next))
            });
        });
        group.bench_function(BenchmarkId::new("pick_excluding", count), |bencher| {
            bencher.iter(|| {
                next += 1;
                weighted.pick_excluding(black_box(next), |index| index == 0)
            });
        });
        group.bench_function(BenchmarkId::new("build", count), |bencher| {
            bencher.iter(|| Weighted::build(black_box(&candidates)));
        });
    }
    group.finish();
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    let keys: Vec<_> = (0..1_024_u32)
        .map(|number| HashKey::published().ring_key(Input::Header(&number.to_le_bytes())))
        .collect();
    for count in [2, 10, 100] {
        let candidates = candidates(count);
        let ring = Ring::build(&candidates, SLOTS).expect("well below the most points");
        let mut next = 0;
        let mut key = || {
            next = (next + 1) % keys.len();
            &keys[next]
        };
        group.bench_function(BenchmarkId::new("pick", count), |bencher| {
            bencher.iter(|| ring.pick(black_box(key()), |_| true));
        });
        group.bench_function(BenchmarkId::new("pick_past_one", count), |bencher| {
            bencher.iter(|| ring.pick(black_box(key()), |index| index != 0));
        });
        group.bench_function(BenchmarkId::new("build", count), |bencher| {
            bencher.iter(|| Ring::build(black_box(&candidates), SLOTS));
        });
    }
    group.finish();
}

fn hash(criterion: &mut Criterion) {
    let key = HashKey::from_secret(b"an example of a secret: 32 bytes");
    criterion.bench_function("ring_key", |bencher| {
        bencher.iter(|| key.ring_key(black_box(Input::Header(b"a session of some 32 characters."))));
    });
}

/// As requests find a pool under load: every target has some in flight and answers in 5 to 11 ms.
fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("live");
    for count in [2, 10, 100, 1_000] {
        let candidates = candidates(count);
        let loads: Vec<_> = (0..count)
            .map(|number| AtomicU32::new(u32::from(number % 5)))
            .collect();
        let in_flight = |index: usize| loads[index].load(Ordering::Relaxed);
        let averages: Vec<_> = (0..count)
            .map(|number| {
                let average = PeakEwma::default();
                average.observe(
                    Duration::from_millis(5 + u64::from(number % 7)),
                    Duration::from_secs(1),
                );
                average
            })
            .collect();
        let now = Duration::from_secs(2);
        let mut next = 0;
        group.bench_function(BenchmarkId::new("least_connections", count), |bencher| {
            bencher.iter(|| {
                next += 1;
                least_connections::pick(&candidates, black_box(next), |_| false, in_flight)
            });
        });
        group.bench_function(BenchmarkId::new("latency", count), |bencher| {
            bencher.iter(|| {
                next += 1;
                let average = |index: usize| averages[index].average(black_box(now));
                latency::pick(&candidates, next, |_| false, in_flight, average)
            });
        });
        let key = SessionKey::from_secret(b"an example of a secret: 32 bytes");
        let addresses = candidates.iter().map(|candidate| candidate.address);
        let sessions = Sessions::build(&key, "shop", addresses);
        let cookie = sessions.token(0).to_string();
        group.bench_function(BenchmarkId::new("session", count), |bencher| {
            bencher.iter(|| sessions.find(black_box(cookie.as_bytes())));
        });
    }
    let average = PeakEwma::default();
    let mut now = Duration::ZERO;
    group.bench_function("observe", |bencher| {
        bencher.iter(|| {
            now += Duration::from_micros(700);
            average.observe(black_box(Duration::from_millis(5)), now);
        });
    });
    group.finish();
}

criterion_group!(benches, weighted, ring, hash, live);
criterion_main!(benches);
