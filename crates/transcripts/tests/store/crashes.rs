//! What was answered is there, whatever happens to the program next.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use paddock_transcripts::TranscriptStore;

use crate::place::{Kind, Place, assert_holds, batch, open, runtime};

crate::on_both_databases!(what_was_stored_outlives_the_store, what_was_stored_outlives_the_program);

const URL: &str = "PADDOCK_TEST_TRANSCRIPTS_VICTIM";

async fn what_was_stored_outlives_the_store(place: Place) {
    for through in 1..=5 {
        let store = place.open().await;
        assert_eq!(store.append(&batch("a", 1, through - 1, through)).await.unwrap(), through);
        assert_holds(&store, "a", 1, through).await;
    }
}

async fn what_was_stored_outlives_the_program(place: Place) {
    for through in 1..=3 {
        // This program again, to do nothing but what `victim` does.
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim
            .args(["--exact", "crashes::victim", "--nocapture"])
            .env(URL, format!("{through} {}", place.url));
        let mut victim = victim.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let stored = lines.map_while(Result::ok).any(|line| line.ends_with("stored"));
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(stored, "the other program has stored nothing");
        assert_holds(&place.open().await, "a", 1, through).await;
    }
    if place.kind == Kind::Sqlite {
        // It had no time to tidy up.
        assert!(place.folder().join("transcripts.db").exists());
    }
}

/// Stores one entry, tells, and waits for its end.
#[test]
fn victim() {
    let Ok(order) = std::env::var(URL) else { return };
    let (through, url) = order.split_once(' ').unwrap();
    let through: u64 = through.parse().unwrap();
    runtime().block_on(async {
        let store = open(url, std::time::Duration::from_secs(60)).await.unwrap();
        store.append(&batch("a", 1, through - 1, through)).await.unwrap();
        // In one piece, whatever the test runner writes.
        std::io::stdout().write_all(b"\nstored\n").unwrap();
        // Nobody writes; this ends with the program that started this one.
        let _ = std::io::stdin().read_line(&mut String::new());
    });
}
