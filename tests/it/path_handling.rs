//! What the origin is asked for under every combination of `path_handling`, `strip_path`, the Service's
//! path and the Route's: Kong's table of examples, filled up to a whole grid by Kong's rule.

use std::fmt::Write;

use crate::harness::{Gateway, Origin, Request};

/// Service's path, Route's path (empty for a Route that goes by its host), request; then what goes
/// upstream: `v0` unstripped and stripped, `v1` unstripped and stripped.
type Row = (&'static str, &'static str, &'static str, [&'static str; 4]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("/", "", "/", ["/", "/", "/", "/"]),
    ("/", "", "/shop", ["/shop", "/shop", "/shop", "/shop"]),
    ("/", "", "/shop/", ["/shop/", "/shop/", "/shop/", "/shop/"]),
    ("/api", "", "/", ["/api", "/api", "/api", "/api"]),
    ("/api", "", "/shop", ["/api/shop", "/api/shop", "/apishop", "/apishop"]),
    ("/api", "", "/shop/", ["/api/shop/", "/api/shop/", "/apishop/", "/apishop/"]),
    ("/api/", "", "/", ["/api/", "/api/", "/api/", "/api/"]),
    ("/api/", "", "/shop", ["/api/shop", "/api/shop", "/api/shop", "/api/shop"]),
    ("/api/", "", "/shop/", ["/api/shop/", "/api/shop/", "/api/shop/", "/api/shop/"]),
    ("/", "/", "/", ["/", "/", "/", "/"]),
    ("/", "/", "/shop", ["/shop", "/shop", "/shop", "/shop"]),
    ("/", "/", "/shop/", ["/shop/", "/shop/", "/shop/", "/shop/"]),
    ("/", "/", "/shops", ["/shops", "/shops", "/shops", "/shops"]),
    ("/", "/", "/shop/x", ["/shop/x", "/shop/x", "/shop/x", "/shop/x"]),
    ("/api", "/", "/", ["/api", "/api", "/api", "/api"]),
    ("/api", "/", "/shop", ["/api/shop", "/api/shop", "/apishop", "/apishop"]),
    ("/api", "/", "/shop/", ["/api/shop/", "/api/shop/", "/apishop/", "/apishop/"]),
    ("/api", "/", "/shops", ["/api/shops", "/api/shops", "/apishops", "/apishops"]),
    ("/api", "/", "/shop/x", ["/api/shop/x", "/api/shop/x", "/apishop/x", "/apishop/x"]),
    ("/api/", "/", "/", ["/api/", "/api/", "/api/", "/api/"]),
    ("/api/", "/", "/shop", ["/api/shop", "/api/shop", "/api/shop", "/api/shop"]),
    ("/api/", "/", "/shop/", ["/api/shop/", "/api/shop/", "/api/shop/", "/api/shop/"]),
    ("/api/", "/", "/shops", ["/api/shops", "/api/shops", "/api/shops", "/api/shops"]),
    ("/api/", "/", "/shop/x", ["/api/shop/x", "/api/shop/x", "/api/shop/x", "/api/shop/x"]),
    ("/", "/shop", "/shop", ["/shop", "/", "/shop", "/"]),
    ("/", "/shop", "/shop/", ["/shop/", "/", "/shop/", "/"]),
    ("/", "/shop", "/shops", ["/shops", "/s", "/shops", "/s"]),
    ("/", "/shop", "/shop/x", ["/shop/x", "/x", "/shop/x", "/x"]),
    ("/api", "/shop", "/shop", ["/api/shop", "/api", "/apishop", "/api"]),
    ("/api", "/shop", "/shop/", ["/api/shop/", "/api/", "/apishop/", "/api/"]),
    ("/api", "/shop", "/shops", ["/api/shops", "/api/s", "/apishops", "/apis"]),
    ("/api", "/shop", "/shop/x", ["/api/shop/x", "/api/x", "/apishop/x", "/api/x"]),
    ("/api/", "/shop", "/shop", ["/api/shop", "/api", "/api/shop", "/api/"]),
    ("/api/", "/shop", "/shop/", ["/api/shop/", "/api/", "/api/shop/", "/api/"]),
    ("/api/", "/shop", "/shops", ["/api/shops", "/api/s", "/api/shops", "/api/s"]),
    ("/api/", "/shop", "/shop/x", ["/api/shop/x", "/api/x", "/api/shop/x", "/api/x"]),
    ("/", "/shop/", "/shop/", ["/shop/", "/", "/shop/", "/"]),
    ("/", "/shop/", "/shop/x", ["/shop/x", "/x", "/shop/x", "/x"]),
    ("/api", "/shop/", "/shop/", ["/api/shop/", "/api/", "/apishop/", "/api"]),
    ("/api", "/shop/", "/shop/x", ["/api/shop/x", "/api/x", "/apishop/x", "/apix"]),
    ("/api/", "/shop/", "/shop/", ["/api/shop/", "/api/", "/api/shop/", "/api/"]),
    ("/api/", "/shop/", "/shop/x", ["/api/shop/x", "/api/x", "/api/shop/x", "/api/x"]),
];

/// Handling and `strip_path` of each column.
const COLUMNS: [(&str, bool); 4] = [("v0", false), ("v0", true), ("v1", false), ("v1", true)];

#[test]
fn every_combination_of_paths_is_joined_as_kong_does() {
    let origin = Origin::start("a");
    let (address, mut config) = (origin.address(), "services:\n".to_owned());
    let mut pairs: Vec<_> = TABLE.iter().map(|(base, route, ..)| (base, route)).collect();
    pairs.dedup();
    // A host of its own for each Service and Route, so that paths alone decide nothing.
    let host = |pair, column| {
        let number = pairs.iter().position(|one| *one == pair).unwrap();
        format!("s{number}-{column}.example")
    };
    for (base, route) in pairs.iter().copied() {
        for (column, (handling, strip)) in COLUMNS.into_iter().enumerate() {
            let paths = match *route {
                "" => String::new(),
                route => format!("paths: ['{route}'], "),
            };
            writeln!(
                config,
                "- {{host: {}, port: {}, path: '{base}', routes: [{{hosts: [{}], {paths}strip_path: {strip}, \
                 path_handling: {handling}}}]}}",
                address.ip(),
                address.port(),
                host((base, route), column)
            )
            .unwrap();
        }
    }
    let gateway = Gateway::start(&config);
    let mut client = gateway.client();
    let mut wrong = Vec::new();
    for (base, route, path, expected) in TABLE {
        for (column, (handling, strip)) in COLUMNS.into_iter().enumerate() {
            origin.forget();
            let request = Request::get(path).host(&host((base, route), column));
            assert_eq!(client.exchange(&request).status, 200);
            let seen = origin.only();
            if seen.target != expected[column] {
                wrong.push(format!(
                    "{base} + {route:?}, {handling}, strip {strip}: {path} became {} instead of {}",
                    seen.target, expected[column]
                ));
            }
            // The path as it came is told, and the prefix where something but the root was taken away.
            assert_eq!(seen.header("X-Forwarded-Path"), Some(*path));
            let prefix = (strip && !matches!(*route, "" | "/")).then_some(*route);
            assert_eq!(seen.header("X-Forwarded-Prefix"), prefix, "{route} {path}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
