//! A pod that is lost takes its session with it, and everybody is told.

use std::time::{Duration, Instant};

use paddock_api::Phase;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Share, measure, scenario, wait};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn in_the_middle_of_a_turn_is_a_502_and_then_dead() {
    scenario("pod killed mid-turn", Share::Shared, LIMIT, async |s| {
        let mark = s.word("lostprompt");
        let agent = s.agent("lost", json!({ "prompt": mark })).await;
        let session = s.ready_session("lost", &agent).await;
        let (id, pod) = (name_of(&session), pod_of(&session).name);

        let kill = async {
            wait::until("the turn has reached the model", LIVENESS, async || {
                match s.model.calls_with(&mark).await.len() {
                    0 => Err("no call of the model".to_owned()),
                    _ => Ok(()),
                }
            })
            .await;
            let args = ["delete", "pod", &pod, "--force", "--grace-period=0", "--wait=false"];
            s.kubectl.run(&args).await.succeeded();
            Instant::now()
        };
        let (answer, killed) = tokio::join!(s.http.say(&id, "!hang 240"), kill);
        let told = killed.elapsed();
        let error = answer.error(502, None);
        assert!(!answer.header("x-paddock-turn-id").is_empty(), "a 502 names its turn: {:?}", answer.headers);
        s.log(&format!("the client is told: {error}"));
        assert!(answer.took < Duration::from_secs(200), "told only when the turn would have ended");
        measure::times("pod killed mid-turn→502", &[told]);

        let dead = s.ended(&id, Phase::Dead).await;
        measure::times("pod killed mid-turn→Dead", &[killed.elapsed()]);
        let status = dead.status.clone().expect("a status");
        assert!(status.reason.is_some() && !status.message.is_empty(), "{status:?}");
        let row = s.kubectl.row("sessions", &id).await;
        assert_eq!(row.cell("PHASE"), "Dead");
        assert_ne!(row.cell("READY"), "True");
        assert!(!row.cell("REASON").is_empty(), "{row:?}");
        s.http.say(&id, "hello").await.error(404, Some("dead"));
        s.nothing_bound_to(&uid(&session)).await;
    })
    .await;
}

#[tokio::test]
async fn a_harness_that_dies_takes_its_turn_with_it_and_not_its_session() {
    scenario("harness killed mid-turn", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("reborn", json!({})).await;
        let session = s.ready_session("reborn", &agent).await;
        let id = name_of(&session);
        let word = s.word("kept");
        s.http.say(&id, &format!("!run echo {word} > kept.txt")).await.reply();

        // The agent kills its own harness; the kubelet starts the container again, in the same pod.
        let key = s.word("key-");
        let killed = Instant::now();
        let told = s.http.say_once(&id, &key, "!run kill -9 $(pgrep -x opencode)").await;
        told.error(502, Some("interrupted"));
        let answer = wait::until("the session answers again", LIVENESS, async || {
            let answer = s.http.say(&id, "!run cat kept.txt").await;
            match answer.status.as_u16() {
                200 => Ok(answer),
                // Not ready, or caught by the very moment in which the process ends: said, never run twice.
                502 | 503 => Err(answer.body_text()),
                other => panic!("neither an answer nor a 502 or 503 but {other}: {}", answer.body_text()),
            }
        })
        .await;
        measure::times("harness killed→session answers again", &[killed.elapsed()]);
        assert!(answer.reply().contains(&word), "the workspace is the same: {}", answer.reply());
        // The turn is not run again behind anybody's back.
        s.http.say_once(&id, &key, "!run kill -9 $(pgrep -x opencode)").await.error(502, Some("interrupted"));
        let told = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
        assert_eq!(told["status"], "ready", "{told}");
        let after = s.ready(&id).await;
        assert_eq!(pod_of(&after).uid, pod_of(&session).uid, "it is the same pod");
    })
    .await;
}

#[tokio::test]
async fn between_turns_is_dead_too() {
    scenario("pod deleted between turns", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("idle", json!({})).await;
        let session = s.ready_session("idle", &agent).await;
        let (id, pod) = (name_of(&session), pod_of(&session).name);
        assert!(s.http.say(&id, "!say alive").await.reply().contains("alive"));
        s.kubectl.run(&["delete", "pod", &pod, "--wait=false"]).await.succeeded();
        let dead = s.ended(&id, Phase::Dead).await;
        assert!(dead.status.is_some_and(|status| status.reason.is_some()));
        wait::until("a message is refused", LIVENESS, async || {
            let answer = s.http.say(&id, "hello").await;
            let seen = format!("{}: {}", answer.status, answer.body_text());
            if answer.status == 404 { Ok(answer.error(404, Some("dead"))) } else { Err(seen) }
        })
        .await;
        s.nothing_bound_to(&uid(&session)).await;
    })
    .await;
}
