//! Sessions are forgotten as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use jiff::Timestamp;
use paddock_transcripts::{Batch, Entry, StoreError, TranscriptStore};
use sqlx::Connection;

use crate::place::{Kind, Place, assert_holds, batch, entry, transcript, with_place};

crate::on_both_databases!(
    only_what_is_old_is_forgotten,
    a_forgotten_session_may_begin_anew,
    what_is_forgotten_makes_room,
    what_an_interrupted_call_left_is_removed,
    a_session_is_never_half_forgotten,
);

fn later() -> Timestamp {
    "2200-01-01T00:00:00Z".parse().unwrap()
}

async fn only_what_is_old_is_forgotten(place: Place) {
    let store = place.open().await;
    for uid in ["old", "active"] {
        store.append(&batch(uid, 1, 0, 3)).await.unwrap();
    }
    let now = Timestamp::now();
    store.append(&batch("active", 1, 3, 5)).await.unwrap();
    store.append(&batch("new", 1, 0, 2)).await.unwrap();
    // Nothing of this is new.
    store.append(&batch("old", 1, 0, 3)).await.unwrap();
    assert_eq!(store.prune(now).await.unwrap(), 1);
    assert_eq!(store.stored("old").await.unwrap(), None);
    assert!(transcript(&store, "old").await.is_empty());
    assert!(store.turn("old", "turn-0").await.unwrap().is_empty());
    assert_holds(&store, "active", 1, 5).await;
    assert_holds(&store, "new", 1, 2).await;
    assert_eq!(store.prune(now).await.unwrap(), 0);
}

async fn a_forgotten_session_may_begin_anew(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 5)).await.unwrap();
    assert_eq!(store.prune(later()).await.unwrap(), 1);
    let error = store.append(&batch("a", 1, 5, 6)).await.unwrap_err();
    assert_eq!(error, StoreError::Gap { stored: 0, after: 5 });
    store.append(&batch("a", 1, 0, 6)).await.unwrap();
    assert_holds(&store, "a", 1, 6).await;
}

async fn what_is_forgotten_makes_room(place: Place) {
    let store = place.open().await;
    for number in 0..130 {
        store.append(&batch(&format!("small-{number}"), 1, 0, 2)).await.unwrap();
    }
    // More than is removed at once, in entries and in bytes.
    store.append(&batch("long", 1, 0, 1_500)).await.unwrap();
    let entries = (1..=4).map(|seq| Entry { body: "x".repeat(20 << 20), ..entry(1, seq) }).collect();
    store.append(&Batch { entries, ..batch("large", 1, 0, 4) }).await.unwrap();
    assert_eq!(store.prune(later()).await.unwrap(), 132);
    for table in ["sessions", "journals", "entries", "forgotten"] {
        assert_eq!(place.count(&format!("transcript_{table}")).await, 0, "{table}");
    }
}

async fn what_an_interrupted_call_left_is_removed(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 5)).await.unwrap();
    place.execute("INSERT INTO transcript_forgotten SELECT id FROM transcript_sessions").await;
    place.execute("DELETE FROM transcript_sessions").await;
    place.execute("DELETE FROM transcript_journals").await;
    assert!(transcript(&store, "a").await.is_empty());
    // The old entries are still there, and not in the way.
    store.append(&batch("a", 1, 0, 3)).await.unwrap();
    assert_eq!(store.prune(Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    assert_holds(&store, "a", 1, 3).await;
    assert_eq!(place.count("transcript_entries").await, 3);
    assert_eq!(place.count("transcript_forgotten").await, 0);
}

async fn a_session_is_never_half_forgotten(place: Place) {
    let store = Arc::new(place.open().await);
    // Another gateway's.
    let other = place.open().await;
    let done = AtomicBool::new(false);
    let forget = async {
        while !done.load(Ordering::Relaxed) {
            other.prune(later()).await.unwrap();
        }
    };
    let grow = join_all((0..3).map(|number| {
        let (store, uid) = (&store, format!("s-{number}"));
        async move {
            for _ in 0..25 {
                let stored = store.stored_in(&uid, 1).await.unwrap();
                match store.append(&batch(&uid, 1, stored, stored + 3)).await {
                    Ok(through) => assert_eq!(through, stored + 3),
                    Err(StoreError::Gap { stored: 0, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                let whole = store.entries(&uid, None, usize::MAX).await.unwrap();
                let seqs: Vec<_> = whole.iter().map(|(position, _)| position.seq).collect();
                assert_eq!(seqs, (1..=whole.len() as u64).collect::<Vec<_>>());
            }
        }
    }));
    let grow = async {
        grow.await;
        done.store(true, Ordering::Relaxed);
    };
    futures::join!(grow, forget);
    store.prune(later()).await.unwrap();
    assert_eq!(place.count("transcript_entries").await, 0);
}

#[test]
fn what_was_appended_meanwhile_is_kept() {
    with_place(Kind::Postgres, |place| async move {
        let store = place.open().await;
        store.append(&batch("a", 1, 0, 3)).await.unwrap();
        let now = Timestamp::now();
        // Somebody is about to append.
        let mut other = place.connect().await;
        let mut transaction = other.begin().await.unwrap();
        let later =
            sqlx::query("UPDATE transcript_sessions SET appended_at = $1").bind(now.as_microsecond() + 1);
        later.execute(&mut *transaction).await.unwrap();
        let prune = store.prune(now);
        let finish = async {
            while place.count("pg_stat_activity WHERE wait_event_type = 'Lock'").await == 0 {
                tokio::task::yield_now().await;
            }
            transaction.commit().await.unwrap();
        };
        let (forgotten, ()) = futures::join!(prune, finish);
        assert_eq!(forgotten.unwrap(), 0);
        assert_holds(&store, "a", 1, 3).await;
    });
}
