//! What every store promises, tried with both; and what the one in a file promises beyond it.

mod disk;
mod faults;
mod lending;
mod opening;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use disk::Disk;

/// Runs a test with each kind of store, of which each keeps ten entries.
async fn both(test: impl AsyncFn(Arc<dyn Store>)) {
    test(Arc::new(Memory::keeping(10))).await;
    let store = Embedded::over(Path::new("store"), Arc::new(Disk::default()), 10).unwrap();
    test(Arc::new(store)).await;
}

fn key(number: u128) -> Key {
    Key::new("services", Uuid::from_u128(number))
}

fn values(value: Value) -> Map<String, Value> {
    let Value::Object(values) = value else {
        panic!("not an object: {value}");
    };
    values
}

fn put(number: u128, value: Value) -> Change {
    Change::Put(key(number), values(value))
}

fn change(change: Change) -> Transaction {
    Transaction {
        changes: vec![change],
        ..Transaction::default()
    }
}

fn entry(what: &str) -> Entry {
    Entry {
        revision: 0,
        at: Duration::from_millis(1_700_000_000_123),
        who: "anna".to_owned(),
        what: what.to_owned(),
        changes: vec![EntryChange {
            kind: "services".to_owned(),
            id: Uuid::from_u128(1),
            before: None,
            after: Some(json!({"name": "checkout", "tags": [1, null, "é"]})),
        }],
    }
}

fn entries(whats: &[&str]) -> Transaction {
    Transaction {
        entries: whats.iter().map(|what| entry(what)).collect(),
        ..Transaction::default()
    }
}

/// Says what [`base`] is, where nothing was said.
fn say(source: &str, hash: u64) -> BaseChange {
    BaseChange {
        source: source.to_owned(),
        hash,
        changes: vec![put(9, json!({"z": 1, "a": 2}))],
    }
}

fn base(source: &str, hash: u64) -> Base {
    Base {
        source: source.to_owned(),
        hash,
        entities: vec![(key(9), values(json!({"z": 1, "a": 2})))],
    }
}

fn conflict(result: Result<u64, CommitError>) -> u64 {
    match result {
        Err(CommitError::Conflict { actual }) => actual,
        other => panic!("no conflict: {other:?}"),
    }
}

/// Returns the revision and the words of each entry of a page.
async fn page(store: &dyn Store, before: Option<u64>, limit: usize) -> Vec<(u64, String)> {
    let page = store.entries(before, limit).await.unwrap();
    page.into_iter()
        .map(|entry| (entry.revision, entry.what))
        .collect()
}

