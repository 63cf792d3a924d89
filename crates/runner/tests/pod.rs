//! The runner's binary as first process of a pod, with a harness that speaks opencode's wire.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use paddock_runnerapi::{InitialTurn, Scope};
use serde_json::json;
use support::wire::Wire;
use support::{MODEL_KEY, Pod, SESSION, memory, request, request_of, until};

/// Keeps the harness process there until it is told to end.
const STAY: &str = "exec sleep 1000";
const LIMIT: Duration = Duration::from_secs(20);

async fn start(script: &str) -> (Wire, Pod) {
    let wire = Wire::start().await;
    let mut pod = Pod::new(&wire.command(script), "http://127.0.0.1:9/v1");
    pod.start();
    pod.ready().await;
    (wire, pod)
}

async fn activated(script: &str) -> (Wire, Pod) {
    let (wire, pod) = start(script).await;
    assert_eq!(pod.activate(&request()).await.status, 200);
    (wire, pod)
}

async fn has_message(wire: &Wire) {
    until("the harness has the turn", LIMIT, || (!wire.messages().is_empty()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_carries_our_names_the_model_and_the_prompt() {
    let (wire, pod) = activated(STAY).await;
    // The warm-up conversation is gone, and the session's is another.
    assert_eq!(wire.deleted(), ["ses_1"]);
    assert_eq!(pod.turn("t1", "work").await.text(), "did work");
    let sent = &wire.messages()[0];
    assert!(sent["messageID"].as_str().unwrap().starts_with("msg_"));
    assert!(sent["parts"][0]["id"].as_str().unwrap().starts_with("prt_"));
    assert_eq!(sent["model"]["modelID"], "agent");
    assert_eq!(sent["system"], "You are a careful tester.");
    let journal = fs::read_to_string(pod.journal()).unwrap();
    assert!(journal.contains(sent["messageID"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_matched_with_their_message() {
    let (_wire, pod) = activated(STAY).await;
    assert_eq!(pod.turn("t1", "mixed up").await.text(), "yours");
    let lost = pod.turn("t2", "lost").await;
    assert_eq!((lost.status, lost.body["code"].as_str()), (502, Some("harness_failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failing_harness_says_is_passed_on_in_short() {
    let (_wire, pod) = activated(STAY).await;
    let failed = pod.turn("t1", "500").await;
    assert_eq!((failed.status, failed.body["code"].as_str()), (502, Some("harness_failed")));
    let text = failed.body["error"].as_str().unwrap();
    assert!(text.contains("UnknownError") && text.len() < 1000, "{text}");
    assert_eq!(pod.turn("t2", "html").await.body["code"], "harness_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_harness_does_not_take_is_the_clients_mistake() {
    let (_wire, pod) = activated(STAY).await;
    for _ in 0..2 {
        let refused = pod.turn("t1", "400").await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (400, Some("bad_request")));
        let text = refused.body["error"].as_str().unwrap();
        assert!(text.contains("yyy") && text.len() < 1000, "{text}");
    }
    assert_eq!(pod.turn("t2", "next").await.text(), "did next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_can_answer_is_refused() {
    let (_wire, pod) = activated(STAY).await;
    assert_eq!(pod.turn("t1", "ask").await.text(), "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_takes_too_long_is_aborted() {
    let (wire, pod) = start(STAY).await;
    let mut asked = request();
    asked.agent.turn_timeout_ms = 100;
    pod.activate(&asked).await;
    let late = pod.turn("t1", "hang").await;
    assert_eq!((late.status, late.body["code"].as_str()), (502, Some("turn_timeout")));
    assert_eq!(wire.aborted(), ["ses_2"]);
    assert_eq!(pod.turn("t2", "next").await.text(), "did next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_given_while_the_runner_was_dead_is_recovered() {
    let (wire, mut pod) = activated(STAY).await;
    tokio::select! {
        _ = pod.try_turn("t1", "hang") => panic!("the turn ended"),
        () = has_message(&wire) => {}
    }
    pod.kill();
    wire.finish(wire.messages()[0]["messageID"].as_str().unwrap(), "finished meanwhile");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.status("t1").await.body["state"], "completed");
    assert_eq!(pod.turn("t1", "hang").await.text(), "finished meanwhile");
    assert_eq!(wire.messages().len(), 1, "the turn ran again");
}

#[tokio::test(flavor = "multi_thread")]
async fn termination_interrupts_turns_and_ends_a_stubborn_harness() {
    let (wire, mut pod) = activated("trap '' TERM; while :; do sleep 0.1; done").await;
    let stop = async {
        has_message(&wire).await;
        pod.terminate();
        Instant::now()
    };
    let (answer, begun) = tokio::join!(pod.turn("t1", "hang"), stop);
    assert_eq!((answer.status, answer.body["code"].as_str()), (502, Some("interrupted")));
    let exit = pod.exit().await;
    assert!(exit.success(), "{exit}\n{}", pod.log());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}\n{}", begun.elapsed(), pod.log());
    // Its end is for the next start to find.
    let journal = fs::read_to_string(pod.journal()).unwrap();
    assert!(journal.lines().last().unwrap().contains("started"));
}

#[tokio::test(flavor = "multi_thread")]
async fn termination_during_boot_ends_the_harness_too() {
    let mut pod = Pod::new(&["sh", "-c", "exec sleep 1000"], "http://127.0.0.1:9/v1");
    pod.start();
    let children = until("the harness runs", LIMIT, || Some(pod.children()).filter(|c| !c.is_empty())).await;
    until("it listens", LIMIT, || pod.log().contains("the harness boots").then_some(())).await;
    pod.terminate();
    assert!(pod.exit().await.success());
    for child in children {
        assert!(!fs::exists(format!("/proc/{child}")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harness_that_ends_takes_the_container_with_it() {
    let (wire, mut pod) = activated("sleep 2; exit 7").await;
    let answer = pod.try_turn("t1", "hang");
    let (answer, ()) = tokio::join!(answer, has_message(&wire));
    assert_eq!(answer.unwrap().body["code"], "interrupted");
    let exit = pod.exit().await;
    assert_eq!(exit.code(), Some(1));
    assert!(pod.log().contains("exit code 7"), "{}", pod.log());
    assert_eq!(pod.termination_message(), "harness ended: exit code 7");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t1", "hang").await.body["code"], "interrupted");
    assert_eq!(pod.turn("t2", "more").await.text(), "did more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harness_that_dies_in_a_turn_gets_no_other_and_its_reply_is_recovered() {
    // The connection breaks first, and the process ends a moment later.
    let (wire, mut pod) = activated("until [ -e die ]; do sleep 0.1; done; rm die; exit 7").await;
    let die = async {
        has_message(&wire).await;
        pod.reaches("t2", "queued").await;
        wire.break_off();
        until("it broke off", LIMIT, || pod.log().contains("a turn broke off").then_some(())).await;
        fs::write(pod.workspace().join("die"), "").unwrap();
    };
    let second = async {
        has_message(&wire).await;
        pod.turn("t2", "next").await
    };
    let (first, second, ()) = tokio::join!(pod.turn("t1", "break"), second, die);
    for answer in [first, second] {
        assert_eq!((answer.status, answer.body["code"].as_str()), (502, Some("interrupted")));
    }
    assert_eq!(pod.exit().await.code(), Some(1));
    assert!(!fs::read_to_string(pod.journal()).unwrap().contains("ended"));
    assert_eq!(wire.messages().len(), 1, "a turn was handed to a dying process");
    wire.finish(wire.messages()[0]["messageID"].as_str().unwrap(), "finished in time");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t1", "break").await.text(), "finished in time");
    assert_eq!(pod.turn("t2", "next").await.body["code"], "interrupted");
    assert_eq!(wire.messages().len(), 1, "a turn ran again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_serve_says_why() {
    for (script, why) in [
        ("exit 3", "harness ended: exit code 3"),
        ("kill -KILL $$", "harness ended: signal 9"),
        ("exec >/dev/null; exec sleep 1000", "harness cannot serve: asking the harness to boot: "),
    ] {
        let mut pod = Pod::new(&["sh", "-c", script], "http://127.0.0.1:9/v1");
        pod.start();
        assert_eq!(pod.exit().await.code(), Some(1));
        let message = pod.termination_message();
        assert!(message.starts_with(why), "{message}");
    }
    let mut pod = Pod::new(&["no-such-program"], "http://127.0.0.1:9/v1");
    pod.start();
    assert_eq!(pod.exit().await.code(), Some(1));
    let message = pod.termination_message();
    assert!(message.starts_with("the runner cannot go on: preparing the harness's process: "), "{message}");
    // An end that was asked for needs no reason.
    let (_wire, mut pod) = activated(STAY).await;
    pod.terminate();
    assert!(pod.exit().await.success());
    assert_eq!(pod.termination_message(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_busy_with_a_turn_or_with_its_harness_at_work() {
    let (wire, pod) = start(STAY).await;
    assert_eq!(pod.activity().await.body["code"], "not_activated");
    pod.activate(&request()).await;
    let hang = async {
        has_message(&wire).await;
        let activity = pod.activity().await.body;
        assert_eq!(activity["idle_ms"], 0, "{activity}");
        assert_eq!(activity["turns"], json!({"total": 1, "running": 1, "queued": 0}));
        wire.break_off();
    };
    tokio::join!(pod.turn("t1", "break"), hang);
    let idle_for_100 = async || pod.idle("idle", |idle| idle >= 100).await;
    idle_for_100().await;
    wire.works(Some("ses_7"));
    assert_eq!(pod.activity().await.body["idle_ms"], 0);
    let busy = pod.quiesce(&json!({"if_idle_ms": 0})).await;
    assert_eq!((busy.status, busy.body["code"].as_str()), (409, Some("busy")));
    wire.works(None);
    idle_for_100().await;
    let rest = pod.quiesce(&json!({"if_idle_ms": 100})).await;
    assert_eq!((rest.status, &rest.body["quiesced"]), (200, &json!(true)));
    assert_eq!(pod.turn("t2", "more").await.body["code"], "quiesced");
    assert_eq!(pod.turn("t1", "break").await.body["code"], "interrupted");
    pod.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pod_goes_on_where_the_last_stopped() {
    let (wire, mut first) = start(STAY).await;
    let mut asked = request();
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    let activated = first.activate(&asked).await;
    let reply = first.turn("t1", "work").await;
    assert_eq!(reply.text(), "did work");
    let stop = async {
        until("it runs", LIMIT, || (wire.messages().len() == 3).then_some(())).await;
        first.reaches("t3", "queued").await;
        first.quiesce(&json!({})).await;
        first.terminate();
    };
    let second = async {
        until("it runs", LIMIT, || (wire.messages().len() == 3).then_some(())).await;
        first.turn("t3", "waits").await
    };
    let (running, queued, ()) = tokio::join!(first.turn("t2", "hang"), second, stop);
    for answer in [running, queued] {
        assert_eq!((answer.status, answer.body["code"].as_str()), (502, Some("interrupted")));
    }
    assert!(first.exit().await.success());
    wire.finish(wire.messages()[2]["messageID"].as_str().unwrap(), "finished at the last moment");

    let mut pod = first.next("pod-uid-2");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.status("t1").await.body["code"], "not_activated");
    let mut other = request();
    other.session.uid = "session-uid-2".into();
    assert_eq!(pod.activate(&other).await.body["code"], "bound_to_other");
    asked.incarnation = 2;
    asked.agent.prompt = Some("You are another.".into());
    asked.agent.env[0].value = "green".into();
    let resumed = pod.activate(&asked).await;
    assert_eq!(resumed.status, 200, "{}", resumed.body);
    assert_eq!(resumed.body["harness_session_id"], activated.body["harness_session_id"]);
    let env = fs::read_to_string(pod.dir.join("state/opencode/env.sh")).unwrap();
    assert!(env.contains("AGENT_COLOUR='green'"), "{env}");

    assert_eq!(pod.turn("t1", "work").await.body, reply.body);
    assert_eq!(pod.turn("t2", "hang").await.text(), "finished at the last moment");
    assert_eq!(pod.turn("t3", "waits").await.body["code"], "interrupted");
    assert_eq!(wire.messages().len(), 3, "a turn ran again");
    assert_eq!(pod.turn("t4", "more").await.text(), "did more");
    assert_eq!(wire.messages()[3]["system"], "You are another.");
    assert!(wire.messages()[3]["messageID"].as_str() > wire.messages()[2]["messageID"].as_str());
    assert_eq!(pod.activity().await.body["turns"]["total"], 5);
    // The only throw-away conversation was that of the first pod.
    assert_eq!(wire.deleted(), ["ses_1"]);
    assert_eq!(pod.activate(&request_of(3)).await.body["code"], "bound_to_other");

    // The container restarts in the second pod: it goes on without being asked.
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t4", "more").await.text(), "did more");
    assert_eq!(pod.activate(&asked).await.body, resumed.body);
    pod.kill();
    let mut stale = first.next("pod-uid-3");
    stale.start();
    stale.ready().await;
    assert_eq!(stale.activate(&request()).await.body["code"], "bound_to_other");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_on_one_volume_take_turns() {
    let (wire, mut first) = activated(&format!("echo boot >> boots; {STAY}")).await;
    assert_eq!(first.turn("t1", "work").await.text(), "did work");
    let boots = first.workspace().join("boots");
    let boots = || fs::read_to_string(&boots).unwrap().lines().count();
    let mut second = first.next("pod-uid-2");
    second.start();
    until("it waits", LIMIT, || second.log().contains("another pod's runner").then_some(())).await;
    // It answers meanwhile, and touches nothing.
    let probe = async |path| second.call(http::Method::GET, path, None, None).await.unwrap().status;
    assert_eq!((probe("/livez").await, probe("/readyz").await, boots()), (200, 503, 1));
    assert_eq!(second.activate(&request_of(2)).await.body["code"], "not_ready");
    assert_eq!(first.turn("t2", "more").await.text(), "did more");
    first.kill();
    second.ready().await;
    assert_eq!(second.activate(&request_of(2)).await.status, 200);
    assert_eq!(second.turn("t2", "more").await.text(), "did more");
    assert_eq!((wire.messages().len(), boots()), (2, 2));

    // One that waits can be told to end.
    let mut third = first.next("pod-uid-3");
    third.start();
    until("it waits", LIMIT, || third.log().contains("another pod's runner").then_some(())).await;
    third.terminate();
    assert!(third.exit().await.success());
    let token = second.token(SESSION, Scope::Turn);
    let known = second.call(http::Method::GET, "/v1/turns/t1", Some(&token), None).await.unwrap();
    assert_eq!(known.body["state"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_waited_for() {
    // The inner shell leaves three processes to whoever takes orphans.
    let (_wire, pod) =
        start(&format!("sh -c 'sleep 0.1 & sleep 0.2 & sleep 1000 & echo $! > orphan'; {STAY}")).await;
    let orphan = fs::read_to_string(pod.workspace().join("orphan")).unwrap();
    let orphan: u32 = orphan.trim().parse().unwrap();
    until("the short ones are gone", LIMIT, || (pod.children().len() == 2).then_some(())).await;
    assert!(pod.children().contains(&orphan));
    Command::new("kill").arg(orphan.to_string()).status().unwrap();
    until("only the harness is left", LIMIT, || (pod.children().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harness_gets_nothing_of_ours() {
    let (_wire, pod) = start(&format!("env > env.txt; {STAY}")).await;
    let env = fs::read_to_string(pod.workspace().join("env.txt")).unwrap();
    assert!(!env.contains("PADDOCK_") && !env.contains(MODEL_KEY), "{env}");
    assert!(env.contains("OPENCODE_SERVER_PASSWORD="));
    assert!(!pod.log().contains(MODEL_KEY));
    assert!(pod.workspace().join(".git").exists());
    let git = fs::read_to_string(pod.dir.join("home/.gitconfig")).unwrap();
    assert_eq!(git, format!("[safe]\n\tdirectory = \"{}\"\n", pod.workspace().display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_variable_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_paddock-runner")).arg("run").env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("PADDOCK_"), "{log}");
}

#[test]
fn installing_copies_a_program_that_runs() {
    let dir = std::env::temp_dir().join(format!("paddock-install-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    for _ in 0..2 {
        let runner = env!("CARGO_BIN_EXE_paddock-runner");
        assert!(Command::new(runner).args(["install", dir.to_str().unwrap()]).status().unwrap().success());
    }
    let installed = Command::new(dir.join("paddock-runner")).arg("--version").output().unwrap();
    assert!(installed.status.success());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_the_conversation_is_told_over_every_break() {
    let (wire, mut pod) = activated(STAY).await;
    wire.subscribed(1).await;
    let mut first = pod.follow(None).await;
    let begin = first.next().await.unwrap();
    assert!(begin["event"].is_null() && begin["gap"].is_null(), "{begin}");
    let mine = |number: u32| json!({"sessionID": "ses_2", "n": number});
    wire.says("message.part.delta", &json!({"sessionID": "ses_1", "n": 0}));
    wire.says("message.part.delta", &mine(1));
    wire.says("session.idle", &mine(2));
    let (one, two) = (first.next().await.unwrap(), first.next().await.unwrap());
    assert_eq!(one["event"]["properties"], mine(1), "nothing of the warm-up conversation");
    assert_eq!(one["event"]["id"], "evt_1", "as the harness told it");
    assert_eq!((&two["event"]["type"], &two["rests"]), (&json!("session.idle"), &json!(true)));

    // The harness breaks off; readers are told that they may have missed something.
    wire.hangs_up();
    wire.subscribed(2).await;
    assert_eq!(first.next().await.unwrap()["gap"], "resubscribed");
    wire.says("message.part.delta", &mine(3));
    assert_eq!(first.next().await.unwrap()["event"]["properties"], mine(3));

    // Who comes back gets what came after the last event it had.
    let mut second = pod.follow(one["id"].as_str()).await;
    assert_eq!(second.next().await.unwrap()["id"], one["id"]);
    let mut missed = Vec::new();
    for _ in 0..3 {
        missed.push(second.next().await.unwrap());
    }
    assert_eq!((&missed[0], &missed[1]["gap"]), (&two, &json!("resubscribed")));
    assert_eq!(missed[2]["event"]["properties"], mine(3));

    // A container that restarts has forgotten all, and its ids are none of before.
    pod.kill();
    assert!(first.next().await.is_none());
    pod.start();
    pod.ready().await;
    wire.subscribed(3).await;
    let mut third = pod.follow(missed[2]["id"].as_str()).await;
    let begin = third.next().await.unwrap();
    let number = |line: &serde_json::Value| -> u64 {
        line["id"].as_str().unwrap().split_once('.').unwrap().1.parse().unwrap()
    };
    assert!(number(&begin) > number(&missed[2]), "{begin}");
    assert_eq!(third.next().await.unwrap()["gap"], "unknown_id");
    wire.says("message.part.delta", &mine(4));
    assert_eq!(third.next().await.unwrap()["event"]["properties"], mine(4));

    // An orderly end ends the streams in order.
    pod.terminate();
    assert!(third.next().await.is_none());
    assert!(pod.exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_who_follow_are_cheap() {
    const READERS: usize = 250;
    const EVENTS: usize = 400;
    let (wire, pod) = activated(STAY).await;
    wire.subscribed(1).await;
    let (_, before) = memory(pod.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = pod.follow(None).await;
        reader.next().await.unwrap();
        readers.push(reader);
    }
    let (_, idle) = memory(pod.pid());
    let begun = Instant::now();
    let delta = json!({"sessionID": "ses_2", "delta": "x".repeat(200)});
    for _ in 0..EVENTS {
        wire.says("message.part.delta", &delta);
    }
    let each = readers.into_iter().map(async |mut reader| {
        let mut latest = String::new();
        for _ in 0..EVENTS {
            let line = reader.next().await.unwrap();
            assert_eq!(line["event"]["properties"], delta, "{line}");
            assert!(line["id"].as_str().unwrap() > latest.as_str(), "ids have the same length and grow");
            latest = line["id"].as_str().unwrap().to_owned();
        }
        reader
    });
    let readers = futures::future::join_all(each).await;
    let (took, (_, after)) = (begun.elapsed(), memory(pod.pid()));
    eprintln!(
        "{READERS} readers: {} KiB idle, {} KiB after {EVENTS} events each in {took:?}",
        idle.saturating_sub(before),
        after.saturating_sub(before)
    );
    assert!(after < before + (24 << 10), "{before} {idle} {after} KiB");
    assert_eq!(pod.turn("t1", "work").await.text(), "did work");
    drop(readers);
}
