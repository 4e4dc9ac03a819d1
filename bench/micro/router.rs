//! Route match and snapshot build at 10, 1,000 and 10,000 Routes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use serin::config::{Overrides, load_text};
use serin::health::Observed;
use serin::model::Configuration;
use serin::snapshot::{Builder, Router, Subject};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// A Service, an Upstream of two Targets and a Route for each number; Routes by host, by path, or by
/// regular expression in turn.
fn configuration(size: usize, condition: impl Fn(usize) -> String) -> Configuration {
    let mut text = String::from("_format_version: \"3.0\"\nservices:\n");
    for number in 0..size {
        text += &format!(
            "- {{name: s{number}, host: u{number}, routes: [{{name: r{number}, {}}}]}}\n",
            condition(number)
        );
    }
    text += "upstreams:\n";
    for number in 0..size {
        let (high, low) = (number / 250, number % 250 + 1);
        text += &format!(
            "- {{name: u{number}, targets: [{{target: '10.1.{high}.{low}:80', weight: 90}}, {{target: '10.2.{high}.{low}:80', weight: 10}}]}}\n"
        );
    }
    load_text("bench.yaml", &text, &Overrides::default())
        .expect("the text is well formed")
        .configuration
}

fn by_host(number: usize) -> String {
    format!("hosts: [shop{number}.example]")
}

fn by_path(number: usize) -> String {
    format!("paths: [/shop{number:05}/cart]")
}

fn by_regex(number: usize) -> String {
    format!("paths: ['~/shop{number:05}/v\\d+/cart']")
}

fn route_match(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_match");
    let headers = HeaderMap::new();
    for size in SIZES {
        let last = size - 1;
        let (host, path, regex) = (
            format!("shop{last}.example"),
            format!("/shop{last:05}/cart/1"),
            format!("/shop{last:05}/v2/cart"),
        );
        let subject = |host: &'static str, path: &'static str| Subject {
            method: &Method::GET,
            host,
            port: 80,
            path,
            headers: &headers,
            sni: None,
        };
        let cases = [
            ("host", configuration(size, by_host), subject(host.leak(), "/")),
            (
                "path",
                configuration(size, by_path),
                subject("any.example", path.leak()),
            ),
            (
                "regex",
                configuration(size, by_regex),
                subject("any.example", regex.leak()),
            ),
        ];
        for (name, configuration, subject) in cases {
            let router = Router::build(configuration.routes.iter().map(|route| &**route));
            assert_eq!(router.find(&subject).map(|matched| matched.route), Some(last));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| black_box(router.find(black_box(&subject))));
            });
        }
    }
    group.finish();
}

fn snapshot_build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot_build");
    group.sample_size(10);
    for size in SIZES {
        let configuration = configuration(size, by_host);
        let observed = Observed::default();
        let build = |previous| {
            let builder = Builder {
                previous,
                secret: None,
                access_log: None,
                observed: &observed,
                now: serin::clock::now(),
            };
            builder.build(configuration.clone(), 1)
        };
        group.bench_function(BenchmarkId::new("first", size), |bencher| {
            bencher.iter(|| build(None))
        });
        let first = build(None);
        group.bench_function(BenchmarkId::new("unchanged", size), |bencher| {
            bencher.iter(|| build(Some(&first)));
        });
    }
    group.finish();
}

criterion_group!(benches, route_match, snapshot_build);
criterion_main!(benches);
