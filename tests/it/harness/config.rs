//! Configurations that many tests begin with.

use std::fmt::Write;

use super::Origin;

/// Lets every loopback peer ask for the debug headers.
pub const DEBUG: &str = "server:\n  trusted_ips: [127.0.0.0/8]\n";

/// One Service `shop` for every path, on an Upstream of these Targets.
pub fn shop(targets: &[(&Origin, u32)]) -> String {
    format!(
        r#"services:
- {{name: shop, host: shop, routes: [{{name: all, paths: ["/"], strip_path: false}}]}}
upstreams:
- name: shop
{}"#,
        self::targets(targets)
    )
}

/// The `targets` of an Upstream that stands in a block.
pub fn targets(targets: &[(&Origin, u32)]) -> String {
    let mut text = "  targets:\n".to_owned();
    for (origin, weight) in targets {
        writeln!(text, "  - {{target: \"{}\", weight: {weight}}}", origin.address()).unwrap();
    }
    text
}

/// One Service `shop` on the Upstream `stable`, with the plugin `canary` to the Upstream `canary`; `fields`
/// are those of the plugin's configuration, in flow style.
pub fn canary(stable: &Origin, canary: &Origin, fields: &str) -> String {
    format!(
        r#"services:
- name: shop
  host: stable
  routes: [{{name: all, paths: ["/"]}}]
  plugins: [{{name: canary, config: {{upstream_host: canary, {fields}}}}}]
upstreams:
- name: stable
{}- name: canary
{}"#,
        targets(&[(stable, 100)]),
        targets(&[(canary, 100)])
    )
}
