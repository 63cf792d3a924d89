//! What is stored once stays, and is stored once.

use jiff::Timestamp;
use paddock_transcripts::{Batch, Entry, EntryKind, Position, StoreError, TranscriptStore};

use crate::place::{Place, assert_holds, batch, discreet, entry, session, transcript};

crate::on_both_databases!(
    a_batch_comes_back_as_it_was,
    a_repeated_batch_changes_nothing,
    an_overlap_adds_only_what_is_new,
    a_gap_is_told_and_nothing_stored,
    a_stretch_without_entries_counts_as_stored,
    what_is_not_in_order_is_not_stored,
    journals_are_counted_apart,
    sessions_are_kept_apart,
    any_text_is_kept_to_the_letter,
);

async fn a_batch_comes_back_as_it_was(place: Place) {
    let store = place.open().await;
    assert_eq!(store.stored("a").await.unwrap(), None);
    assert_eq!(store.stored_in("a", 1).await.unwrap(), 0);
    assert_eq!(store.append(&batch("a", 1, 0, 5)).await.unwrap(), 5);
    assert_eq!(store.stored("a").await.unwrap(), Some(Position { journal: 1, seq: 5 }));
    assert_eq!(store.append(&batch("a", 1, 5, 7)).await.unwrap(), 7);
    assert_holds(&store, "a", 1, 7).await;
}

async fn a_repeated_batch_changes_nothing(place: Place) {
    let store = place.open().await;
    for _ in 0..3 {
        assert_eq!(store.append(&batch("a", 1, 0, 5)).await.unwrap(), 5);
    }
    // Also when others have gone on meanwhile.
    assert_eq!(store.append(&batch("a", 1, 5, 9)).await.unwrap(), 9);
    assert_eq!(store.append(&batch("a", 1, 0, 5)).await.unwrap(), 9);
    assert_holds(&store, "a", 1, 9).await;
}

async fn an_overlap_adds_only_what_is_new(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 5)).await.unwrap();
    let mut overlap = batch("a", 1, 2, 8);
    for entry in overlap.entries.iter_mut().take(3) {
        entry.body = "another story".to_owned();
    }
    assert_eq!(store.append(&overlap).await.unwrap(), 8);
    assert_holds(&store, "a", 1, 8).await;
}

async fn a_gap_is_told_and_nothing_stored(place: Place) {
    let store = place.open().await;
    let error = discreet(store.append(&batch("a", 1, 3, 6)).await.unwrap_err());
    assert_eq!(error, StoreError::Gap { stored: 0, after: 3 });
    assert_eq!(store.stored("a").await.unwrap(), None);
    assert_eq!(place.count("transcript_sessions").await, 0);

    store.append(&batch("a", 1, 0, 5)).await.unwrap();
    let error = discreet(store.append(&batch("a", 1, 7, 9)).await.unwrap_err());
    assert_eq!(error, StoreError::Gap { stored: 5, after: 7 });
    assert_eq!(error.reason(), "gap");
    assert_holds(&store, "a", 1, 5).await;
    // The way out that the error names.
    assert_eq!(store.append(&batch("a", 1, 5, 9)).await.unwrap(), 9);
    assert_holds(&store, "a", 1, 9).await;
}

async fn a_stretch_without_entries_counts_as_stored(place: Place) {
    let store = place.open().await;
    let empty = |after, through| Batch { entries: Vec::new(), ..batch("a", 1, after, through) };
    assert_eq!(store.append(&empty(0, 0)).await.unwrap(), 0);
    assert_eq!(store.stored("a").await.unwrap(), None);
    assert_eq!(store.append(&empty(0, 4)).await.unwrap(), 4);
    assert_eq!(store.stored("a").await.unwrap(), Some(Position { journal: 1, seq: 4 }));
    assert!(transcript(&store, "a").await.is_empty());
    // What was not among those entries is not added later.
    assert_eq!(store.append(&batch("a", 1, 0, 5)).await.unwrap(), 5);
    assert_eq!(transcript(&store, "a").await, [(Position { journal: 1, seq: 5 }, entry(1, 5))]);
}

async fn what_is_not_in_order_is_not_stored(place: Place) {
    let store = place.open().await;
    let with = |seqs: &[u64]| Batch {
        entries: seqs.iter().map(|seq| entry(1, *seq)).collect(),
        ..batch("a", 1, 0, 5)
    };
    for seqs in [&[2, 1][..], &[1, 1], &[0, 1], &[1, 6]] {
        let error = discreet(store.append(&with(seqs)).await.unwrap_err());
        assert_eq!(error.reason(), "invalid", "{seqs:?}");
    }
    assert_eq!(store.stored("a").await.unwrap(), None);
    assert_eq!(place.count("transcript_entries").await, 0);
}

async fn journals_are_counted_apart(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 4)).await.unwrap();
    store.append(&batch("a", 3, 0, 2)).await.unwrap();
    assert_eq!(store.stored("a").await.unwrap(), Some(Position { journal: 3, seq: 2 }));
    // The old journal's end may come late; it is at its place all the same.
    store.append(&batch("a", 1, 4, 6)).await.unwrap();
    assert_eq!(store.stored("a").await.unwrap(), Some(Position { journal: 3, seq: 2 }));
    assert_eq!(store.stored_in("a", 1).await.unwrap(), 6);
    assert_eq!(store.stored_in("a", 2).await.unwrap(), 0);
    let found: Vec<_> =
        transcript(&store, "a").await.into_iter().map(|(at, _)| (at.journal, at.seq)).collect();
    assert_eq!(found, [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (3, 1), (3, 2)]);
}

async fn sessions_are_kept_apart(place: Place) {
    let store = place.open().await;
    // A later session may have the name of one that is gone.
    let mut namesake = batch("b", 1, 0, 2);
    namesake.session.name = session("a").name;
    store.append(&batch("a", 1, 0, 5)).await.unwrap();
    store.append(&namesake).await.unwrap();
    assert_holds(&store, "a", 1, 5).await;
    assert_holds(&store, "b", 1, 2).await;
    assert!(transcript(&store, "c").await.is_empty());
}

async fn any_text_is_kept_to_the_letter(place: Place) {
    let store = place.open().await;
    let bodies = [
        "",
        "{}",
        r#"{"text":"it's \"quoted\" \\ \u0000 $1 ? %s; DROP TABLE transcript_entries; --"}"#,
        "{\"text\":\"Grüße, 你好, \u{1f40e}\u{200d}, \u{10ffff}, line\nline\ttab\u{7f}\u{1}\"}",
    ];
    let entries = bodies.iter().zip(1..).map(|(body, seq)| Entry {
        seq,
        turn: format!("turn '{seq}' \u{1f40e}"),
        kind: EntryKind::Messages,
        at: Timestamp::from_nanosecond(1_700_000_000_123_456_789 + i128::from(seq)).unwrap(),
        body: (*body).to_owned(),
    });
    let through = i64::MAX as u64;
    let whole = Batch { entries: entries.collect(), through, ..batch("a \u{1f40e}", u32::MAX, 0, 0) };
    assert_eq!(store.append(&whole).await.unwrap(), through);
    let found = transcript(&store, "a \u{1f40e}").await;
    assert_eq!(found.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(), whole.entries);
    let turn = store.turn("a \u{1f40e}", &whole.entries[2].turn).await.unwrap();
    assert_eq!(turn, [(Position { journal: u32::MAX, seq: 3 }, whole.entries[2].clone())]);
}
