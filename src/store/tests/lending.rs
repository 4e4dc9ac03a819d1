//! A store that another process has for a while.

use super::*;

/// Makes a store of revision 1 in a file.
async fn one(path: &Path) -> Embedded {
    let store = Embedded::open(path).unwrap();
    store.commit(Transaction::default(), 0).await.unwrap();
    store
}

#[tokio::test]
async fn a_lent_store_opens_elsewhere_and_comes_back_with_what_was_written_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let store = Arc::new(one(&path).await);
    assert!(matches!(Embedded::open(&path), Err(StoreError::Locked { .. })));
    store.lend().await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(Transaction::default(), 2).await }
    });
    {
        let other = Embedded::open(&path).unwrap();
        assert_eq!(other.commit(Transaction::default(), 1).await.unwrap(), 2);
        // Whoever looks here meanwhile must not open what another one writes.
        assert!(matches!(store.load().await, Err(StoreError::Locked { .. })));
        assert!(matches!(store.revision().await, Err(StoreError::Locked { .. })));
        assert!(!waiting.is_finished());
    }
    store.reclaim().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 3);
    assert_eq!(store.revision().await.unwrap(), 3);
    assert!(matches!(Embedded::open(&path), Err(StoreError::Locked { .. })));
}

#[tokio::test]
async fn a_store_that_the_other_one_keeps_is_taken_back_by_the_first_write_after_it_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let store = one(&path).await;
    store.lend().await;
    let other = Embedded::open(&path).unwrap();
    assert!(matches!(store.reclaim().await, Err(StoreError::Locked { .. })));
    let refused = store.commit(Transaction::default(), 1).await;
    assert!(matches!(
        refused,
        Err(CommitError::Store(StoreError::Locked { .. }))
    ));
    drop(other);
    assert_eq!(store.commit(Transaction::default(), 1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_format_that_only_the_other_one_knows_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.store");
    let store = one(&path).await;
    store.lend().await;
    opening::set_format(&path, 7);
    let error = store.reclaim().await.unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 7, .. }), "{error}");
    let refused = store.commit(Transaction::default(), 1).await;
    assert!(matches!(
        refused,
        Err(CommitError::Store(StoreError::Format { .. }))
    ));
}

#[tokio::test]
async fn memory_has_nothing_to_lend() {
    let store = Memory::new();
    store.lend().await;
    let commit = store.commit(Transaction::default(), 0);
    let revision = tokio::time::timeout(Duration::from_secs(5), commit)
        .await
        .unwrap();
    assert_eq!(revision.unwrap(), 1);
    store.reclaim().await.unwrap();
}
