//! A disk that is full or fails for a while.

use super::*;

const PATH: &str = "store";

fn open(disk: &Arc<Disk>) -> Embedded {
    Embedded::over(Path::new(PATH), disk.clone(), 1000).unwrap()
}

/// Returns what a store opened from these bytes holds.
async fn held(bytes: Vec<u8>) -> Loaded {
    open(&Arc::new(Disk::holding(bytes))).load().await.unwrap()
}

/// A transaction large enough to need new pages, with everything a transaction can have.
fn large(revision: u64) -> Transaction {
    let number = revision + 1;
    Transaction {
        changes: (0..20)
            .map(|id| put(id, json!({"number": number, "text": "x".repeat(900)})))
            .collect(),
        base: Some(say("file", number)),
        entries: vec![entry(&number.to_string())],
        ..Transaction::default()
    }
}

/// Checks that all parts of a state are those of its revision.
fn check_whole(loaded: &Loaded) {
    assert_eq!(loaded.entities.len(), 20);
    for (_, values) in &loaded.entities {
        assert_eq!(values["number"], json!(loaded.revision));
    }
    assert_eq!(loaded.bases, [base("file", loaded.revision)]);
}

#[tokio::test]
async fn a_full_disk_refuses_commits_while_reads_go_on_until_it_is_cured() {
    let disk = Arc::new(Disk::default());
    let store = open(&disk);
    for revision in 0..3 {
        store.commit(large(revision), revision).await.unwrap();
    }
    let mut watch = store.watch(2).await.unwrap();
    let before = store.load().await.unwrap();

    disk.fail(0, usize::MAX);
    for _ in 0..3 {
        match store.commit(large(3), 3).await {
            Err(CommitError::Store(error @ StoreError::Failed { .. })) => {
                let source = std::error::Error::source(&error).unwrap();
                assert_eq!(source.to_string(), io_error());
            }
            other => panic!("{other:?}"),
        }
        assert!(store.note(vec![(Uuid::nil(), Some(json!(1)))]).await.is_err());
        assert!(
            store.revision().await.is_err(),
            "what the disk holds is not certain"
        );
        assert_eq!(store.load().await.unwrap(), before);
        assert_eq!(page(&store, None, 1).await, [(3, "3".to_owned())]);
    }
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 3);

    assert!(disk.heal());
    assert_eq!(store.commit(large(3), 3).await.unwrap(), 4);
    store.note(vec![(Uuid::nil(), Some(json!(1)))]).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 4);
    let after = store.load().await.unwrap();
    check_whole(&after);
    assert_eq!(held(disk.after_power_cut()).await, after);
    drop(store);
    assert_eq!(held(disk.after_power_cut()).await, after);
}

fn io_error() -> String {
    std::io::Error::from(std::io::ErrorKind::StorageFull).to_string()
}

/// Lets each of the writes of a commit fail in turn, and `bad - 1` more after it. Whatever was acknowledged
/// is there after a kill or a power cut at that moment, and whole; `revision` tells whether the
/// commit is there; the next one works.
async fn check_every_write(bad: usize) {
    for good in 0.. {
        let disk = Arc::new(Disk::default());
        let store = open(&disk);
        for revision in 0..3 {
            store.commit(large(revision), revision).await.unwrap();
        }
        disk.fail(good, bad);
        let result = store.commit(large(3), 3).await;
        let (killed, cut) = (disk.after_kill(), disk.after_power_cut());
        let has_failed = disk.heal();

        let revision = store.revision().await.unwrap();
        match &result {
            Ok(4) => assert_eq!(revision, 4),
            Err(CommitError::Store(_)) => assert!((3..=4).contains(&revision)),
            other => panic!("{other:?}"),
        }
        for bytes in [killed, cut] {
            let held = held(bytes).await;
            check_whole(&held);
            assert!(
                held.revision >= if result.is_ok() { 4 } else { 3 },
                "{good}: {held:?}"
            );
        }
        let mut watch = store.watch(2).await.unwrap();
        store.commit(large(revision), revision).await.unwrap();
        for expected in 3..=revision + 1 {
            assert_eq!(watch.next().await.unwrap().unwrap().revision, expected);
        }
        let loaded = store.load().await.unwrap();
        check_whole(&loaded);
        assert_eq!(loaded.revision, revision + 1);
        assert_eq!(held(disk.after_power_cut()).await, loaded);
        if !has_failed {
            assert!(good > 3, "a commit writes and waits for the disk");
            return;
        }
    }
}

#[tokio::test]
async fn a_commit_that_meets_one_failure_is_whole_or_not_there() {
    check_every_write(1).await;
}

#[tokio::test]
async fn a_commit_that_meets_a_few_failures_is_whole_or_not_there() {
    check_every_write(3).await;
}

#[tokio::test]
async fn a_commit_that_meets_a_lasting_failure_is_whole_or_not_there() {
    check_every_write(usize::MAX).await;
}

#[tokio::test]
async fn a_stale_commit_that_meets_a_failure_is_not_taken_for_kept() {
    let disk = Arc::new(Disk::default());
    let store = open(&disk);
    for revision in 0..3 {
        store.commit(large(revision), revision).await.unwrap();
    }
    disk.fail(0, 1);
    let _ = store.commit(large(3), 3).await;
    let revision = store.revision().await.unwrap();
    disk.fail(0, usize::MAX);
    assert!(store.commit(large(3), revision - 1).await.is_err());
    disk.heal();
    assert_eq!(conflict(store.commit(large(3), revision - 1).await), revision);
}
