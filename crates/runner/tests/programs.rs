//! The runner with the real Claude Code and the real Codex in its terminal, and the scripted model. Needs
//! `PADDOCK_TEST_CLAUDE_CODE` and `PADDOCK_TEST_CODEX`, the paths of the programs; without them the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use paddock_runnerapi::{ActivateRequest, EnvVar, McpServer, McpTransport};
use paddock_testkit::ScriptedModel;
use support::viewer::Viewer;
use support::{MODEL_KEY, Pod, memory, request, until};

const LIMIT: Duration = Duration::from_secs(60);

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

/// A program under test.
struct Known {
    adapter: &'static str,
    variable: &'static str,
    /// On its screen once it waits for the user.
    waits: &'static str,
    /// What ends it.
    leaves: &'static str,
    /// It asks the model for a title of the conversation.
    wants_title: bool,
    /// The MCP tool of [`SERVER`], as the model is offered it.
    tool: &'static str,
}

const CLAUDE_CODE: Known = Known {
    adapter: "claude-code",
    variable: "PADDOCK_TEST_CLAUDE_CODE",
    waits: "bypass permissions on",
    leaves: "/exit",
    wants_title: false,
    tool: "mcp__mine__whoami",
};
const CODEX: Known = Known {
    adapter: "codex",
    variable: "PADDOCK_TEST_CODEX",
    waits: "Ask Codex to do anything",
    leaves: "/quit",
    wants_title: true,
    // Its tools are named by their server.
    tool: "mcp__mine",
};

/// An MCP server with one tool. It tells what is in its environment when it is asked for its tools.
const SERVER: &str = r#"#!/bin/bash
while read -r line; do
  id=$(sed -n 's/.*"id":\([0-9]*\).*/\1/p' <<<"$line")
  case $line in
    *'"initialize"'*)
      result='{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"mine","version":"1"}}' ;;
    *'"tools/list"'*)
      printf '%s' "$AGENT_COLOUR, $OWN" >asked.new && mv asked.new asked
      result='{"tools":[{"name":"whoami","description":"Tells.","inputSchema":{"type":"object","properties":{}}}]}' ;;
    *) result='{}' ;;
  esac
  [ -z "$id" ] || printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

/// With an MCP server that is a program in the workspace.
fn equipped(pod: &Pod) -> ActivateRequest {
    let path = pod.workspace().join("mine.sh");
    std::fs::write(&path, SERVER).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let env = vec![EnvVar { name: "OWN".into(), value: "mine's \"own\"".into() }];
    let transport = McpTransport::Stdio { command: vec![path.to_str().unwrap().into()], env };
    let mut request = request();
    request.agent.equipment.mcp_servers = vec![McpServer { name: "mine".into(), transport }];
    request
}

/// Types a prompt as a person does: what was typed is on the screen before Enter is pressed.
async fn prompts(viewer: &mut Viewer, prompt: &str) {
    viewer.types(prompt).await;
    viewer.sees(prompt, |screen| screen.contains(prompt)).await;
    viewer.types("\r").await;
}

