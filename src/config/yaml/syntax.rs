//! Syntax errors in plain words.
//!
//! A scanner says what it expected, which is seldom what the author did wrong. The few mistakes that
//! people make are recognised here and named; everything else keeps the scanner's words.

use saphyr_parser::ScanError;

use super::super::problem::{Position, Problem};
use super::super::source::Source;

/// Names what the scanner refused.
pub(super) fn from_scanner(source: &Source, error: &ScanError) -> Problem {
    // At the end of the text the scanner may stand behind the last line.
    let line = error.marker().line().clamp(1, source.text.lines().count().max(1));
    let column = if line == error.marker().line() {
        error.marker().col() + 1
    } else {
        source.line(line).chars().count() + 1
    };
    explain(source, Position { line, column }, error.info())
}

/// Names what serde_yaml refuses although the scanner did not.
pub(super) fn from_serde(source: &Source, error: &serde_yaml::Error) -> Problem {
    let position = error
        .location()
        .map_or(Position { line: 1, column: 1 }, |at| Position {
            line: at.line().max(1),
            column: at.column().max(1),
        });
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    if words.contains("repetition limit") {
        return source
            .problem(position, 1, "aliases expand to too many values")
            .with_hint(
                "an alias (*name) repeats all that its anchor (&name) holds; do not alias lists of aliases",
            );
    }
    explain(source, position, words)
}

fn explain(source: &Source, position: Position, words: &str) -> Problem {
    let line = source.line(position.line);
    let indentation: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if let Some(tab) = indentation.find('\t') {
        return source
            .problem(
                Position {
                    column: tab + 1,
                    ..position
                },
                1,
                "a tab is used for indentation",
            )
            .with_hint("YAML allows only spaces there");
    }
    let problem = |message: &str| source.problem(position, 1, message.to_owned());
    let is_in_flow = line.contains(['{', '[']) && line.contains("${");
    if is_in_flow {
        return problem(words).with_hint("inside [ ] or { } a ${…} needs quotes: \"${NAME}\"");
    }
    if words.contains("mapping values are not allowed") || words.contains("illegal placement of ':'") {
        return problem("a ':' is not allowed here").with_hint(
            "a value that contains ': ' needs quotes; or this line or the one above is indented wrongly",
        );
    }
    if words.contains("did not find expected key") || words.contains("simple key expect") {
        return problem("expected a key and ':'").with_hint(
            "keys of one mapping start in the same column, and each has a ':' with a space behind it",
        );
    }
    if words.contains("did not find expected '-'") || words.contains("block sequence entries are not allowed")
    {
        return problem("a list item ('- ') does not fit here")
            .with_hint("items of one list start in the same column");
    }
    if words.contains("found unexpected end of stream") {
        return problem("a quote that was opened is never closed")
            .with_hint("the text runs to the end of the file");
    }
    if words.contains("unknown escape character") {
        return problem(words).with_hint("in \"…\" a backslash is written \\\\; in '…' it is itself");
    }
    if words.contains("unexpected character: `@'")
        || words.contains("unexpected character: ``'")
        || words.contains("unexpected character: `%'")
    {
        return problem(words).with_hint("a value that starts with this character needs quotes");
    }
    problem(words)
}
