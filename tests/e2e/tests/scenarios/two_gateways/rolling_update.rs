//! The gateways are replaced one after the other while clients talk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use paddock_api::Session;
use paddock_e2e::ledger::Turn;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{Scenario, measure};

use super::tell;

/// So many at a time talk to one session.
const CLIENTS: usize = 2;
/// So many turns each of them has at least, some with the new gateways.
const LEAST: usize = 3;

/// Returns what was said.
pub async fn run(s: &Scenario, sessions: &[Session]) -> Vec<Turn> {
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let talkers = sessions.iter().flat_map(|session| (0..CLIENTS).map(|client| (name_of(session), client)));
    let talk =
        futures::future::join_all(talkers.map(|(session, client)| converse(s, session, client, &done)));
    let replace = async {
        let deployment = format!("deployment/{}-gateway", s.env.release);
        s.kubectl.run(&["rollout", "restart", &deployment]).await.succeeded();
        s.kubectl.run(&["rollout", "status", &deployment, "--timeout=4m"]).await.succeeded();
        done.store(true, Ordering::Relaxed);
    };
    let (talked, ()) = tokio::join!(talk, replace);
    measure::times("both gateways replaced under load", &[begun.elapsed()]);
    let again: usize = talked.iter().map(|(_, again)| again).sum();
    let turns: Vec<Turn> = talked.into_iter().flat_map(|(turns, _)| turns).collect();
    s.log(&format!(
        "{} turns while both gateways were replaced; {again} requests were sent again",
        turns.len()
    ));
    turns
}

async fn converse(s: &Scenario, session: String, client: usize, done: &AtomicBool) -> (Vec<Turn>, usize) {
    let (mut turns, mut again) = (Vec::new(), 0);
    while !done.load(Ordering::Relaxed) || turns.len() < LEAST {
        let mark = s.word(&format!("roll{client}x{}x", s.nonce()));
        let (turn, times) = tell(s, &session, client, &mark).await;
        turns.push(turn);
        again += times;
    }
    (turns, again)
}
