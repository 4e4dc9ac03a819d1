//! Where documents come from: files and directories.
//!
//! Promises that what is read is text of a bounded size, in a fixed order, each file once. A directory
//! stands for all its `*.yaml` and `*.yml` files, sorted by name; sub-directories and hidden files (so
//! also Kubernetes' `..data`) are left out. What the text means is for `yaml` to say.

use std::fs::File;
use std::hash::Hasher;
use std::io::Read;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::problem::{Excerpt, Place, Position, Problem, Severity, shorten};

/// Largest file that is read. 10,000 routes with their services are about 2 MiB; a file eight times
/// that size is a mistake, such as a log or a disk image named by accident.
pub(crate) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Text to be parsed, and what its problems are placed in.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file as it was named on the command line, or the flag or variable that holds the text.
    pub(crate) name: String,
    /// The text; without a byte order mark.
    pub(crate) text: String,
    /// Byte offsets of the starts of lines; empty for a flag or a variable, which have no lines to show.
    lines: Vec<usize>,
}

impl Source {
    /// Takes a file's text.
    pub(crate) fn file(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.into(),
            text,
            lines,
        }
    }

    /// Takes the value of a flag or a variable, which has a name but no lines.
    pub(crate) fn setting(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            lines: Vec::new(),
        }
    }

    /// Returns a line's text, counted from 1, without its end.
    pub(crate) fn line(&self, line: usize) -> &str {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return "";
        };
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        self.text[start..end].trim_end_matches('\r')
    }

    /// Returns the line of a byte, counted from 1.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Returns where a line begins, or where the text ends if it has no such line.
    pub(crate) fn start_of(&self, line: usize) -> usize {
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index));
        start.copied().unwrap_or(self.text.len())
    }

    /// Says whether a line ends in CR alone. To YAML that is one more line, here it is not.
    pub(crate) fn has_lone_returns(&self) -> bool {
        let bytes = self.text.as_bytes();
        memchr::memchr_iter(b'\r', bytes).any(|at| bytes.get(at + 1) != Some(&b'\n'))
    }

    /// Returns the number of lines.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Returns the place of a position in this source.
    pub(crate) fn place(&self, position: Position) -> Place {
        Place {
            file: self.name.clone(),
            position: (!self.lines.is_empty()).then_some(position),
        }
    }

    /// Makes an error at a position, with its line.
    pub(crate) fn problem(&self, position: Position, width: usize, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            place: self.place(position),
            path: String::new(),
            message: shorten(message.into()),
            hint: None,
            excerpt: self.excerpt(position, width),
        }
    }

    /// Returns the line of a position with carets under it; none for a line that looks as if a secret stood
    /// on it. What is no YAML has no fields by which to tell.
    pub(crate) fn excerpt(&self, position: Position, width: usize) -> Option<Excerpt> {
        let line = self.line(position.line);
        Excerpt::new(line, position, width).filter(|_| !self.lines.is_empty() && !names_secret(line))
    }
}

/// Shortest line of base64 that may be part of a key: PEM has 64 letters a line, the last one fewer.
const KEY_LETTERS: usize = 16;

/// Says whether a line may be one of a key in PEM.
fn is_base64(line: &str) -> bool {
    let line = line.trim();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    line.len() >= KEY_LETTERS && line.bytes().all(is_letter)
}

/// Says whether a line may be part of a key, or has one of the names under which secrets are written, and a colon behind it.
fn names_secret(line: &str) -> bool {
    let names = ["key", "key_alt", "secret", "password"];
    is_base64(line)
        || names.into_iter().any(|name| {
            line.match_indices(name).any(|(at, _)| {
                let is_part_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                let rest = line[at + name.len()..].trim_start_matches(['"', '\'']);
                !line[..at].ends_with(is_part_of_word) && rest.trim_start().starts_with(':')
            })
        })
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The texts, in order.
    pub(crate) sources: Vec<Source>,
    /// The files they came from, in the same order.
    pub(crate) paths: Vec<PathBuf>,
    /// Hash of names and bytes of all of them.
    pub(crate) hash: u64,
}

