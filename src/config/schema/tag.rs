//! Tags that are settings.
//!
//! Kong has no field for some things that Serin does. A tag says them all the same, and every client
//! of Kong's Admin API can write it.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

use super::format::{Fault, Format, tag};
use super::units;
use crate::config::check::Scope;

/// What the tags that Serin reads begin with.
const OWN: &str = "serin:";
/// Time over which a Target that comes back is given its weight: the set of Targets is made anew each
/// second meanwhile, and an hour is longer than any cache takes to warm up.
const SLOW_START: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Label of an Upstream.
pub(crate) static UPSTREAM_TAG: Format = Format {
    check: |text| tag(text).and_then(|()| slow_start(text).map(drop)),
    pattern: Some("^[^,/]+$"),
};

/// Reads the tag for a slow start: `Ok(None)` when it is another one, an error when it is ours and
/// wrong, so that a slip of the pen does not pass for a label.
pub(crate) fn slow_start(tag: &str) -> Result<Option<Duration>, Fault> {
    let Some(own) = tag.strip_prefix(OWN) else {
        return Ok(None);
    };
    let Some(time) = own.strip_prefix("slow_start=") else {
        let hint = "tags that begin with 'serin:' are settings; there is one: serin:slow_start=30s";
        return Err(Fault::new(format!("unknown setting '{tag}'")).hint(hint));
    };
    units::parse_duration(&json!(time))
        .filter(|time| SLOW_START.contains(time))
        .map(Some)
        .ok_or_else(|| {
            Fault::new(format!("invalid slow start '{time}'")).hint("a time from 1s to 1h, with its unit")
        })
}

/// Insists that a setting is not made twice.
pub(crate) fn check_tags(scope: &mut Scope<'_, '_>) {
    let tags = scope.value("tags").and_then(Value::as_array);
    let is_slow_start = |tag: &&Value| matches!(slow_start(tag.as_str().unwrap_or_default()), Ok(Some(_)));
    if tags.into_iter().flatten().filter(is_slow_start).count() > 1 {
        let hint = "keep one of the tags serin:slow_start=…".to_owned();
        scope.error("tags", "a slow start is asked for twice", Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_is_a_time_with_a_unit() {
        let read = |tag: &str| slow_start(tag).map_err(|fault| fault.message);
        assert_eq!(read("blue"), Ok(None));
        assert_eq!(read("slow_start=30s"), Ok(None));
        assert_eq!(read("serin:slow_start=30s"), Ok(Some(Duration::from_secs(30))));
        assert_eq!(read("serin:slow_start=1m30s"), Ok(Some(Duration::from_secs(90))));
        for wrong in ["30", "", "0s", "500ms", "2h", "soon"] {
            assert_eq!(
                read(&format!("serin:slow_start={wrong}")),
                Err(format!("invalid slow start '{wrong}'"))
            );
        }
        assert_eq!(
            read("serin:slowstart=30s"),
            Err("unknown setting 'serin:slowstart=30s'".to_owned())
        );
    }
}
