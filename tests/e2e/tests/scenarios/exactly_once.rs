//! Five hundred turns while gateways, runners and connections are killed: each reaches the harness at most once, and every
//! reply that a client was given is kept.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paddock_api::{Phase, Session};
use paddock_e2e::http::Unanswered;
use paddock_e2e::ledger::{Seen, Told, Turn, faults};
use paddock_e2e::persistence::RETRY;
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, processes, scenario, wait};
use reqwest::Method;
use serde_json::{Value, json};

const SESSIONS: usize = 5;
/// So many at a time talk to one session; its turns wait in line.
const CLIENTS: usize = 2;
const TURNS: usize = 50;
/// How long a client tries to get an answer to one turn.
const PERSISTENCE: Duration = Duration::from_secs(300);
/// Runners killed in all; what runs in them then is lost.
const RUNNERS_KILLED: usize = 2;

#[tokio::test]
async fn five_hundred_turns_under_kills() {
    scenario("exactly once", Share::Alone, Duration::from_secs(2400), async |s| {
        let dice = Dice::new(s);
        let pool = s.private_pool("once").replicas(SESSIONS as i32).create().await;
        let spec = json!({ "poolRef": { "name": pool }, "lifecycle": { "recovery": "Auto", "startupTimeout": "20m" } });
        let agent = s.agent("once", spec).await;
        let mut sessions = Vec::new();
        for n in 0..SESSIONS {
            let name = s.session(&format!("once{n}"), &agent, Value::Null).await;
            sessions.push(s.ready_within(&name, Duration::from_secs(900)).await);
        }

        let done = AtomicBool::new(false);
        let begun = Instant::now();
        let talk = async {
            let clients = sessions.iter().flat_map(|session| (0..CLIENTS).map(|client| (name_of(session), client)));
            let turns = futures::future::join_all(clients.map(|(id, client)| converse(s, id, client, &dice))).await;
            done.store(true, Ordering::Relaxed);
            turns.concat()
        };
        let (turns, kills) = tokio::join!(talk, kill_this_and_that(s, &sessions, &dice, &done));
        measure::times(&format!("500 turns, {kills:?}"), &[begun.elapsed()]);

        let refused: Vec<&Turn> = turns.iter().filter(|turn| matches!(turn.told, Told::Refused(_))).collect();
        s.log(&format!("{} turns, {} of them refused for good: {refused:?}", turns.len(), refused.len()));
        assert!(refused.len() <= RUNNERS_KILLED * CLIENTS, "only a killed runner loses what it runs");
        let live = see(s, &turns, &sessions).await;
        assert_eq!(faults(&turns, &live), Vec::<String>::new(), "in the harnesses' own histories");
        for session in &sessions {
            s.http.delete(&format!("/sessions/{}", name_of(session))).await.with_status(200);
        }
        for session in &sessions {
            s.ended(&name_of(session), Phase::Dead).await;
        }
        let kept = see(s, &turns, &sessions).await;
        assert_eq!(faults(&turns, &kept), Vec::<String>::new(), "in the transcripts");
    })
    .await;
}

/// One client's turns, one after the other.
async fn converse(s: &Scenario, session: String, client: usize, dice: &Dice) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(TURNS);
    for n in 0..TURNS {
        let mark = s.word(&format!("t{client}x{n}x{}x", s.nonce()));
        let told = tell(s, &session, &mark, dice).await;
        turns.push(Turn { session: session.clone(), client, mark, told });
    }
    turns
}

/// Sends one turn until there is an answer that is final, always with the same key. Some requests are given up halfway.
async fn tell(s: &Scenario, session: &str, mark: &str, dice: &Dice) -> Told {
    let asked = Instant::now();
    let mut last = String::new();
    while asked.elapsed() < PERSISTENCE {
        let patience = if dice.one_in(8) { Duration::from_millis(dice.below(400)) } else { PERSISTENCE };
        match tokio::time::timeout(patience, s.http.try_once(session, mark, mark)).await {
            Ok(Ok(reply)) => return Told::Reply(reply),
            Ok(Err(Unanswered::ForGood(why))) => return Told::Refused(why),
            Ok(Err(Unanswered::ForNow(why))) => last = why,
            Err(_) => "given up halfway".clone_into(&mut last),
        }
        tokio::time::sleep(RETRY).await;
    }
    panic!("{mark}: no answer within {PERSISTENCE:?}; last: {last}")
}

/// How often what was killed.
#[derive(Debug, Default)]
struct Kills {
    gateways: usize,
    runners: usize,
}

/// Kills something every few seconds until all is said.
async fn kill_this_and_that(s: &Scenario, sessions: &[Session], dice: &Dice, done: &AtomicBool) -> Kills {
    let mut kills = Kills::default();
    while !done.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5_000 + dice.below(10_000))).await;
        if kills.runners < RUNNERS_KILLED && dice.one_in(3) {
            let session = &sessions[kills.runners];
            let pids = processes::of_pod(&pod_of(session).uid, "paddock-runner");
            if !pids.is_empty() {
                s.log(&format!("kills the runner of {}", name_of(session)));
                processes::sigkill(&pids).await;
                kills.runners += 1;
            }
        } else {
            let gateways = s.gateways().await;
            s.sigkill_gateways(&gateways).await;
            if kills.gateways > 0 {
                s.remove_pods(&gateways).await;
            }
            kills.gateways += 1;
        }
    }
    assert!(kills.gateways > 0 && kills.runners > 0, "nothing was killed in time: {kills:?}");
    kills
}

/// What the model was asked, and all conversations.
pub async fn see(s: &Scenario, turns: &[Turn], sessions: &[Session]) -> Seen {
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let marks: std::collections::BTreeSet<&str> = turns.iter().map(|turn| turn.mark.as_str()).collect();
    for call in s.model.calls_with(s.nonce()).await {
        // A harness asks for titles, too: those texts do not begin with the mark.
        let first = call.last_user_text.lines().next().unwrap_or_default().trim();
        if marks.contains(first) {
            *asked.entry(first.to_owned()).or_default() += 1;
        }
    }
    let mut conversations = BTreeMap::new();
    for session in sessions {
        let id = name_of(session);
        let route = format!("/sessions/{id}/messages");
        let messages = wait::until("the conversation can be read", LIVENESS, async || {
            let answer =
                s.http.request(Method::GET, &route).send().await.map_err(|error| error.to_string())?;
            let told: Value = answer.json().await.map_err(|error| error.to_string())?;
            told.as_array().cloned().ok_or_else(|| told.to_string())
        })
        .await;
        conversations.insert(id, messages);
    }
    Seen { asked, conversations }
}

/// The scenario's chance, shared by all who take part.
struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    fn new(s: &Scenario) -> Self {
        Self(Mutex::new(s.chance()))
    }

    /// From 0 to below `limit`.
    fn below(&self, limit: u64) -> u64 {
        self.0.lock().expect("never poisoned").u64(..limit)
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}
