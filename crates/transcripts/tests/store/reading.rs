//! Pages and turns.

use paddock_transcripts::{Batch, Entry, MAX_BODY_BYTES, Position, TranscriptStore};

use crate::place::{Place, batch, entry};

crate::on_both_databases!(
    a_page_has_as_much_as_was_asked_for,
    a_page_has_one_entry_at_least,
    a_long_transcript_is_read_to_its_end,
    the_largest_body_is_kept,
    a_turn_is_found_in_all_journals,
    there_is_nothing_behind_the_end,
);

/// A batch whose bodies have these sizes.
fn sized(sizes: &[usize]) -> Batch {
    let entries = sizes.iter().zip(1..).map(|(size, seq)| {
        let letter = char::from(b'a' + (seq % 26) as u8);
        Entry { body: letter.to_string().repeat(*size), ..entry(1, seq) }
    });
    Batch { entries: entries.collect(), ..batch("a", 1, 0, sizes.len() as u64) }
}

fn seqs(page: &[(Position, Entry)]) -> Vec<u64> {
    page.iter().map(|(position, _)| position.seq).collect()
}

async fn a_page_has_as_much_as_was_asked_for(place: Place) {
    let store = place.open().await;
    let whole = sized(&[10, 20, 30, 40, 50]);
    store.append(&whole).await.unwrap();
    assert_eq!(seqs(&store.entries("a", None, 60).await.unwrap()), [1, 2, 3]);
    assert_eq!(seqs(&store.entries("a", None, 59).await.unwrap()), [1, 2]);
    assert_eq!(seqs(&store.entries("a", None, usize::MAX).await.unwrap()), [1, 2, 3, 4, 5]);
    let page = store.entries("a", Some(Position { journal: 1, seq: 3 }), 90).await.unwrap();
    assert_eq!(page.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(), whole.entries[3..]);
}

async fn a_page_has_one_entry_at_least(place: Place) {
    let store = place.open().await;
    store.append(&sized(&[3_000_000, 0, 0, 5_000_000])).await.unwrap();
    assert_eq!(seqs(&store.entries("a", None, 0).await.unwrap()), [1]);
    // Entries without a body need no room.
    let rest = store.entries("a", Some(Position { journal: 1, seq: 1 }), 0).await.unwrap();
    assert_eq!(seqs(&rest), [2, 3]);
    let rest = store.entries("a", Some(Position { journal: 1, seq: 3 }), 1_000_000).await.unwrap();
    assert_eq!((seqs(&rest), rest[0].1.body.len()), (vec![4], 5_000_000));
}

async fn a_long_transcript_is_read_to_its_end(place: Place) {
    let store = place.open().await;
    // More than one look at the sizes is for.
    store.append(&batch("a", 1, 0, 2_500)).await.unwrap();
    let mut read = Vec::new();
    loop {
        let after = read.last().map(|seq| Position { journal: 1, seq: *seq });
        let page = store.entries("a", after, usize::MAX).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(seqs(&page));
    }
    assert_eq!(read, (1..=2_500).collect::<Vec<_>>());
}

async fn the_largest_body_is_kept(place: Place) {
    let store = place.open().await;
    let whole = sized(&[1, MAX_BODY_BYTES, 1]);
    assert_eq!(store.append(&whole).await.unwrap(), 3);
    assert_eq!(seqs(&store.entries("a", None, 1 << 20).await.unwrap()), [1]);
    let page = store.entries("a", Some(Position { journal: 1, seq: 1 }), 1 << 20).await.unwrap();
    assert!(page.len() == 1 && page[0].1 == whole.entries[1], "it is not what was stored");
}

async fn a_turn_is_found_in_all_journals(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 8)).await.unwrap();
    store.append(&batch("a", 2, 0, 4)).await.unwrap();
    store.append(&batch("b", 1, 0, 4)).await.unwrap();
    let expected = |journal, seq| (Position { journal, seq }, entry(journal, seq));
    let turn = store.turn("a", "turn-1").await.unwrap();
    assert_eq!(turn, [expected(1, 3), expected(1, 4), expected(1, 5), expected(2, 3), expected(2, 4)]);
    assert!(store.turn("a", "turn-9").await.unwrap().is_empty());
    assert!(store.turn("c", "turn-1").await.unwrap().is_empty());
}

async fn there_is_nothing_behind_the_end(place: Place) {
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 3)).await.unwrap();
    for after in [(1, 3), (1, u64::MAX), (u32::MAX, 0)] {
        let after = Position { journal: after.0, seq: after.1 };
        assert!(store.entries("a", Some(after), 1_000).await.unwrap().is_empty(), "{after}");
    }
}
