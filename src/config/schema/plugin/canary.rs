//! `config` of the plugin `canary`: Kong's fields, and ours for visitors without an account.

use serde_json::{Value, json};

use super::has_items;
use crate::config::check::{Scope, default_of};
use crate::config::schema::{Field, Kind, Record, format};

/// Longest ramp in seconds: ten years of 365 days.
const LONGEST: i64 = 315_360_000;
const HEADER: Kind = Kind::Text(&format::HEADER);

/// `canary`.
pub(super) static CANARY: Record = Record {
    fields: FIELDS,
    check,
};

static FIELDS: &[Field] = &[
    Field::new(
        "start",
        Kind::TIMESTAMP,
        "When the ramp starts, in seconds since 1970; left out, the plugin's created_at. Not used with percentage, nor with hash allow or deny.",
    )
    .hint("seconds since 1970: the output of date +%s"),
    Field::new(
        "duration",
        Kind::Above { bound: 0, max: LONGEST, is_whole: false },
        "Length of the ramp from 0 to 100 percent, in seconds.",
    )
    .or(|| json!(3600))
    .hint("a number of seconds, without a unit"),
    Field::new(
        "percentage",
        Kind::Number { min: 0, max: 100 },
        "Fixed share in percent, in steps of 0.01; set, there is no ramp.",
    ),
    Field::new(
        "steps",
        Kind::Above { bound: 1, max: 1_000_000, is_whole: true },
        "Number of equal steps of the ramp.",
    )
    .or(|| json!(1000)),
    Field::new(
        "hash",
        Kind::Choice {
            known: &["consumer", "ip", "none", "allow", "deny", "header", "cookie"],
            kong_only: &[],
        },
        "What decides: the Consumer, then (where the request has none) the client's address; the address; whose turn it is (none); the Consumer's groups (allow: those of the groups get the canary, deny: all others); a header, then as consumer; a signed cookie, then as consumer.",
    )
    .or(|| json!("consumer"))
    .renamed(&[("whitelist", "allow"), ("blacklist", "deny")]),
    Field::new("hash_header", HEADER, "Header, when hash is header."),
    Field::new(
        "groups",
        Kind::List {
            of: &Kind::Text(&format::NON_EMPTY),
            min: 0,
            is_set: false,
        },
        "ACL groups or consumer groups, with hash allow or deny and with groups_then_percentage.",
    ),
    Field::new(
        "upstream_host",
        Kind::Text(&format::SERVICE_HOST),
        "Where the canary is: name of an Upstream, or else a host name or address that is dialled directly; left out, the Service's host.",
    ),
    Field::new(
        "upstream_port",
        Kind::PORT,
        "Port of the canary, used when its host is not the name of an Upstream; left out, the Service's.",
    ),
    Field::new(
        "upstream_uri",
        Kind::Text(&format::CANARY_PATH),
        "Path put before the request's own in place of the Service's path.",
    ),
    Field::new(
        "upstream_fallback",
        Kind::Boolean,
        "Sends requests to stable while no Target of the canary is healthy.",
    )
    .or(|| json!(false)),
    Field::new(
        "canary_by_header_name",
        HEADER,
        "Header by which a client chooses: always or never; anything else is ignored.",
    ),
    Field::new(
        "cookie",
        Kind::Text(&format::COOKIE),
        "Name of the signed cookie by which a visitor keeps a side; needed with hash cookie, and with hash consumer or header asked for before the address.",
    ),
    Field::new(
        "salt",
        Kind::Text(&format::NON_EMPTY),
        "Goes into the hash: two canaries with one salt have the same guinea pigs. Left out, the plugin's id and where the canary is.",
    ),
    Field::new(
        "groups_then_percentage",
        Kind::Boolean,
        "Consumers of the groups get the canary whatever the share, all others by the share.",
    )
    .or(|| json!(false)),
];