#[tokio::test]
async fn an_empty_store_has_revision_0() {
    both(async |store| {
        assert_eq!(store.load().await.unwrap(), Loaded::default());
        assert_eq!(store.revision().await.unwrap(), 0);
        assert_eq!(store.entries(None, 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_commit_puts_and_deletes_in_order() {
    both(async |store| {
        let transaction = Transaction {
            changes: vec![
                put(2, json!({"name": "b"})),
                put(1, json!({"name": "a"})),
                put(3, json!({"name": "c"})),
                put(3, json!({"name": "d"})),
            ],
            ..Transaction::default()
        };
        assert_eq!(store.commit(transaction, 0).await.unwrap(), 1);
        let deletion = change(Change::Delete(key(2)));
        assert_eq!(store.commit(deletion.clone(), 1).await.unwrap(), 2);
        assert_eq!(store.commit(deletion, 2).await.unwrap(), 3, "nothing is there");
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.revision, 3);
        let expected = vec![
            (key(1), values(json!({"name": "a"}))),
            (key(3), values(json!({"name": "d"}))),
        ];
        assert_eq!(loaded.entities, expected);
    })
    .await;
}

#[tokio::test]
async fn an_empty_transaction_is_numbered_too() {
    both(async |store| {
        assert_eq!(store.commit(Transaction::default(), 0).await.unwrap(), 1);
        assert_eq!(store.revision().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_commit_on_another_revision_changes_nothing() {
    both(async |store| {
        store.commit(change(put(1, json!({"n": 1}))), 0).await.unwrap();
        let before = store.load().await.unwrap();
        let late = || Transaction {
            changes: vec![put(1, json!({"n": 2}))],
            base: Some(say("f", 1)),
            entries: vec![entry("late")],
            ..Transaction::default()
        };
        assert_eq!(conflict(store.commit(late(), 0).await), 1);
        assert_eq!(conflict(store.commit(late(), 2).await), 1);
        assert_eq!(store.load().await.unwrap(), before);
        assert_eq!(store.entries(None, 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn what_a_source_said_changes_by_steps_and_goes_with_it() {
    both(async |store| {
        let of = |base, forget: &[&str]| Transaction {
            base: Some(base),
            forget: forget.iter().map(|&source| source.to_owned()).collect(),
            ..Transaction::default()
        };
        store.commit(of(say("b", 1), &[]), 0).await.unwrap();
        store.commit(of(say("a", 2), &[]), 1).await.unwrap();
        let changed = BaseChange {
            changes: vec![
                put(8, json!({})),
                put(7, json!({})),
                Change::Delete(key(8)),
                Change::Delete(key(6)),
            ],
            ..say("b", u64::MAX)
        };
        store.commit(of(changed, &[]), 2).await.unwrap();
        let bases = store.load().await.unwrap().bases;
        let mut b = base("b", u64::MAX);
        b.entities.insert(0, (key(7), values(json!({}))));
        assert_eq!(bases, [base("a", 2), b]);
        let fields: Vec<&String> = bases[0].entities[0].1.keys().collect();
        assert_eq!(fields, ["z", "a"], "the order of fields is kept");
        let renamed = of(say("b2", 4), &["b", "unknown"]);
        store.commit(renamed, 3).await.unwrap();
        let bases = store.load().await.unwrap().bases;
        assert_eq!(bases, [base("a", 2), base("b2", 4)], "of names that begin alike");
        let anew = of(say("b2", 5), &["a", "b2"]);
        store.commit(anew, 4).await.unwrap();
        assert_eq!(store.load().await.unwrap().bases, [base("b2", 5)]);
    })
    .await;
}

#[tokio::test]
async fn notes_are_put_and_deleted_without_a_number() {
    both(async |store| {
        let id = Uuid::from_u128;
        let notes = vec![(id(2), Some(json!({"at": 5}))), (id(1), Some(json!(7)))];
        store.note(notes).await.unwrap();
        store.note(vec![(id(2), None), (id(3), None)]).await.unwrap();
        let loaded = store.load().await.unwrap();
        assert_eq!((loaded.revision, loaded.notes), (0, vec![(id(1), json!(7))]));
    })
    .await;
}

#[tokio::test]
async fn entries_come_newest_first_in_pages_of_whole_commits() {
    both(async |store| {
        store.commit(entries(&["a"]), 0).await.unwrap();
        store.commit(entries(&["b", "c", "d"]), 1).await.unwrap();
        store.commit(Transaction::default(), 2).await.unwrap();
        store.commit(entries(&["e"]), 3).await.unwrap();
        let expect = |expected: &[(u64, &str)]| -> Vec<(u64, String)> {
            expected
                .iter()
                .map(|(at, what)| (*at, what.to_string()))
                .collect()
        };
        let store = &*store;
        assert_eq!(page(store, None, 0).await, []);
        assert_eq!(page(store, None, 1).await, expect(&[(4, "e")]));
        let second = expect(&[(2, "d"), (2, "c"), (2, "b")]);
        assert_eq!(page(store, Some(4), 1).await, second);
        assert_eq!(page(store, Some(3), 2).await, second);
        assert_eq!(page(store, Some(2), 5).await, expect(&[(1, "a")]));
        assert_eq!(page(store, Some(1), 5).await, []);
        assert_eq!(page(store, Some(0), 5).await, []);
        assert_eq!(page(store, None, 100).await.len(), 5);
        let mut first = store.entries(Some(2), 1).await.unwrap().remove(0);
        first.revision = 0;
        assert_eq!(first, entry("a"));
    })
    .await;
}

#[tokio::test]
async fn the_audit_trail_keeps_the_newest_entries() {
    both(async |store| {
        for revision in 0..8 {
            store.commit(entries(&["a", "b"]), revision).await.unwrap();
        }
        let page = page(&*store, None, 100).await;
        assert_eq!(page.len(), 10);
        assert_eq!(page.last(), Some(&(4, "a".to_owned())));
        match store.watch(2).await {
            Err(StoreError::HistoryGone { from: 2, oldest: 3 }) => {}
            other => panic!("{other:?}"),
        }
        let mut watch = store.watch(3).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 4);
    })
    .await;
}

#[tokio::test]
async fn a_watcher_that_falls_behind_the_audit_trail_is_told() {
    both(async |store| {
        let mut watch = store.watch(0).await.unwrap();
        for revision in 0..12 {
            store.commit(entries(&["a"]), revision).await.unwrap();
        }
        for _ in 0..2 {
            let next = watch.next().await.unwrap();
            assert!(matches!(
                next,
                Err(StoreError::HistoryGone { from: 0, oldest: 2 })
            ));
        }
    })
    .await;
}

#[tokio::test]
async fn a_watcher_sees_entries_in_order_and_commits_without_any() {
    both(async |store| {
        store.commit(entries(&["a", "b"]), 0).await.unwrap();
        let mut watch = store.watch(0).await.unwrap();
        store.commit(Transaction::default(), 1).await.unwrap();
        store.commit(entries(&["c"]), 2).await.unwrap();
        for (revision, expected) in [(1, vec!["a", "b"]), (2, vec![]), (3, vec!["c"])] {
            let committed = watch.next().await.unwrap().unwrap();
            assert_eq!(committed.revision, revision);
            let whats: Vec<&str> = committed.entries.iter().map(|entry| &*entry.what).collect();
            assert_eq!(whats, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watcher_ends_with_its_store() {
    let memory = Memory::new();
    let mut watch = memory.watch(0).await.unwrap();
    let waiting = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    drop(memory);
    assert!(waiting.await.unwrap().is_none());
}

/// Watchers begin anywhere while commits go on, one of them gives up waiting again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_watcher_misses_a_commit_or_sees_one_twice() {
    const LAST: u64 = 400;
    let disk = Embedded::over(Path::new("store"), Arc::new(Disk::default()), 1000).unwrap();
    for store in [Arc::new(Memory::new()) as Arc<dyn Store>, Arc::new(disk)] {
        for revision in 0..20 {
            store.commit(entries(&["x"]), revision).await.unwrap();
        }
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                for revision in 20..LAST {
                    let what = (revision + 1).to_string();
                    store.commit(entries(&[&what]), revision).await.unwrap();
                }
            }
        });
        let watchers = [0, 7, 19, 20, 21, 150].map(|from| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut watch = store.watch(from).await.unwrap();
                let mut seen = Vec::new();
                // Every other time, or on a busy machine no reading would ever come to its end.
                let mut gives_up = false;
                while seen.last() != Some(&LAST) {
                    gives_up = from == 7 && !gives_up;
                    tokio::select! {
                        biased;
                        () = tokio::task::yield_now(), if gives_up => {}
                        next = watch.next() => {
                            let committed = next.unwrap().unwrap();
                            if committed.revision > 20 {
                                assert_eq!(committed.entries[0].what, committed.revision.to_string());
                            }
                            seen.push(committed.revision);
                        }
                    }
                }
                assert_eq!(seen, (from + 1..=LAST).collect::<Vec<_>>());
            })
        });
        writer.await.unwrap();
        for watcher in watchers {
            watcher.await.unwrap();
        }
    }
}

/// Each of two writers adds one, a thousand times, to what it has read; whoever comes second begins
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_lose_no_update() {
    const ROUNDS: u64 = 1000;
    both(async |store| {
        let writers = [1, 2].map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    loop {
                        let loaded = store.load().await.unwrap();
                        let count = (loaded.entities.first())
                            .map_or(0, |(_, values)| values["count"].as_u64().unwrap());
                        let next = change(put(1, json!({"count": count + 1})));
                        match store.commit(next, loaded.revision).await {
                            Ok(revision) => break assert_eq!(revision, loaded.revision + 1),
                            Err(CommitError::Conflict { actual }) => assert!(actual > loaded.revision),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        });
        for writer in writers {
            writer.await.unwrap();
        }
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.revision, 2 * ROUNDS);
        assert_eq!(loaded.entities[0].1["count"], json!(2 * ROUNDS));
    })
    .await;
}
