//! Many at once, in any order.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::join_all;
use paddock_transcripts::{SqlStore, StoreError, TranscriptStore};

use crate::place::{Place, assert_holds, batch};

crate::on_both_databases!(
    two_stores_and_many_tasks_store_each_entry_once,
    the_same_batch_from_everywhere_is_stored_once,
    a_caller_that_goes_away_harms_nobody,
);

const THROUGH: u64 = 60;

/// Brings one session's journal to its end in random steps, as somebody does who knows little of the others.
async fn follow(store: Arc<SqlStore>, uid: String, mut random: fastrand::Rng) {
    let mut stored = 0;
    while stored < THROUGH {
        // From somewhere behind, or from too far ahead.
        let after = random.u64(stored.saturating_sub(8)..=(stored + 1).min(THROUGH - 1));
        let through = random.u64(after..=(after + 12).min(THROUGH));
        match store.append(&batch(&uid, 1, after, through)).await {
            Ok(now) => {
                assert!(now >= through);
                stored = now;
            }
            Err(StoreError::Gap { stored: now, .. }) => {
                assert!(now < after);
                stored = now;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn two_stores_and_many_tasks_store_each_entry_once(place: Place) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stores = [Arc::new(place.open().await), Arc::new(place.open().await)];
    let tasks = (0..24).map(|number| {
        let store = Arc::clone(&stores[number % 2]);
        tokio::spawn(follow(store, format!("session-{}", number % 4), random.fork()))
    });
    for result in join_all(tasks).await {
        result.unwrap();
    }
    for number in 0..4 {
        assert_holds(&stores[0], &format!("session-{number}"), 1, THROUGH).await;
    }
    assert_eq!(place.count("transcript_entries").await, 4 * THROUGH as i64);
}

async fn the_same_batch_from_everywhere_is_stored_once(place: Place) {
    let stores = [Arc::new(place.open().await), Arc::new(place.open().await)];
    for round in 0..10 {
        let tasks = (0..8).map(|number| {
            let store = Arc::clone(&stores[number % 2]);
            tokio::spawn(async move { store.append(&batch("a", round, 0, 5)).await })
        });
        for result in join_all(tasks).await {
            assert_eq!(result.unwrap().unwrap(), 5);
        }
    }
    assert_eq!(place.count("transcript_entries").await, 50);
}

async fn a_caller_that_goes_away_harms_nobody(place: Place) {
    let store = place.open().await;
    for through in 1..=40 {
        let next = batch("a", 1, through - 1, through);
        {
            let mut call = store.append(&next);
            // As many steps as it may, then it is dropped wherever it is.
            for _ in 0..through {
                if (&mut call).now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(store.append(&next).await.unwrap(), through);
    }
    assert_holds(&store, "a", 1, 40).await;
}
