//! The runner with the real opencode and the scripted model. Needs `PADDOCK_TEST_OPENCODE`, the path of an
//! opencode binary; without it the test says so and passes.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use paddock_testkit::ScriptedModel;
use serde_json::json;
use support::{MODEL_KEY, Pod, SESSION, memory, request, until};

/// Shown also where the test passes: the harness captures `println!` only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_from_boot_to_restart() {
    let Some(opencode) = std::env::var("PADDOCK_TEST_OPENCODE").ok().filter(|path| !path.is_empty()) else {
        report!("skipped: PADDOCK_TEST_OPENCODE names no opencode binary");
        return;
    };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::new(&[&opencode], &model.base_url());

    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("boot to ready: {:?}", begun.elapsed());
    assert!(model.log().is_empty(), "warm-up turns reached the paid model");
    report!("runner memory, warm, KiB (all, anonymous): {:?}", memory(pod.pid()));

    let begun = Instant::now();
    let activated = pod.activate(&request()).await;
    report!("activation: {:?}, inside {} ms", begun.elapsed(), activated.body["took_ms"]);
    assert_eq!(activated.status, 200, "{}", activated.body);

    let begun = Instant::now();
    let first = pod.turn("t1", "hello").await;
    report!("first turn: {:?}", begun.elapsed());
    assert_eq!(first.text(), "echo: hello", "{}", first.body);
    assert_eq!(first.headers["x-paddock-turn-id"], "t1");
    let seen = model.log();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].model, "gpt-test");
    assert!(seen[0].system.ends_with("You are a careful tester."), "{}", seen[0].system);
    assert!(!seen[0].tools.contains(&"question".to_owned()), "{:?}", seen[0].tools);

    let begun = Instant::now();
    let command =
        "printf %s \"$AGENT_COLOUR\" > made.txt; env | grep -ciE 'paddock_|opencode_(server|config)'";
    let ran = pod.turn("t2", &format!("!run {command}")).await;
    report!("turn with a shell command: {:?}", begun.elapsed());
    assert_eq!(std::fs::read_to_string(pod.workspace().join("made.txt")).unwrap(), "it's \"blue\" $HOME");
    assert_eq!(ran.text().trim(), "ran: 0", "the shell sees variables of ours");

    let begun = Instant::now();
    let (a, b) = tokio::join!(pod.turn("t3", "!chunks 4 50\n!say alpha"), pod.turn("t4", "!say beta"));
    report!("two turns at once, 200 ms of it the model's: {:?}", begun.elapsed());
    assert_eq!((a.text().as_str(), b.text().as_str()), ("alpha", "beta"));
    let calls = model.log().len();
    assert_eq!(pod.turn("t3", "!chunks 4 50\n!say alpha").await.body, a.body);
    assert_eq!(model.log().len(), calls, "a repeated turn reached the model");
    for number in 0..20 {
        assert_eq!(pod.turn(&format!("n{number}"), "!say x").await.text(), "x");
    }
    let failed = pod.turn("t5", "!fail 400").await;
    assert_eq!(failed.status, 200);
    assert_eq!(failed.body["info"]["error"]["name"], "APIError", "{}", failed.body);
    let image = json!({"type": "file", "mime": "image/png", "url": "data:image/png;base64,AAAA"});
    let refused = pod.try_parts("t5i", &json!([{"type": "text", "text": "look"}, image])).await.unwrap();
    report!("an image that is none: {}", refused.body);
    assert_eq!((refused.status, refused.body["code"].as_str()), (400, Some("bad_request")));
    report!("runner memory, used, KiB (all, anonymous): {:?}", memory(pod.pid()));
    for text in [pod.log(), std::fs::read_to_string(pod.journal()).unwrap()] {
        assert!(!text.contains(MODEL_KEY));
    }

    // The runner dies in the middle of a turn; the container restarts with the same folders.
    let calls = model.log().len();
    let cut = async {
        until("the model has the turn", Duration::from_secs(20), || {
            (model.log().len() > calls).then_some(())
        })
        .await;
    };
    tokio::select! {
        _ = pod.try_turn("t6", "!hang 60") => panic!("the turn ended"),
        () = cut => {}
    }
    pod.kill();
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("restart to ready: {:?}", begun.elapsed());
    let interrupted = pod.turn("t6", "!hang 60").await;
    assert_eq!((interrupted.status, interrupted.body["code"].as_str()), (502, Some("interrupted")));
    assert_eq!(pod.activate(&request()).await.body, activated.body);
    assert_eq!(pod.turn("t3", "!chunks 4 50\n!say alpha").await.body, a.body);
    let begun = Instant::now();
    let again = pod.turn("t7", "!say still here").await;
    report!("first turn after the restart: {:?}", begun.elapsed());
    assert_eq!(again.text(), "still here");
    assert_eq!(again.body["info"]["sessionID"], activated.body["harness_session_id"]);
    assert_eq!(activated.body["session_uid"], SESSION);

    // opencode dies in the middle of a turn while another waits; the container ends and starts again.
    let calls = model.log().len();
    let kill = async {
        until("the model has the turn", Duration::from_secs(20), || {
            (model.log().len() > calls).then_some(())
        })
        .await;
        pod.reaches("t9", "queued").await;
        for child in pod.children() {
            Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap();
        }
    };
    let second = async {
        pod.reaches("t8", "running").await;
        pod.turn("t9", "!say never").await
    };
    let (first, second, ()) = tokio::join!(pod.turn("t8", "!hang 60"), second, kill);
    for answer in [first, second] {
        assert_eq!((answer.status, answer.body["code"].as_str()), (502, Some("interrupted")));
    }
    assert_eq!(pod.exit().await.code(), Some(1));
    assert_eq!(model.log().len(), calls + 1, "a turn was handed to a dying process");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t8", "!hang 60").await.body["code"], "interrupted");
    assert_eq!(pod.turn("t10", "!say back").await.text(), "back");

    let begun = Instant::now();
    pod.terminate();
    let exit = pod.exit().await;
    report!("terminated in {:?}", begun.elapsed());
    assert!(exit.success(), "{exit}\n{}", pod.log());
}