async fn works_from_activation_to_restart(known: &Known) {
    let Some(program) = std::env::var(known.variable).ok().filter(|path| !path.is_empty()) else {
        report!("skipped: {} names no program", known.variable);
        return;
    };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::with_adapter(known.adapter, &[&program], &model.base_url());
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("{}: boot to ready: {:?}", known.adapter, begun.elapsed());

    let begun = Instant::now();
    let request = equipped(&pod);
    let activated = pod.activate(&request).await;
    assert_eq!(activated.status, 200, "{}", activated.body);
    let mut viewer = Viewer::attach(&pod).await;
    viewer.resizes(100, 30).await;
    viewer.sees("that it waits", |screen| screen.contains(known.waits)).await;
    report!("{}: activation to its prompt: {:?}", known.adapter, begun.elapsed());
    assert!(model.log().is_empty(), "it asked the model by itself: {:?}", model.log());
    let asked = pod.workspace().join("asked");
    let environment = until("its MCP server is asked", LIMIT, || std::fs::read_to_string(&asked).ok()).await;
    assert_eq!(environment, "it's \"blue\" $HOME, mine's \"own\"");

    // A space keeps `!` from being a command for the program itself.
    let begun = Instant::now();
    prompts(&mut viewer, " !run echo \"$AGENT_COLOUR\" > made; env > env; echo fi\"\"n").await;
    viewer.sees("the reply", |screen| screen.contains("fin\n") && screen.contains("ran: ")).await;
    report!("{}: first turn, with a shell command: {:?}", known.adapter, begun.elapsed());
    let made = |name: &str| std::fs::read_to_string(pod.workspace().join(name)).unwrap();
    assert_eq!(made("made"), "it's \"blue\" $HOME\n");
    let log = pod.log();
    for text in [&log, &made("env")] {
        assert!(!text.contains(MODEL_KEY), "{text}");
    }
    let path = |env: &str| env.lines().find_map(|line| line.strip_prefix("PATH=").map(str::to_owned));
    assert!(path(&made("env")).unwrap().ends_with(&std::env::var("PATH").unwrap()), "another PATH");
    let seen = model.log();
    assert!(seen.iter().all(|seen| seen.model == "gpt-test"), "{seen:?}");
    assert_eq!(seen.iter().any(|seen| seen.tools.is_empty()), known.wants_title, "{seen:?}");
    let turn = seen.iter().find(|seen| seen.last_user_text.starts_with("!run")).unwrap();
    assert!(turn.system.contains("You are a careful tester."), "{}", turn.system);
    // Claude Code does not wait for its servers: what they have may be offered from the next turn on only.
    let is_offered = || model.log().iter().any(|seen| seen.tools.iter().any(|tool| tool == known.tool));
    let mut turns = 0;
    while !is_offered() {
        turns += 1;
        assert!(turns < 20, "the MCP server's tool is not offered: {:?}", model.log().last());
        let said = format!("said {turns}");
        prompts(&mut viewer, &format!(" !say {said}")).await;
        viewer.sees("the reply", |screen| screen.matches(&said).count() == 2).await;
    }
    for child in pod.children() {
        report!("{}: its memory, KiB (all, anonymous): {:?}", known.adapter, memory(child));
    }
    report!("{}: turns until its MCP tool is offered: {}", known.adapter, turns + 1);

    // Who attaches later sees the same.
    let mut late = Viewer::attach(&pod).await;
    late.resizes(100, 30).await;
    late.sees("the reply", |screen| screen.contains("ran: ")).await;

    // The container starts again, with the same folders: the program does too, without a question, and goes on.
    drop((viewer, late));
    pod.terminate();
    pod.exit().await;
    pod.start();
    pod.ready().await;
    let mut viewer = Viewer::attach(&pod).await;
    viewer.resizes(100, 30).await;
    let goes_on = |screen: &str| screen.contains(known.waits) && screen.contains("ran: ");
    viewer.sees("its conversation", goes_on).await;
    prompts(&mut viewer, " !say still here").await;
    viewer.sees("the reply", |screen| screen.matches("still here").count() == 2).await;

    // A person ends it, and starts it again by a key.
    prompts(&mut viewer, known.leaves).await;
    let ended = "press a key to start it again";
    viewer.sees("its end", |screen| screen.contains(ended)).await;
    viewer.types("x").await;
    // Below what tells of its end, where it does not take the whole screen.
    let again = |screen: &str| goes_on(screen.rsplit(ended).next().unwrap_or_default());
    viewer.sees("its conversation again", again).await;
    let last = model.log().into_iter().rfind(|seen| seen.last_user_text.starts_with("!say")).unwrap();
    assert!(last.earlier_user_texts.iter().any(|text| text.contains("!run")), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_asks_nothing_and_works() {
    works_from_activation_to_restart(&CLAUDE_CODE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_asks_nothing_and_works() {
    works_from_activation_to_restart(&CODEX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_image_has_no_such_program_says_so() {
    let mut pod = Pod::with_adapter("codex", &["/no/codex"], "http://127.0.0.1:9/v1");
    pod.start();
    assert_eq!(pod.exit().await.code(), Some(1));
    let said = pod.termination_message();
    assert!(said.contains("/no/codex cannot be started"), "{said}");
}
