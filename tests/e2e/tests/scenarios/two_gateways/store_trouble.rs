//! The store of transcripts is slow, then full. No reply is given out that is not stored: its client is told so and asks again.

use std::sync::Arc;
use std::time::Duration;

use paddock_api::Session;
use paddock_e2e::http::Unanswered;
use paddock_e2e::ledger::Turn;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, measure, wait};
use paddock_testkit::postgres::Server;

use super::tell;

const DATABASE: &str = "postgres";
/// Longer than a gateway waits for its store.
const STALL: &str = "30";
/// Room for what the scenario has said so far, and more.
const DISK: usize = 48 << 20;

/// Returns what was said.
pub async fn run(s: &Scenario, sessions: &[Session], server: &Arc<Server>) -> Vec<Turn> {
    let mut turns = stalls(s, sessions, server).await;
    turns.extend(fills_up(s, sessions, server).await);
    turns
}

/// Somebody holds a lock for half a minute.
async fn stalls(s: &Scenario, sessions: &[Session], server: &Arc<Server>) -> Vec<Turn> {
    let lock = format!(
        "BEGIN; LOCK TABLE transcript_entries IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({STALL}); COMMIT"
    );
    let (held, begun) = (Arc::clone(server), std::time::Instant::now());
    let holder = tokio::task::spawn_blocking(move || held.sql(DATABASE, &[&lock]));
    wait::until("the table is locked", LIVENESS, async || {
        let probe = "SET lock_timeout = 100; SELECT 1 FROM transcript_entries LIMIT 1";
        let server = Arc::clone(server);
        let free =
            tokio::task::spawn_blocking(move || server.sql(DATABASE, &[probe])).await.expect("no panic");
        free.is_err().then_some(()).ok_or_else(|| "it is free".to_owned())
    })
    .await;
    let told = say(s, sessions, "stall").await;
    holder.await.expect("no panic").expect("the lock was held");
    assert!(told.iter().any(|(_, again)| *again > 0), "nobody was told that the store is slow");
    assert!(begun.elapsed() >= Duration::from_secs(STALL.parse().expect("a number")));
    measure::times("the store stalls for 30 s→all answered", &[begun.elapsed()]);
    told.into_iter().map(|(turn, _)| turn).collect()
}

/// The disk of the table is full, until somebody makes room.
async fn fills_up(s: &Scenario, sessions: &[Session], server: &Arc<Server>) -> Vec<Turn> {
    let disk = sql(server, move |server| Ok(server.small_disk("small", DISK))).await.expect("a disk");
    let moved = sql(server, |server| {
        server.sql(
            DATABASE,
            &[
                "ALTER TABLE transcript_entries SET TABLESPACE small",
                "CREATE TABLE ballast (filler TEXT) TABLESPACE small",
                "ALTER TABLE ballast ALTER COLUMN filler SET STORAGE PLAIN",
            ],
        )
    });
    moved.await.expect("the table moves");
    // In pieces that get smaller: what is left at the end is less than a page.
    for rows in [1_000, 100, 10, 1] {
        let fill = format!("INSERT INTO ballast SELECT repeat('x', 7000) FROM generate_series(1, {rows})");
        let filled = sql(server, move |server| {
            for _ in 0..100_000 {
                server.sql(DATABASE, &[&fill])?;
            }
            Ok(())
        });
        let refused = filled.await.expect_err("a disk of this size is full before");
        assert!(refused.contains("No space left on device"), "{refused}");
    }
    // What fits into a page that was begun is still stored, so it takes some turns until the first is refused.
    let refused = wait::until("a client is told that its reply is not stored", LIVENESS, async || {
        let (session, mark) = (name_of(&sessions[0]), s.word("probe"));
        match s.http.try_once(&session, &mark, &mark).await {
            Err(Unanswered::ForNow(why)) => Ok(why),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(refused.starts_with("503") && refused.contains("transcript_unavailable"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    s.log(&format!("the store is full: {refused}"));

    let room = async {
        // Those who wait are told so again and again meanwhile.
        tokio::time::sleep(Duration::from_secs(5)).await;
        sql(server, |server| server.sql(DATABASE, &["DROP TABLE ballast"])).await.expect("room");
    };
    let (told, ()) = tokio::join!(say(s, sessions, "full"), room);
    assert!(told.iter().any(|(_, again)| *again > 0), "nobody was told that the store is full");
    let back = sql(server, |server| {
        server.sql(DATABASE, &["ALTER TABLE transcript_entries SET TABLESPACE pg_default"])
    });
    back.await.expect("the table moves back");
    drop(disk);
    told.into_iter().map(|(turn, _)| turn).collect()
}

async fn sql<T: Send + 'static>(
    server: &Arc<Server>,
    run: impl FnOnce(&Server) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || run(&server)).await.expect("no panic")
}

/// One turn in each session, and how often each was sent again.
async fn say(s: &Scenario, sessions: &[Session], word: &str) -> Vec<(Turn, usize)> {
    let turns = sessions.iter().map(async |session| {
        let mark = s.word(&format!("{word}x{}x", s.nonce()));
        tell(s, &name_of(session), 0, &mark).await
    });
    futures::future::join_all(turns).await
}
