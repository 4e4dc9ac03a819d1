//! Every file under `tests/data/bad` is refused, with exactly the text beside it; every file under
//! `tests/data/warned` is accepted, with exactly the text beside it.
//!
//! The real binary is run in that directory, so the texts are what an operator sees. A case is a file
//! `NAME.yaml` or a directory `NAME`; comments at its top may give flags (`# args: …`) and variables
//! (`# env: NAME=value`). `SERIN_BLESS=1` writes the texts; read the difference before it is committed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn check(directory: &str, expected_code: i32) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(directory);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let (code, text) = run(&directory, name, case);
        let expected_file = case.with_extension("txt");
        if std::env::var_os("SERIN_BLESS").is_some() {
            std::fs::write(&expected_file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if code != Some(expected_code) || text != expected {
            failures.push(format!(
                "--- {name}: exit {code:?}\nexpected:\n{expected}\ngot:\n{text}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run(directory: &Path, name: &str, case: &Path) -> (Option<i32>, String) {
    // Bytes, because one of the files is no UTF-8.
    let head = std::fs::read(case).unwrap_or_default();
    let head = String::from_utf8_lossy(&head);
    let comments = |key: &str| -> Vec<String> {
        head.lines()
            .filter_map(|line| line.strip_prefix(key))
            .map(|rest| rest.trim().to_owned())
            .collect()
    };
    let output = Command::new(env!("CARGO_BIN_EXE_serin"))
        .arg("check")
        .arg(name)
        .args(
            comments("# args:")
                .iter()
                .flat_map(|line| line.split_whitespace()),
        )
        .env_clear()
        .envs(comments("# env:").iter().filter_map(|line| line.split_once('=')))
        .current_dir(directory)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_bad_file_gives_exactly_the_message_beside_it() {
    check("bad", 1);
}

#[test]
fn every_doubtful_file_is_accepted_with_exactly_the_warning_beside_it() {
    check("warned", 0);
}
