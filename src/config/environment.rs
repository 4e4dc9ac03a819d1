//! `${NAME}` and `${NAME:-default}` in values.
//!
//! Values are substituted after the YAML has been parsed, so a variable can never change the shape of
//! a document, and comments and keys are left alone. `$${` stands for a literal `${`; a `$` before
//! anything else is itself. An empty variable takes the default, as in a shell's `:-`.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Why a value could not be substituted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The variable is not set and has no default.
    Unset(String),
    /// `${` is not followed by a name and `}`.
    Malformed,
}

/// Replaces every `${…}` of a value.
///
/// # Errors
/// Names the first variable that is not set, or says that the text is malformed.
pub(crate) fn substitute<'a>(
    text: &'a str,
    environment: &BTreeMap<String, String>,
) -> Result<Cow<'a, str>, Fault> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            result.push_str(&rest[..at]);
            result.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        result.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(Fault::Malformed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(Fault::Malformed);
        }
        match (environment.get(name), default) {
            (Some(value), None) => result.push_str(value),
            (Some(value), Some(_)) if !value.is_empty() => result.push_str(value),
            (_, Some(default)) => result.push_str(default),
            (None, None) => return Err(Fault::Unset(name.to_owned())),
        }
        rest = after;
    }
    result.push_str(rest);
    Ok(Cow::Owned(result))
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, Fault>) {
        let environment =
            BTreeMap::from([("PORT", "8080"), ("EMPTY", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(
            substitute(text, &environment).map(Cow::into_owned),
            expected.map(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn variables_and_defaults_are_replaced_wherever_they_stand() {
        check("plain", Ok("plain"));
        check("${PORT}", Ok("8080"));
        check("a:${PORT}/${OTHER:-x}", Ok("a:8080/x"));
        check("${PORT:-1}", Ok("8080"));
        check("${EMPTY:-1}${EMPTY}", Ok("1"));
        check("${OTHER:-}", Ok(""));
        check("${OTHER:-a:-b}", Ok("a:-b"));
    }

    #[test]
    fn a_doubled_dollar_is_literal_and_a_lone_one_is_itself() {
        check("$${PORT}", Ok("${PORT}"));
        check("~/a/(?<id>\\d+)$", Ok("~/a/(?<id>\\d+)$"));
        check("$PORT", Ok("$PORT"));
    }

    #[test]
    fn what_is_unset_or_malformed_is_refused() {
        check("${OTHER}", Err(Fault::Unset("OTHER".into())));
        check("${PORT", Err(Fault::Malformed));
        check("${}", Err(Fault::Malformed));
        check("${1X}", Err(Fault::Malformed));
        check("${{ env \"X\" }}", Err(Fault::Malformed));
    }
}
