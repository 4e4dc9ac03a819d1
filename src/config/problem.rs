//! A problem with a configuration: where it is, what is wrong, and a way out.
//!
//! `serin check`, a refused reload and the Admin API all show the text made here, so that an operator
//! learns one shape only. A problem keeps the line it complains about, because the file may have
//! changed by the time the problem is printed. Text taken from a file is printed with its control
//! characters escaped: a configuration must not be able to steer a terminal.

use std::fmt::{self, Display, Write as _};

use serde_json::{Value, json};

/// Characters of a source line that an excerpt shows at most; a longer line is cut around the caret.
const EXCERPT_CHARACTERS: usize = 120;

/// Column behind which no excerpt is shown.
const FURTHEST_EXCERPT: usize = 10_000;
/// Problems of one severity that are kept at most. Nobody reads more, and a large file of another kind
/// would make millions.
pub(crate) const MAX_PROBLEMS: usize = 1000;
/// Bytes of a message, a path or a hint that are kept: each may quote a value, which may be as long as a file.
const LONGEST_TEXT: usize = 600;

/// Whether a problem keeps the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used; something in it may not do what its author expects.
    Warning,
}

/// Where a problem is: a file as it was named, or the flag or variable that brought the value in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file, or for example `--set server.threads`.
    pub file: String,
    /// Line and column; absent for a whole file, a flag or a variable.
    pub position: Option<Position>,
}

/// A line and a column, both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_printable(f, &self.file)?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// The line a problem complains about, with the part to underline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    line: usize,
    text: String,
    /// Characters before the caret.
    indent: usize,
    /// Carets, at least one.
    width: usize,
}

impl Excerpt {
    /// Takes `width` characters from `position` out of `text`, the whole line; cuts a long line, and gives
    /// up on one that goes on for ever: to count its characters for every problem would take for ever too.
    pub(crate) fn new(text: &str, position: Position, width: usize) -> Option<Self> {
        let start = position.column - 1;
        if start > FURTHEST_EXCERPT {
            return None;
        }
        let is_long = text.chars().nth(EXCERPT_CHARACTERS).is_some();
        let first = if is_long {
            start.saturating_sub(EXCERPT_CHARACTERS / 2)
        } else {
            0
        };
        let shown = text.chars().skip(first).take(EXCERPT_CHARACTERS);
        let shown: Vec<char> = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let indent = (start - first).min(shown.len());
        let width = width.clamp(1, (shown.len() - indent).max(1));
        let text = shown.into_iter().collect::<String>().trim_end().to_owned();
        Some(Self {
            line: position.line,
            text,
            indent,
            width,
        })
    }
}

impl Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = number.len().max(5);
        writeln!(f, "{number:>gutter$} | {}", self.text)?;
        write!(
            f,
            "{:>gutter$} | {:indent$}{}",
            "",
            "",
            "^".repeat(self.width),
            indent = self.indent
        )
    }
}

/// Something an operator has to know about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// Path of the value in its document, e.g. `upstreams[0].targets[1].weight`; empty for a whole document.
    pub path: String,
    /// What is wrong: Kong's words where Kong has some.
    pub message: String,
    /// A way out.
    pub hint: Option<String>,
    /// The line, when there is one that may be shown.
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// Makes an error about a whole file, flag or variable.
    pub(crate) fn about(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: Place {
                file: file.into(),
                position: None,
            },
            path: String::new(),
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }

    /// Adds a way out.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shorten(hint.into()));
        self
    }

    /// Says whether this keeps the configuration from being used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the problem as an object for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "file": self.place.file,
            "line": self.place.position.map(|position| position.line),
            "column": self.place.position.map(|position| position.column),
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        })
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        // `--set server.threads` has said the path already.
        let is_said = self.place.position.is_none() && self.place.file.contains(&self.path);
        if !self.path.is_empty() && !is_said {
            write_printable(f, &self.path)?;
            f.write_str(": ")?;
        }
        write_printable(f, &self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        if let Some(hint) = &self.hint {
            f.write_str("\n  hint: ")?;
            write_printable(f, hint)?;
        }
        Ok(())
    }
}

/// All problems of a configuration that was refused, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Errors and warnings; at least one error.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Returns the number of errors.
    pub fn error_count(&self) -> usize {
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// Returns all problems as an object for programs.
    pub fn to_json(&self) -> Value {
        problems_to_json(&self.problems)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(&count_problems(&self.problems))
    }
}

impl std::error::Error for Report {}

/// Returns the line that closes a list of problems, e.g. `2 errors, 1 warning`.
pub fn count_problems(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let mut parts = Vec::new();
    if errors > 0 || warnings == 0 {
        parts.push(count(errors, "error"));
    }
    if warnings > 0 {
        parts.push(count(warnings, "warning"));
    }
    parts.join(", ")
}

/// Returns problems as an object for programs.
pub fn problems_to_json(problems: &[Problem]) -> Value {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    json!({
        "errors": errors,
        "warnings": problems.len() - errors,
        "problems": problems.iter().map(Problem::to_json).collect::<Vec<_>>(),
    })
}

/// Cuts a text that quotes a very long value.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Returns a number with its noun, in the plural where there is not exactly one.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes text that came from a file or a client: control characters are escaped.
fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for character in text.chars() {
        if character.is_control() {
            write!(f, "{}", character.escape_default())?;
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        let position = Position { line: 14, column: 15 };
        Problem {
            severity: Severity::Error,
            place: Place {
                file: "conf/shop.yaml".into(),
                position: Some(position),
            },
            path: "upstreams[0].targets[1].weight".into(),
            message: "value should be between 0 and 65535".into(),
            hint: Some("0 takes the target out of rotation; 65535 is the largest".into()),
            excerpt: Excerpt::new("      weight: 70000", position, 5),
        }
    }

    #[test]
    fn a_problem_prints_place_path_message_line_caret_and_hint() {
        let expected = "conf/shop.yaml:14:15: upstreams[0].targets[1].weight: value should be between 0 and 65535\n   \
                        14 |       weight: 70000\n      |               ^^^^^\n  \
                        hint: 0 takes the target out of rotation; 65535 is the largest";
        assert_eq!(problem().to_string(), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line = format!("{}here{}", "x".repeat(500), "y".repeat(500));
        let excerpt = Excerpt::new(&line, Position { line: 1, column: 501 }, 4)
            .unwrap()
            .to_string();
        let [text, caret] = excerpt.lines().collect::<Vec<_>>()[..] else {
            panic!("two lines: {excerpt}")
        };
        assert!(text.len() < 140);
        let at = caret.find('^').expect("a caret");
        assert_eq!(&text[at..at + 4], "here");
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut problem = problem();
        problem.message = "unknown \u{1b}[31m".into();
        assert!(problem.to_string().contains("unknown \\u{1b}[31m"));
    }

    #[test]
    fn an_excerpt_past_the_end_of_its_line_still_has_a_caret() {
        let excerpt = Excerpt::new("ab", Position { line: 1, column: 9 }, 3)
            .unwrap()
            .to_string();
        assert_eq!(excerpt, "    1 | ab\n      |   ^");
    }

    #[test]
    fn counts_are_in_words() {
        let mut warning = problem();
        warning.severity = Severity::Warning;
        assert_eq!(
            count_problems(&[problem(), problem(), warning.clone()]),
            "2 errors, 1 warning"
        );
        assert_eq!(count_problems(&[warning]), "1 warning");
        assert_eq!(count_problems(&[]), "0 errors");
    }
}
