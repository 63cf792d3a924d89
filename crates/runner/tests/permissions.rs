//! What an agent's model may not do, with the real opencode (`PADDOCK_TEST_OPENCODE`), Claude Agent SDK
//! (`PADDOCK_TEST_CLAUDE_AGENT_SDK`) and Claude Code (`PADDOCK_TEST_CLAUDE_CODE`); without them the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;

use http::Method;
use paddock_runnerapi::{ActivateRequest, Denial, Equipment, Tool};
use paddock_testkit::ScriptedModel;
use serde_json::json;
use support::viewer::Viewer;
use support::{Pod, equipped};

fn path_in(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if path.is_none() {
        writeln!(std::io::stderr(), "skipped: {variable} is not set").unwrap();
    }
    path
}

async fn model() -> ScriptedModel {
    ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// Some commands, and all of the web.
fn restricted() -> ActivateRequest {
    let deny = |tool, pattern: Option<&str>| Denial { tool, pattern: pattern.map(str::to_owned) };
    let denied = vec![deny(Tool::Shell, Some("rm *")), deny(Tool::Fetch, None)];
    equipped(Equipment { denied, ..Equipment::default() })
}

fn keep(pod: &Pod) {
    std::fs::write(pod.workspace().join("kept.txt"), "x").unwrap();
}

fn is_kept(pod: &Pod) -> bool {
    pod.workspace().join("kept.txt").exists()
}

async fn holds(new: impl Fn() -> Pod, model: &ScriptedModel, fetches: &str) {
    let mut pod = new();
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&restricted()).await;
    assert_eq!(activated.status, 200, "{}", activated.body);
    keep(&pod);
    let refused = pod.turn("t1", "!run rm kept.txt").await;
    assert_eq!(refused.status, 200, "{}", refused.body);
    assert!(is_kept(&pod), "{}", refused.body);
    // Within others, too.
    pod.turn("t2", "!run true && rm kept.txt").await;
    assert!(is_kept(&pod));
    assert_eq!(pod.turn("t3", "!run cp kept.txt copy.txt; echo done").await.text().trim(), "ran: done");
    assert!(pod.workspace().join("copy.txt").exists());
    let offered = model.log().into_iter().flat_map(|seen| seen.tools);
    assert!(offered.into_iter().all(|tool| tool != fetches), "{fetches} is offered");

    // After a restart as before.
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.activate(&restricted()).await.body, activated.body);
    pod.turn("t4", "!run rm kept.txt").await;
    assert!(is_kept(&pod));

    // Without them all is allowed: it is the rules that hold it.
    let mut free = new();
    free.start();
    free.ready().await;
    keep(&free);
    free.activate(&equipped(Equipment::default())).await;
    let ran = free.turn("t1", "!run rm kept.txt; echo done").await;
    assert_eq!(ran.text().trim(), "ran: done", "{}", ran.body);
    assert!(!is_kept(&free));
    let offered = model.log().pop().unwrap().tools;
    assert!(offered.contains(&fetches.to_owned()), "{offered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_opencode() {
    let Some(program) = path_in("PADDOCK_TEST_OPENCODE") else { return };
    let model = model().await;
    holds(|| Pod::new(&[&program], &model.base_url()), &model, "webfetch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_opencode_in_conversations_that_a_client_makes() {
    let Some(program) = path_in("PADDOCK_TEST_OPENCODE") else { return };
    let model = model().await;
    let mut pod = Pod::new(&[&program], &model.base_url());
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&restricted()).await.body;
    keep(&pod);
    let own = activated["harness_session_id"].as_str().unwrap();
    pod.turn("t1", "!say hello").await;
    let allow = json!([{ "permission": "bash", "pattern": "*", "action": "allow" }]);
    let new =
        pod.pass(Method::POST, "/session", Some(&json!({ "title": "mine", "permission": allow }))).await;
    let fork = pod.pass(Method::POST, &format!("/session/{own}/fork"), Some(&json!({}))).await;
    for (number, made) in [new, fork].iter().enumerate() {
        assert_eq!(made.status, 200, "{}", made.body);
        let id = made.body["id"].as_str().unwrap();
        assert_ne!(id, own);
        let parts = json!([{ "type": "text", "text": "!run rm kept.txt" }]);
        let path = format!("/session/{id}/message");
        let answer = pod.call_turn(&format!("c{number}"), &path, &json!({ "parts": parts })).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(is_kept(&pod), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_the_claude_agent_sdk() {
    let Some(folder) = path_in("PADDOCK_TEST_CLAUDE_AGENT_SDK") else { return };
    let model = model().await;
    let program = ["node".to_owned(), format!("{folder}/src/main.js")];
    holds(|| Pod::with_adapter("claude-agent-sdk", &program, &model.base_url()), &model, "WebFetch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_claude_code() {
    let Some(program) = path_in("PADDOCK_TEST_CLAUDE_CODE") else { return };
    let model = model().await;
    let mut pod = Pod::with_adapter("claude-code", &[&program], &model.base_url());
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&restricted()).await;
    assert_eq!(activated.status, 200, "{}", activated.body);
    keep(&pod);
    let mut viewer = Viewer::attach(&pod).await;
    viewer.resizes(100, 30).await;
    viewer.sees("that it waits", |screen| screen.contains("bypass permissions on")).await;
    for (command, said) in [("rm kept.txt", "denied"), ("cp kept.txt copy.txt; echo do\"\"ne", "done")] {
        viewer.types(&format!(" !run {command}")).await;
        viewer.sees(command, |screen| screen.contains(command)).await;
        viewer.types("\r").await;
        viewer.sees(said, |screen| screen.contains(said)).await;
    }
    assert!(is_kept(&pod) && pod.workspace().join("copy.txt").exists());
    let offered = model.log().into_iter().flat_map(|seen| seen.tools);
    assert!(offered.into_iter().all(|tool| tool != "WebFetch"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_refused_where_nothing_could_hold_them() {
    let mut pod = Pod::with_terminal(&["sh"]);
    pod.start();
    pod.ready().await;
    let answer = pod.activate(&restricted()).await;
    assert_ne!(answer.status, 200, "{}", answer.body);
    let said = answer.body.to_string();
    assert!(said.contains("can't keep its model from a tool"), "{said}");
}
