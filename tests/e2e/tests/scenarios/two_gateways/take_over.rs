//! A gateway is killed while clients wait at it; they ask the other one.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use paddock_api::Session;
use paddock_e2e::ledger::{Told, Turn};
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, measure, wait};
use reqwest::Method;
use serde_json::json;

use super::{SESSIONS, WAITING, url_of};

/// Clients of other steps have smaller numbers.
const FIRST_CLIENT: usize = 1_000;

/// Turns are sent by the first gateway, which is killed while they wait; their clients ask the second one.
pub async fn run(s: &Scenario, sessions: &[Session], [first, second]: &[Pod; 2]) -> Vec<Turn> {
    let (a, b) = (s.http.at(&url_of(first)), s.http.at(&url_of(second)));
    let mut marks = Vec::new();
    for session in sessions {
        // The first one of a session runs while the others wait behind it.
        let mark = s.word(&format!("hangs{}x", s.nonce()));
        marks.push((name_of(session), format!("{mark}\n!hang 40\n!say {mark}"), mark));
        for n in 1..WAITING {
            let mark = s.word(&format!("waits{n}x{}x", s.nonce()));
            marks.push((name_of(session), mark.clone(), mark));
        }
    }
    let ask = |(id, text, mark): &(String, String, String)| {
        let request =
            a.request(Method::POST, &paddock_e2e::http::message_route(id)).header("idempotency-key", mark);
        tokio::spawn(request.json(&json!({ "text": text })).send())
    };
    let (hanging, waiting): (Vec<_>, Vec<_>) =
        marks.iter().partition(|(_, _, mark)| mark.starts_with("hangs"));
    let mut asked: Vec<_> = hanging.into_iter().map(ask).collect();
    // Once the first turn of each session runs, the others wait behind it.
    let hangs = format!("hangs{}x", s.nonce());
    wait::until("a turn runs in each session", LIVENESS, async || {
        let calls = s.model.calls_with(&hangs).await;
        match calls.iter().filter(|call| call.last_user_text.starts_with(&hangs)).count() {
            n if n >= SESSIONS => Ok(()),
            n => Err(format!("{n} run")),
        }
    })
    .await;
    asked.extend(waiting.iter().map(|mark| ask(mark)));
    for (id, _, mark) in &waiting {
        wait::until("the turn waits", LIVENESS, async || {
            let told = b.get(&format!("/sessions/{id}/turns/{mark}")).await;
            if told.status == 200 { Ok(()) } else { Err(told.body_text()) }
        })
        .await;
    }
    let first = std::slice::from_ref(first);
    assert_eq!(s.sigkill_gateways(first).await, 1, "the gateway runs on this machine");
    let killed = Instant::now();
    s.remove_pods(first).await;
    for answer in futures::future::join_all(asked).await {
        let answer = answer.expect("a task that does not panic");
        assert!(answer.is_err(), "it waited at the first gateway: {answer:?}");
    }

    let again = marks.iter().map(async |(id, text, mark)| {
        let answer = b.say_once(id, mark, text).await;
        let reply = answer.with_status(200);
        Turn { session: id.clone(), client: 0, mark: mark.clone(), told: Told::Reply(reply) }
    });
    let turns = futures::future::join_all(again).await;
    measure::times("54 turns waiting, their gateway killed→all answered by the other", &[killed.elapsed()]);
    // They were sent at the same time, so they have no order among themselves.
    turns
        .into_iter()
        .enumerate()
        .map(|(client, turn)| Turn { client: FIRST_CLIENT + client, ..turn })
        .collect()
}
