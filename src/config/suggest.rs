//! The nearest known name to a wrong one.

use strsim::osa_distance;

/// Typing errors that are still taken for the name meant: a letter too many, too few, wrong or swapped.
const MAX_DISTANCE: usize = 2;
/// Longest name that is compared at all; longer ones are not names, and comparing costs the product of the lengths.
const MAX_LENGTH: usize = 64;

/// Returns the known name nearest to `name`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= MAX_DISTANCE)
        .map(|candidate| (osa_distance(&lower, &candidate.to_ascii_lowercase()), candidate))
        // Two changes to a word of three letters make any other word.
        .filter(|(distance, candidate)| *distance <= MAX_DISTANCE && distance * 2 < candidate.len().max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(
            nearest(name, ["weight", "target", "tags", "id", "host", "hosts"]),
            expected,
            "{name}"
        );
    }

    #[test]
    fn a_typing_error_finds_its_name_and_another_word_does_not() {
        check("wieght", Some("weight"));
        check("Weight", Some("weight"));
        check("wight", Some("weight"));
        check("hots", Some("host"));
        check("tag", Some("tags"));
        check("ip", None);
        check("plugins", None);
        check(&"w".repeat(100_000), None);
    }
}
