//! Numbers with a unit, as operators write them: `10s`, `1m30s`, `32KiB`.

use std::time::Duration;

use serde_json::Value;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Reads a time; it needs a unit, because `60` would be a minute to one reader and a blink to another.
pub(crate) fn parse_duration(value: &Value) -> Option<Duration> {
    humantime::parse_duration(value.as_str()?.trim())
        .ok()
        .filter(|_| value.as_str().is_some_and(|text| text.trim() != "0"))
}

/// A number of bytes, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// So many.
    Bytes(u64),
    /// Any number.
    Unlimited,
}

/// Reads a number of bytes: a plain number, or one with B, KiB, MiB or GiB; or `unlimited`.
pub(crate) fn parse_size(value: &Value) -> Option<Size> {
    if let Some(bytes) = value.as_u64() {
        return Some(Size::Bytes(bytes));
    }
    let text = value.as_str()?.trim();
    if text == "unlimited" {
        return Some(Size::Unlimited);
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).map(Size::Bytes)
}

/// Writes a number of bytes with the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// Writes a time without spaces, as it would be written in a file.
pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_duration(value: Value, expected: Option<u64>) {
        assert_eq!(
            parse_duration(&value),
            expected.map(Duration::from_millis),
            "{value}"
        );
    }

    fn check_size(value: Value, expected: Option<Size>) {
        assert_eq!(parse_size(&value), expected, "{value}");
    }

    #[test]
    fn a_duration_needs_a_unit() {
        check_duration(json!("10s"), Some(10_000));
        check_duration(json!("500ms"), Some(500));
        check_duration(json!("1m30s"), Some(90_000));
        check_duration(json!("0s"), Some(0));
        for wrong in [
            json!(10),
            json!("10"),
            json!("0"),
            json!("ten seconds"),
            json!("-1s"),
            json!("99999999999999999999y"),
            json!(null),
        ] {
            check_duration(wrong, None);
        }
    }

    #[test]
    fn a_size_is_a_number_perhaps_with_a_binary_unit() {
        check_size(json!(100), Some(Size::Bytes(100)));
        check_size(json!("100"), Some(Size::Bytes(100)));
        check_size(json!("32KiB"), Some(Size::Bytes(32 * 1024)));
        check_size(json!("2 MiB"), Some(Size::Bytes(2 * 1024 * 1024)));
        check_size(json!("unlimited"), Some(Size::Unlimited));
        for wrong in [
            json!("32KB"),
            json!("1.5MiB"),
            json!(-1),
            json!("KiB"),
            json!("99999999999GiB"),
            json!(true),
        ] {
            check_size(wrong, None);
        }
    }

    #[test]
    fn numbers_are_shown_as_they_would_be_written() {
        assert_eq!(
            [show_size(32 * 1024), show_size(1500), show_size(GIB)],
            ["32KiB", "1500B", "1GiB"]
        );
        assert_eq!(show_duration(Duration::from_millis(90_500)), "1m30s500ms");
    }
}