/// Kong's rules, and what belongs to which way of deciding.
fn check(scope: &mut Scope<'_, '_>) {
    check_destination(scope);
    check_percentage(scope);
    let Some(hash) = scope.text("hash").map(str::to_owned) else {
        return;
    };
    for (input, field, example) in [
        ("header", "hash_header", "x-user"),
        ("cookie", "cookie", "visitor"),
    ] {
        if hash == input {
            require(scope, field, "hash", example);
        }
    }
    let is_group = matches!(&*hash, "allow" | "deny");
    check_groups(scope, &hash, is_group);
    let by_percentage = scope.value("percentage").is_some();
    let by_what = if is_group {
        format!("with hash: {hash} the groups alone decide")
    } else {
        "percentage is set, so there is no ramp".to_owned()
    };
    for field in ["start", "duration", "steps"] {
        if is_group || by_percentage {
            ignore(scope, field, &by_what);
        }
    }
    if is_group {
        ignore(scope, "percentage", &by_what);
    }
    if hash != "header" {
        ignore(scope, "hash_header", "it is used with hash: header only");
    }
    if is_group || matches!(&*hash, "ip" | "none") {
        ignore(
            scope,
            "cookie",
            "it is used with hash: cookie, consumer or header only",
        );
    }
    if is_group || hash == "none" {
        ignore(scope, "salt", &format!("with hash: {hash} nothing is hashed"));
    }
}

fn check_destination(scope: &mut Scope<'_, '_>) {
    let fields = ["upstream_uri", "upstream_host", "upstream_port"];
    if fields
        .iter()
        .all(|field| scope.is_valid(field) && scope.value(field).is_none())
    {
        let message = "at least one of these fields must be non-empty: 'config.upstream_uri', 'config.upstream_host', 'config.upstream_port'";
        let hint = "where the canary is, such as upstream_host: shop-v2";
        scope.error_here(message, Some(hint.to_owned()));
    }
    if scope.value("upstream_fallback") == Some(&Value::Bool(true)) {
        require(scope, "upstream_host", "upstream_fallback", "shop-v2");
    }
}

/// A share is a whole number of basis points; rounding one silently is no service to anybody.
fn check_percentage(scope: &mut Scope<'_, '_>) {
    let Some(percentage) = scope.value("percentage").and_then(Value::as_f64) else {
        return;
    };
    let hundredths = percentage * 100.0;
    // The double nearest to a number of hundredths, which is what its decimal is read as.
    if hundredths.round() / 100.0 != percentage {
        let below = hundredths.floor() / 100.0;
        let above = (hundredths.floor() + 1.0) / 100.0;
        let hint = format!("the nearest are {below} and {above}");
        scope.error("percentage", "value should be a multiple of 0.01", Some(hint));
    }
}

fn check_groups(scope: &mut Scope<'_, '_>, hash: &str, is_group: bool) {
    if !scope.is_valid("groups") {
        return;
    }
    let has_groups = has_items(scope.value("groups"));
    let is_combined = scope.value("groups_then_percentage") == Some(&Value::Bool(true));
    if is_combined && is_group {
        let place = scope.place_of("hash");
        let message = format!("groups come first already with hash: {hash}");
        let hint = format!("remove it, or choose another hash ({place}), such as consumer");
        scope.error("groups_then_percentage", message, Some(hint));
    } else if is_combined && !has_groups {
        let message = "required field missing: failed conditional validation given value of field 'config.groups_then_percentage'";
        let hint = "add 'groups', such as groups: [testers]".to_owned();
        scope.error_missing("groups", "groups_then_percentage", message, hint);
    } else if is_group && !has_groups {
        let (message, hint) = match hash {
            "allow" => (
                "no groups are listed: nobody gets the canary",
                "list some, such as groups: [testers]",
            ),
            _ => (
                "no groups are listed: everybody gets the canary",
                "list some, such as groups: [partners]",
            ),
        };
        scope.warn("hash", message, hint);
    } else if !is_group && !is_combined && has_groups {
        let hint = "groups are used with hash: allow, hash: deny or groups_then_percentage: true only";
        ignore(scope, "groups", hint);
    }
}

/// Reports a field that another one's value asks for.
fn require(scope: &mut Scope<'_, '_>, field: &'static str, by: &str, example: &str) {
    if scope.is_valid(field) && scope.value(field).is_none() {
        let message = format!(
            "required field missing: failed conditional validation given value of field 'config.{by}'"
        );
        scope.error_missing(
            field,
            by,
            message,
            format!("add '{field}', such as {field}: {example}"),
        );
    }
}

/// Warns of a field that the author has set, not merely written out, and that is not looked at.
fn ignore(scope: &mut Scope<'_, '_>, field: &'static str, why: &str) {
    let default = FIELDS.iter().find(|one| one.name == field).and_then(default_of);
    let value = scope.value(field);
    if scope.is_given(field) && scope.is_valid(field) && value.is_some() && value != default.as_ref() {
        scope.warn(field, "accepted without effect", why);
    }
}