/// Reads files and directories; what cannot be read is a problem, the rest is read all the same.
pub(crate) fn read(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Files {
    let mut files = Files::default();
    // Keys are fixed: the hash is compared with that of another process after an upgrade.
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    for path in list(paths, problems) {
        match read_file(&path) {
            Ok(bytes) => {
                let name = path.display().to_string();
                for part in [name.as_bytes(), &bytes] {
                    hasher.write_usize(part.len());
                    hasher.write(part);
                }
                match String::from_utf8(bytes) {
                    Ok(text) => {
                        files.sources.push(Source::file(name, text));
                        files.paths.push(path);
                    }
                    Err(error) => problems.push(not_utf8(
                        &name,
                        error.as_bytes(),
                        error.utf8_error().valid_up_to(),
                    )),
                }
            }
            Err(problem) => problems.push(*problem),
        }
    }
    files.hash = hasher.finish();
    files
}

/// Replaces each directory by its files and drops what is named twice.
fn list(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    if paths.is_empty() {
        problems.push(Problem::about("configuration", "no file given"));
    }
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match list_directory(path) {
            Ok(found) if found.is_empty() => problems.push(
                Problem::about(
                    path.display().to_string(),
                    "no *.yaml or *.yml file in this directory",
                )
                .with_hint("hidden files and sub-directories are not read"),
            ),
            Ok(found) => files.extend(found),
            Err(error) => problems.push(unreadable(path, &error)),
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    files
}

fn list_directory(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one file, but never more than one byte past the limit, so that a device cannot fill memory.
fn read_file(path: &Path) -> Result<Vec<u8>, Box<Problem>> {
    let refuse = |error: std::io::Error| Box::new(unreadable(path, &error));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refuse)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(refuse)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("file is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024));
        let problem = Problem::about(path.display().to_string(), message);
        return Err(Box::new(
            problem.with_hint("split it: a directory of files is merged"),
        ));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    let message = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "may not be read: permission denied".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    Problem::about(path.display().to_string(), message)
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let mut problem = Problem::about(name, "not UTF-8 text").with_hint("save the file as UTF-8");
    problem.place.position = Some(Position { line, column });
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(directory: &Path, names: &[&str], expected: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        let paths: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
        let files = read(&paths, &mut problems);
        let read: Vec<_> = files
            .paths
            .iter()
            .map(|path| path.strip_prefix(directory).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(read, expected);
        problems.iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn a_line_that_may_be_part_of_a_key_is_known() {
        for line in [
            "key: a",
            "  key_alt: |",
            "MIGHAgEAMBMGByqGSM49AgEG",
            "      AwEHBG0wawIBAQQgxyz+/w==",
        ] {
            assert!(names_secret(line), "{line}");
        }
        for line in ["- name: shop", "keys: []", "short", "-----BEGIN CERTIFICATE-----"] {
            assert!(!names_secret(line), "{line}");
        }
    }

    #[test]
    fn a_directory_is_its_yaml_files_sorted_and_each_file_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "notes.txt", ".hidden.yaml"] {
            std::fs::write(directory.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(directory.path().join("sub.yaml")).unwrap();
        assert!(check(directory.path(), &["", "b.yaml"], &["a.yml", "b.yaml"]).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_a_problem_and_the_rest_is_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("latin1.yaml"), b"a: 1\nb: caf\xe9\n").unwrap();
        std::fs::write(directory.path().join("good.yaml"), "a: 1").unwrap();
        std::fs::create_dir(directory.path().join("empty")).unwrap();
        let problems = check(
            directory.path(),
            &["latin1.yaml", "missing.yaml", "empty", "good.yaml"],
            &["good.yaml"],
        );
        assert_eq!(
            problems,
            [
                "no *.yaml or *.yml file in this directory",
                "not UTF-8 text",
                "no such file or directory"
            ]
        );
    }

    #[test]
    fn a_file_over_the_limit_is_refused_unread() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("huge.yaml")).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(
            check(directory.path(), &["huge.yaml"], &[]),
            ["file is larger than 16 MiB"]
        );
    }

    #[test]
    fn the_hash_follows_names_and_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let hash = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            read(&[path], &mut Vec::new()).hash
        };
        let first = hash("a.yaml", "x");
        assert_eq!(first, hash("a.yaml", "x"));
        assert_ne!(first, hash("a.yaml", "y"));
        assert_ne!(first, hash("b.yaml", "x"));
    }

    #[test]
    fn lines_are_found_with_either_line_end() {
        let source = Source::file("f", "\u{feff}one\r\ntwo\n");
        assert_eq!(
            [source.line(1), source.line(2), source.line(3), source.line(9)],
            ["one", "two", "", ""]
        );
    }
}
