//! Stable or canary, and then a Target of it: what a request pays for a release.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serin::balance::BucketKey;
use serin::config::{Overrides, load_text};
use serin::health::Observed;
use serin::model::Variant;
use serin::proxy::release::{Place, decide};
use serin::snapshot::{Builder, Snapshot, Split};

/// A share of 1,000 Consumers, in two groups each, on two Upstreams of ten Targets.
fn snapshot() -> Snapshot {
    let targets: String = (1..=10)
        .map(|number| format!("{{target: '10.0.0.{number}:80'}},"))
        .collect();
    let consumers: String = (0..1000)
        .map(|number| {
            format!(
                "- {{username: c{number}, acls: [{{group: g{}}}, {{group: all}}]}}\n",
                number % 50
            )
        })
        .collect();
    let text = format!(
        r#"_format_version: "3.0"
services:
- name: shop
  host: v1
  routes: [{{paths: [/]}}]
  plugins:
  - name: canary
    config: {{upstream_host: v2, percentage: 50, groups: [testers, staff], groups_then_percentage: true}}
upstreams:
- {{name: v1, targets: [{targets}]}}
- {{name: v2, targets: [{targets}]}}
consumers:
{consumers}"#
    );
    let loaded = load_text("bench.yaml", &text, &Overrides::default()).expect("the text is valid");
    let builder = Builder {
        previous: None,
        secret: None,
        access_log: None,
        observed: &Observed::default(),
        now: serin::clock::now(),
    };
    builder.build(loaded.configuration, 1)
}

fn release(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let route = &snapshot.routes[0];
    let service = route.service.as_ref().expect("the Route has a Service");
    let release = route.release.as_ref().expect("the Route has a release");
    let consumers: Vec<_> = (0..1000)
        .map(|number| {
            snapshot
                .consumers
                .find(&format!("c{number}"))
                .expect("the Consumer exists")
        })
        .collect();
    let decided = |turn: usize| {
        let consumer = snapshot.consumers.get(consumers[turn % consumers.len()]);
        let place = |split: &Split| Place::Bucket {
            bucket: split.buckets.bucket(BucketKey::Consumer(consumer.id_text())),
            identifier: 0,
        };
        decide(&release.rule, None, Some(consumer), place).variant
    };
    let mut group = criterion.benchmark_group("release");
    let mut turn = 0;
    group.bench_function("decision", |bencher| {
        bencher.iter(|| {
            turn += 1;
            black_box(decided(turn))
        });
    });
    group.bench_function("decision and selection", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let destination = match decided(turn) {
                Variant::Stable => &service.stable,
                Variant::Canary => &release.canary,
            };
            let upstream = &destination.upstream;
            let endpoints = upstream.endpoints();
            let weighted = endpoints.weighted.as_ref().expect("every Target is eligible");
            black_box(weighted.pick(upstream.state().next_position()))
        });
    });
    group.finish();
}

criterion_group!(benches, release);
criterion_main!(benches);
