//! Files that are there, that are not, and that are not what they should be.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;

use redb::{Database, TableDefinition};

use super::*;

/// Makes a store with something in it, and returns what it holds.
async fn fill(path: &Path) -> Loaded {
    let store = Embedded::open(path).unwrap();
    for revision in 0..30 {
        let transaction = Transaction {
            changes: (0..10)
                .map(|id| put(id, json!({"at": revision, "text": "x".repeat(300)})))
                .collect(),
            base: Some(say("file", revision)),
            entries: vec![entry("x")],
            ..Transaction::default()
        };
        store.commit(transaction, revision).await.unwrap();
    }
    store
        .note(vec![(Uuid::from_u128(5), Some(json!(0.25)))])
        .await
        .unwrap();
    store.load().await.unwrap()
}

/// Makes a store one of another version.
pub(super) fn set_format(path: &Path, format: u64) {
    let database = Database::open(path).unwrap();
    let writing = database.begin_write().unwrap();
    let meta: TableDefinition<&str, u64> = TableDefinition::new("meta");
    writing
        .open_table(meta)
        .unwrap()
        .insert("format", format)
        .unwrap();
    writing.commit().unwrap();
}

fn refusal(path: &Path) -> (StoreError, String) {
    let error = Embedded::open(path).unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    (error, text)
}

#[tokio::test]
async fn a_store_opened_again_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let before = fill(&path).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "nothing is left beside it");
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.load().await.unwrap(), before);
    assert_eq!(store.entries(None, 100).await.unwrap().len(), 30);
    let mut watch = store.watch(28).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 29);
    assert_eq!(store.commit(Transaction::default(), 30).await.unwrap(), 31);
}

#[tokio::test]
async fn a_store_whose_process_was_killed_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    fill(&path).await;
    let store = Embedded::open(&path).unwrap();
    store.commit(change(put(77, json!({}))), 30).await.unwrap();
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let opened = Embedded::open(&copy).unwrap();
    assert_eq!(opened.load().await.unwrap(), store.load().await.unwrap());
}

#[tokio::test]
async fn an_empty_file_and_one_left_half_made_are_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    std::fs::write(&path, "").unwrap();
    assert_eq!(
        Embedded::open(&path).unwrap().load().await.unwrap(),
        Loaded::default()
    );
    let path = folder.path().join("other");
    std::fs::write(folder.path().join("other.new"), "half").unwrap();
    assert_eq!(
        Embedded::open(&path).unwrap().load().await.unwrap(),
        Loaded::default()
    );
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    for (path, cause) in [
        (folder.path().join("missing/serin.store"), "No such file"),
        (file.join("serin.store"), "Not a directory"),
        (folder.path().to_owned(), "Is a directory"),
        (link, "No such file"),
    ] {
        let (error, text) = refusal(&path);
        assert!(matches!(error, StoreError::Open { .. }), "{text}");
        assert!(
            text.contains("create the directory, or set server.store.path"),
            "{text}"
        );
        assert!(text.contains(cause), "{text}");
    }
}

#[tokio::test]
async fn a_file_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let first = Embedded::open(&path).unwrap();
    let (error, text) = refusal(&path);
    assert!(matches!(error, StoreError::Locked { .. }), "{text}");
    assert!(
        text.contains("in use by another process; stop that one"),
        "{text}"
    );
    assert!(matches!(
        Database::open(&path),
        Err(redb::DatabaseError::DatabaseAlreadyOpen)
    ));
    drop(first);
    Embedded::open(&path).unwrap();
}

#[tokio::test]
async fn another_format_and_another_program_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    fill(&path).await;
    set_format(&path, 7);
    let bytes = std::fs::read(&path).unwrap();
    let (error, text) = refusal(&path);
    assert!(
        matches!(
            error,
            StoreError::Format {
                found: 7,
                known: 2,
                ..
            }
        ),
        "{text}"
    );
    assert!(
        text.contains("run the version that wrote it, or move the file away"),
        "{text}"
    );
    assert!(std::fs::read(&path).unwrap() == bytes, "it was changed");

    for name in ["meta", "other"] {
        let path = folder.path().join(name);
        let database = Database::create(&path).unwrap();
        let writing = database.begin_write().unwrap();
        let table: TableDefinition<u64, u64> = TableDefinition::new(name);
        writing.open_table(table).unwrap();
        writing.commit().unwrap();
        drop(database);
        let bytes = std::fs::read(&path).unwrap();
        let (error, text) = refusal(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{text}");
        assert!(text.ends_with("it is the database of another program"), "{text}");
        assert!(std::fs::read(&path).unwrap() == bytes, "it was changed");
    }
}

fn check_damaged(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let (error, text) = refusal(path);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{text}");
    let way_out =
        "move the file away to start from the configuration file, or restore a copy; nothing was changed";
    assert!(text.contains(way_out), "{text}");
    assert!(std::fs::read(path).unwrap() == bytes, "it was changed");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    fill(&path).await;
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    check_damaged(&damaged, b"_format_version: \"3.0\"\n");
    check_damaged(&damaged, b"x");
    check_damaged(&damaged, &vec![0; whole.len()]);
    for len in [5, 100, 4096, 10_000, whole.len() / 2] {
        check_damaged(&damaged, &whole[..len]);
    }
}

/// A page may be unused, so a file with a damaged one opens as a whole or is refused.
#[tokio::test]
async fn a_file_with_a_damaged_page_is_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let before = fill(&path).await;
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    let mut refused = 0;
    for page in whole
        .chunks(4096)
        .enumerate()
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
    {
        let at = page.0 * 4096;
        for (from, to) in [(at, at + 4096), (at + 70, at + 71), (at + 2000, at + 2001)] {
            let mut bytes = whole.clone();
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&damaged, &bytes).unwrap();
            match Embedded::open(&damaged) {
                Ok(store) => assert_eq!(store.load().await.unwrap(), before),
                Err(_) => {
                    refused += 1;
                    check_damaged(&damaged, &bytes);
                }
            }
        }
    }
    assert!(refused > 10, "{refused}");
}
