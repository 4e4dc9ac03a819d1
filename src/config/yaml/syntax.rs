//! Syntax errors in plain words.
//!
//! A scanner says what it expected, which is seldom what the author did wrong. The few mistakes that
//! people make are recognised here and named; everything else keeps the scanner's words.

use saphyr_parser::ScanError;

use super::super::problem::{Position, Problem};
use super::super::source::Source;
use super::tree::MAX_DEPTH;

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
    let at = |position: Position, message: &str| source.problem(position, 1, message.to_owned());
    let here = |message: &str| at(position, message);
    let is_about_tabs = words.contains("tab");
    // A scanner may stop at the line before the tab, which it takes for a part of a longer text.
    let suspects = if is_about_tabs {
        position.line..=source.text.lines().count()
    } else {
        position.line..=position.line
    };
    for line in suspects {
        let indentation = source
            .line(line)
            .chars()
            .take_while(|c| c.is_whitespace())
            .collect::<Vec<_>>();
        if let Some(tab) = indentation.iter().position(|c| *c == '\t') {
            return at(
                Position {
                    line,
                    column: tab + 1,
                },
                "a tab is used for indentation",
            )
            .with_hint("YAML allows only spaces there");
        }
    }
    let line = source.line(position.line);
    if line.contains("${") && line.contains(['{', '[']) && words.contains("while parsing a flow") {
        return here("a ${…} is not allowed here without quotes")
            .with_hint("inside [ ] or { } write \"${NAME}\"");
    }
    if words.contains("mapping values are not allowed") || words.contains("illegal placement of ':'") {
        return here("a ':' is not allowed here").with_hint(
            "a value that contains ': ' needs quotes; or this line or the one above is indented wrongly",
        );
    }
    let is_item = line.trim_start().starts_with("- ") || line.trim() == "-";
    if words.contains("did not find expected key") || words.contains("simple key expect") {
        if is_item {
            return here("a list item ('- ') does not fit here")
                .with_hint("items of one list start in the same column");
        }
        let above = (1..position.line).rev().find(|line| {
            let text = source.line(*line).trim();
            !text.is_empty() && !text.starts_with('#')
        });
        if let Some(above) = above.filter(|above| !source.line(*above).contains(':')) {
            let text = source.line(above);
            let column = text
                .chars()
                .take_while(|c| c.is_whitespace() || *c == '-')
                .count()
                + 1;
            let width = text.trim_end().chars().count().saturating_sub(column - 1);
            return source
                .problem(Position { line: above, column }, width, "a ':' is missing here")
                .with_hint("a key is followed by ':' and a space");
        }
        return here("expected a key and ':'").with_hint("keys of one mapping start in the same column");
    }
    if words.contains("did not find expected '-'") || words.contains("block sequence entries are not allowed")
    {
        return here("a list item ('- ') does not fit here")
            .with_hint("items of one list start in the same column");
    }
    if words.contains("quoted scalar") && (words.contains("indentation") || words.contains("end of stream")) {
        return here("a quote that is opened here is not closed")
            .with_hint("or the text goes on in a line that is not indented");
    }
    if words.contains("unknown escape character") {
        return here("a '\\' in \"…\" does not go with what follows it")
            .with_hint("write it \\\\ there, or put the text into '…', where it is itself");
    }
    if words.contains("did not find expected node content") {
        return here("a value is missing here").with_hint("or a '[' or '{' is not closed");
    }
    if words.contains("recursion limit") {
        return here(&format!("nested deeper than {MAX_DEPTH} levels"));
    }
    if words.contains("unknown anchor") {
        return here("no anchor of this name stands before it")
            .with_hint("an alias *name repeats what &name stands before");
    }
    if let Some(character) = words
        .strip_prefix("unexpected character: `")
        .and_then(|rest| rest.chars().next())
    {
        return here(&format!("a value that starts with '{character}' needs quotes"));
    }
    let words = words
        .split_once(", ")
        .filter(|(start, _)| start.starts_with("while "))
        .map_or(words, |(_, rest)| rest);
    here(&words.replace("did not find expected", "expected"))
}
