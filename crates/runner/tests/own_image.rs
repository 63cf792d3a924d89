//! The runner with the real opencode as a server that it knows nothing of but its port. Needs `PADDOCK_TEST_OPENCODE`, the path of an
//! opencode binary; without it the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};

use http::Method;
use paddock_runnerapi::{ActivateRequest, Scope};
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};
use support::lap::free_port;
use support::{POD, Pod, SESSION, request, until};

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

fn opencode() -> Option<String> {
    let variable = "PADDOCK_TEST_OPENCODE";
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if path.is_none() {
        report!("skipped: {variable} names no opencode binary");
    }
    path
}

/// How an image of somebody's own may set opencode up: `{env:...}` is opencode's own way to read a variable.
fn config() -> String {
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": "{env:LITELLM_API_BASE}/v1", "apiKey": "{env:LITELLM_API_KEY}"},
        "models": {"agent": {"name": "agent"}},
    });
    json!({
        "provider": {"litellm": provider}, "enabled_providers": ["litellm"], "model": "litellm/agent",
        "autoupdate": false, "share": "disabled", "snapshot": false,
    })
    .to_string()
}

/// opencode in a container of its own: it shares the workspace and the loopback.
struct Container(Child);

impl Container {
    fn start(opencode: &str, pod: &Pod, port: u16, model_port: u16) -> Self {
        let home = pod.dir.join("other-home");
        std::fs::create_dir_all(&home).unwrap();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(pod.dir.join("opencode.log")).unwrap();
        let mut command = Command::new(opencode);
        command
            .args(["serve", "--hostname", "127.0.0.1", "--port", &port.to_string()])
            .current_dir(pod.workspace())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("OPENCODE_CONFIG_CONTENT", config())
            .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
            .env("LITELLM_API_BASE", format!("http://127.0.0.1:{model_port}"))
            .env("LITELLM_API_KEY", POD)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn described(pod: &mut Pod, port: u16) {
    for (name, value) in [
        ("PADDOCK_HARNESS_PORT", port.to_string()),
        ("PADDOCK_HARNESS_FEATURES", "abort,file-parts".to_owned()),
        ("PADDOCK_HARNESS_MODEL", "litellm/agent".to_owned()),
    ] {
        pod.env.push((name.to_owned(), value));
    }
}

async fn messages(pod: &Pod) -> Vec<Value> {
    let token = pod.token(SESSION, Scope::Turn);
    let answer = pod.call(Method::GET, "/v1/messages", Some(&token), None).await.unwrap();
    answer.body.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opencode_beside_the_runner_serves_a_session() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::with_adapter("http", &[] as &[&str], &model.base_url());
    let (port, model_port) = (free_port(), free_port());
    described(&mut pod, port);
    pod.env.push(("PADDOCK_MODEL_PORT".into(), model_port.to_string()));
    pod.start();
    let mut container = Container::start(&opencode, &pod, port, model_port);
    pod.ready().await;
    let mut wanted: ActivateRequest = request();
    wanted.agent.env.clear();
    let activated = pod.activate(&wanted).await;
    assert_eq!(activated.status, 200, "{}", activated.body);
    let conversation = activated.body["harness_session_id"].as_str().unwrap().to_owned();

    let ran = pod.turn("t1", "!run echo made by hand > made.txt && cat made.txt").await;
    assert_eq!((ran.status, ran.text().trim()), (200, "ran: made by hand"), "{}\n{}", ran.body, pod.log());
    assert_eq!(std::fs::read_to_string(pod.workspace().join("made.txt")).unwrap(), "made by hand\n");
    let seen = model.log();
    assert!(seen.iter().all(|call| call.model == "gpt-test"), "the agent's model answers: {seen:?}");
    assert!(seen[0].system.contains("You are a careful tester."), "{}", seen[0].system);
    assert_eq!(messages(&pod).await.len(), 3, "the message, the step with the tool, the reply");

    // A turn that is aborted.
    let calls = model.log().len();
    let token = pod.token(SESSION, Scope::Turn);
    let stop = async {
        until("the model has the turn", support::PATIENCE, || (model.log().len() > calls).then_some(()))
            .await;
        pod.call(Method::POST, "/v1/abort", Some(&token), None).await.unwrap()
    };
    let (hung, stopped) = tokio::join!(pod.turn("t2", "!hang 60"), stop);
    assert_eq!((stopped.status, hung.status), (200, 200), "{}", hung.body);
    assert_eq!(hung.body["info"]["error"]["name"], "MessageAbortedError");
    assert_eq!(pod.turn("t3", "!say on").await.text(), "on");

    // The runner dies in a turn: what still runs in the other container is stopped, and the session goes on.
    let calls = model.log().len();
    let cut =
        until("the model has the turn", support::PATIENCE, || (model.log().len() > calls).then_some(()));
    tokio::select! {
        _ = pod.try_turn("t4", "!hang 60") => panic!("the turn ended"),
        () = cut => {}
    }
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.status("t4").await.body["state"], "interrupted");
    assert_eq!(pod.turn("t5", "!say still").await.text(), "still");
    assert_eq!(pod.turn("t1", "!run echo made by hand > made.txt && cat made.txt").await.body, ran.body);

    // opencode dies and comes back with its home: the conversation is there.
    container.kill();
    assert_eq!(pod.exit().await.code(), Some(1));
    pod.start();
    let _container = Container::start(&opencode, &pod, port, model_port);
    pod.ready().await;
    assert_eq!(pod.turn("t6", "!say back").await.text(), "back");
    assert_eq!(model.log().pop().unwrap().earlier_user_texts.len(), 5);
    let text = json!({"parts": [{"type": "text", "text": "x"}]});
    assert_eq!(pod.call_turn("t7", "/session/ses_unknown/message", &text).await.status, 404);
    let own = pod.pass(Method::GET, &format!("/session/{conversation}"), None).await;
    assert_eq!((own.status, own.body["id"].as_str()), (200, Some(conversation.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opencode_that_the_runner_starts_has_the_agent_s_variables() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let port = free_port();
    let command = [
        opencode,
        "serve".into(),
        "--hostname".into(),
        "127.0.0.1".into(),
        "--port".into(),
        port.to_string(),
    ];
    let mut pod = Pod::with_adapter("http", &command, &model.base_url());
    described(&mut pod, port);
    pod.env.push(("OPENCODE_CONFIG_CONTENT".into(), config()));
    pod.env.push(("OPENCODE_DISABLE_MODELS_FETCH".into(), "1".into()));
    pod.env.push(("SHELL".into(), "/bin/bash".into()));
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&request()).await;
    assert_eq!(activated.status, 200, "{}", activated.body);
    let ran = pod.turn("t1", "!run printf %s \"$AGENT_COLOUR\"; env | grep -c ^LITELLM_API_KEY=").await;
    assert_eq!(ran.text().trim(), "ran: it's \"blue\" $HOME0", "{}\n{}", ran.body, pod.log());
    // The child's end is the container's.
    let child = pod.children()[0];
    Command::new("kill").args(["-KILL", &child.to_string()]).status().unwrap();
    assert_eq!(pod.exit().await.code(), Some(1));
    assert_eq!(pod.termination_message(), "harness ended: signal 9");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t2", "!say again").await.text(), "again");
}
