//! The runner with the real Claude Agent SDK and the scripted model. Needs Node.js and `PADDOCK_TEST_CLAUDE_AGENT_SDK`, a folder
//! with `images/claude-agent-sdk` and its packages; without it the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use http::Method;
use paddock_runnerapi::{ActivateRequest, EnvVar, McpServer, McpTransport, Scope};
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};
use support::{Answer, MODEL_KEY, Pod, SESSION, request, request_of, until};

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

/// A 1×1 image.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn program() -> Option<[String; 2]> {
    let variable = "PADDOCK_TEST_CLAUDE_AGENT_SDK";
    let folder = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if folder.is_none() {
        report!("skipped: {variable} names no folder with the program");
    }
    folder.map(|folder| ["node".to_owned(), format!("{folder}/src/main.js")])
}

fn pod(program: &[String; 2], model: &ScriptedModel) -> Pod {
    Pod::with_adapter("claude-agent-sdk", program, &model.base_url())
}

async fn model() -> ScriptedModel {
    ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

async fn read(pod: &Pod, path: &str) -> Value {
    let token = pod.token(SESSION, Scope::Turn);
    let answer = pod.call(Method::GET, path, Some(&token), None).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

async fn abort(pod: &Pod) -> Answer {
    let token = pod.token(SESSION, Scope::Turn);
    pod.call(Method::POST, "/v1/abort", Some(&token), None).await.unwrap()
}

fn ids(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["info"]["id"].as_str().unwrap()).collect()
}

/// Takes a turn's end out of the journal, as if the runner had died just before it wrote it.
fn forget_end_of(pod: &Pod, turn: &str) {
    let journal = std::fs::read_to_string(pod.journal()).unwrap();
    let is_end = |line: &&str| {
        let record: Value = serde_json::from_str(line).unwrap();
        ["messages", "ended"].iter().any(|kind| record[kind]["turn"] == turn)
    };
    let (ends, kept): (Vec<&str>, Vec<&str>) = journal.lines().partition(is_end);
    assert_eq!(ends.len(), 2, "{ends:?}");
    std::fs::write(pod.journal(), kept.join("\n") + "\n").unwrap();
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The resident memory of a process and of all below it, in KiB. Those that have just ended count as nothing.
fn memory_of_tree(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let own = line.map_or(0, |line| line.split_whitespace().next().unwrap().parse().unwrap());
    own + children(pid).into_iter().map(memory_of_tree).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_from_boot_to_restart() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("boot to ready: {:?}", begun.elapsed());
    assert!(model.log().is_empty(), "warming reached the paid model");
    let program_of = |pod: &Pod| pod.children()[0];
    let alone = || children(program_of(&pod)).is_empty().then_some(());
    until("what warmed it has ended", Duration::from_secs(10), alone).await;
    report!("memory of the program, idle, KiB: {}", memory_of_tree(program_of(&pod)));

    std::fs::write(pod.workspace().join("CLAUDE.md"), "The heron is grey.").unwrap();
    let begun = Instant::now();
    let activated = pod.activate(&request()).await;
    report!("activation: {:?}, inside {} ms", begun.elapsed(), activated.body["took_ms"]);
    assert_eq!(activated.status, 200, "{}", activated.body);
    let conversation = activated.body["harness_session_id"].as_str().unwrap().to_owned();

    let begun = Instant::now();
    let first = pod.turn("t1", "hello").await;
    report!("first turn: {:?}", begun.elapsed());
    assert_eq!((first.status, first.text().as_str()), (200, "echo: hello"), "{}", first.body);
    assert_eq!(first.body["info"]["sessionID"], conversation.as_str());
    let seen = model.log();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].model.as_str(), seen[0].path.as_str()), ("gpt-test", "/v1/messages"));
    assert!(seen[0].system.contains("You are a careful tester."), "{}", seen[0].system);
    assert!(!seen[0].tools.contains(&"AskUserQuestion".to_owned()), "{:?}", seen[0].tools);

    // A tool that changes a file, in the agent's environment, is a part of the one reply.
    let begun = Instant::now();
    let command = "printf %s \"$AGENT_COLOUR\" > made.txt; env | grep -ciE 'paddock_|anthropic_'";
    let ran = pod.turn("t2", &format!("!think hm\n!run {command}")).await;
    report!("turn with a shell command: {:?}", begun.elapsed());
    assert_eq!(std::fs::read_to_string(pod.workspace().join("made.txt")).unwrap(), "it's \"blue\" $HOME");
    let parts = ran.body["parts"].as_array().unwrap();
    let tool = parts.iter().find(|part| part["type"] == "tool").unwrap();
    assert_eq!(tool["state"]["input"]["command"], command, "{}", ran.body);
    assert!(["completed", "error"].contains(&tool["state"]["status"].as_str().unwrap()), "{tool}");
    assert!(
        ran.text().contains("\n0") || ran.text().contains(": 0"),
        "the shell sees variables of ours: {}",
        ran.text()
    );
    assert!(parts.iter().any(|part| part["type"] == "reasoning" && part["text"] == "hm"), "{}", ran.body);

    let mut times = Vec::new();
    for number in 0..5 {
        let begun = Instant::now();
        assert_eq!(pod.turn(&format!("n{number}"), "!say x").await.text(), "x");
        times.push(begun.elapsed());
    }
    report!("later turns: {times:?}");
    let calls = model.log().len();
    assert_eq!(pod.turn("t2", &format!("!think hm\n!run {command}")).await.body, ran.body);
    assert_eq!(model.log().len(), calls, "a repeated turn reached the model");

    // An image reaches the model; what is no image is refused, and what it costs to say so is nothing.
    let image =
        json!([{"type": "text", "text": "!say seen"}, {"type": "file", "mime": "image/png", "url": IMAGE}]);
    assert_eq!(pod.try_parts("t3", &image).await.unwrap().text(), "seen");
    assert_eq!(model.log().pop().unwrap().images, [IMAGE]);
    let text = json!([{"type": "file", "mime": "text/plain", "url": "data:text/plain;base64,eA=="}]);
    let refused = pod.try_parts("t4", &text).await.unwrap();
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (400, Some("bad_request")),
        "{}",
        refused.body
    );

    // Of this turn the runner will not have written the end.
    let kept = pod.turn("t4k", "!say kept").await;

    // The runner dies in the middle of a turn; the container restarts with the same folders.
    let calls = model.log().len();
    let mut peak = 0;
    let cut = until("the model has the turn", Duration::from_secs(20), || {
        peak = peak.max(memory_of_tree(program_of(&pod)));
        (model.log().len() > calls).then_some(())
    });
    tokio::select! {
        _ = pod.try_turn("t5", "!run tail -f /dev/null") => panic!("the turn ended"),
        () = cut => {}
    }
    report!("memory of the program in a turn, KiB: {}", peak.max(memory_of_tree(program_of(&pod))));
    pod.kill();
    forget_end_of(&pod, "t4k");
    let calls = model.log().len();
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("restart to ready: {:?}", begun.elapsed());
    let interrupted = pod.turn("t5", "!run tail -f /dev/null").await;
    assert_eq!((interrupted.status, interrupted.body["code"].as_str()), (502, Some("interrupted")));
    assert_eq!(pod.activate(&request()).await.body["harness_session_id"], conversation.as_str());
    assert_eq!(pod.turn("t1", "hello").await.body, first.body);
    let found = pod.turn("t4k", "!say kept").await;
    assert_eq!((found.status, &found.body), (200, &kept.body), "it is found in the harness's own record");
    assert_eq!(model.log().len(), calls, "what was lost was run again");
    let begun = Instant::now();
    let again = pod.turn("t6", "!say still here").await;
    report!("first turn after the restart: {:?}", begun.elapsed());
    assert_eq!(again.text(), "still here");
    assert_eq!(model.log().last().unwrap().earlier_user_texts[0], "hello");
    let told = read(&pod, "/v1/messages").await;
    let cut = told.as_array().unwrap().iter().rfind(|message| {
        message["info"]["time"]["completed"].is_null() && message["info"]["role"] == "assistant"
    });
    assert!(cut.is_some(), "the cut turn is told, without an end: {told}");

    // A model's error is a reply.
    let failed = pod.turn("t7", "!fail 400").await;
    assert_eq!(
        (failed.status, failed.body["info"]["error"]["name"].as_str()),
        (200, Some("APIError")),
        "{}",
        failed.body
    );
    assert_eq!(failed.body["info"]["error"]["data"]["statusCode"], 400, "{}", failed.body);
    assert_eq!(pod.turn("t8", "!say better").await.text(), "better");
    let seen = model.log().pop().unwrap();
    // Behind what was said in the turn that was cut off.
    assert!(seen.earlier_user_texts.last().unwrap().ends_with("!say still here"), "{seen:?}");
    assert!(!seen.earlier_user_texts.contains(&"!fail 400".to_owned()), "what was refused is sent again");
    for text in [pod.log(), std::fs::read_to_string(pod.journal()).unwrap()] {
        assert!(!text.contains(MODEL_KEY));
    }
    let begun = Instant::now();
    pod.terminate();
    let exit = pod.exit().await;
    report!("terminated in {:?}", begun.elapsed());
    assert!(exit.success(), "{exit}\n{}", pod.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_ends_the_turn_and_the_next_one_goes_on() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    pod.start();
    pod.ready().await;
    pod.activate(&request()).await;
    let marker = pod.workspace().join("started");
    let stop = async {
        until("the tool runs", Duration::from_secs(20), || marker.exists().then_some(())).await;
        let begun = Instant::now();
        assert_eq!(abort(&pod).await.status, 200);
        begun
    };
    let (aborted, begun) = tokio::join!(pod.turn("t1", "!run touch started; exec tail -f /dev/null"), stop);
    report!("abort to the end of the turn: {:?}", begun.elapsed());
    assert_eq!(
        (aborted.status, aborted.body["info"]["error"]["name"].as_str()),
        (200, Some("MessageAbortedError")),
        "{}",
        aborted.body
    );
    let tool = aborted.body["parts"].as_array().unwrap().iter().find(|part| part["type"] == "tool").unwrap();
    assert_eq!(tool["state"]["status"], "error", "{tool}");
    assert_eq!(pod.turn("t2", "!say on").await.text(), "on");
    pod.idle("idle", |idle| idle > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_the_volume_goes_on_with_the_conversation() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut first = pod(&program, &model);
    first.start();
    first.ready().await;
    first.activate(&request()).await;
    first.turn("t1", "remember pineapple").await;
    assert_eq!(first.turn("t2", "!run echo hi").await.text().trim(), "ran: hi");
    let told = read(&first, "/v1/messages").await;
    assert_eq!(ids(&told).len(), 4, "two turns: {told}");
    // The transcript has the same, in pieces.
    let page = read(&first, "/v1/transcript?after=0").await;
    let mut kept = Vec::new();
    for entry in page["entries"].as_array().unwrap() {
        match entry["kind"].as_str().unwrap() {
            "messages" => kept.extend(ids(&entry["body"]["messages"])),
            "ended" => kept.push(entry["body"]["reply"]["info"]["id"].as_str().unwrap()),
            _ => {}
        }
    }
    assert_eq!(kept, ids(&told));
    drop(first);

    let mut second = pod(&program, &model);
    second.start();
    second.ready().await;
    let continued = ActivateRequest { continues: true, ..request_of(2) };
    assert_eq!(second.activate(&continued).await.status, 200);
    let token = second.token(SESSION, Scope::Turn);
    let given = json!({"messages": told});
    let begun = Instant::now();
    let given = second.call(Method::POST, "/v1/conversation", Some(&token), Some(&given)).await.unwrap();
    report!("taking over a conversation of 4 messages: {:?}", begun.elapsed());
    assert_eq!(given.status, 200, "{}\n{}", given.body, second.log());
    assert_eq!(second.turn("t3", "!say on").await.text(), "on");
    let seen = model.log().pop().unwrap();
    assert_eq!(seen.earlier_user_texts, ["remember pineapple", "!run echo hi"]);
    let now = read(&second, "/v1/messages").await;
    assert_eq!(ids(&now)[..4], ids(&told)[..], "in their order, before what is new");
    assert!(ids(&now).is_sorted(), "{:?}", ids(&now));

    second.kill();
    second.start();
    second.ready().await;
    assert_eq!(second.turn("t4", "!say still").await.text(), "still");
    assert_eq!(model.log().pop().unwrap().earlier_user_texts.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_told_as_it_happens_and_can_be_read() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&request()).await;
    let own = activated.body["harness_session_id"].as_str().unwrap().to_owned();
    let mut events = pod.follow(None).await;
    assert!(events.next().await.unwrap()["event"].is_null());
    for (turn, text) in [("t1", "!run echo a-word"), ("t2", "!chunks 3 50\n!say one two")] {
        let until_rest = async {
            let mut told = Vec::new();
            loop {
                let line = events.next().await.unwrap();
                assert!(line["gap"].is_null(), "{line}");
                told.push(line["event"].clone());
                if line["rests"] == true {
                    return told;
                }
            }
        };
        let (told, replied) = tokio::join!(until_rest, pod.turn(turn, text));
        assert_eq!(told.last().unwrap()["type"], "session.idle");
        let deltas: String = told.iter().filter_map(|event| event["properties"]["delta"].as_str()).collect();
        assert_eq!(deltas, replied.text(), "{told:?}");
        let ran = |event: &Value| event["properties"]["part"]["state"]["output"] == "a-word";
        assert_eq!(told.iter().any(ran), turn == "t1", "{told:?}");
    }

    let sessions = pod.pass(Method::GET, "/session", None).await;
    assert_eq!(
        (sessions.status, sessions.body[0]["id"].as_str()),
        (200, Some(own.as_str())),
        "{}",
        sessions.body
    );
    assert_eq!(pod.pass(Method::GET, &format!("/session/{own}"), None).await.body["title"], "A test");
    let told = pod.pass(Method::GET, &format!("/session/{own}/message"), None).await;
    assert_eq!(ids(&told.body).len(), 4);
    for path in ["/session/ses_unknown", "/config", "/event"] {
        assert_eq!(pod.pass(Method::GET, path, None).await.status, 404, "{path}");
    }
    let body = json!({"parts": [{"type": "text", "text": "!say mine"}], "system": "Be brief."});
    assert_eq!(pod.call_turn("t3", &format!("/session/{own}/message"), &body).await.text(), "mine");
    assert!(model.log().last().unwrap().system.contains("Be brief."));
    let gone = pod.call_turn("t4", "/session/ses_unknown/message", &body).await;
    assert_eq!((gone.status, gone.body["code"].as_str()), (404, Some("not_in_harness")), "{}", gone.body);
}

/// A server of the Model Context Protocol in a few lines of shell: its one tool says a variable of its environment.
const MCP: &str = r#"while read -r line; do
  id=$(printf %s "$line" | sed -nE 's/.*"id":([0-9]+).*/\1/p')
  case $line in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"colour","description":"c","inputSchema":{"type":"object","properties":{}}}]}' ;;
    *) result='{}' ;;
  esac
  if [ -n "$id" ]; then echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"; fi
done"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_offered_the_agent_s_own_tools_and_the_repository_s_skills() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    pod.start();
    pod.ready().await;
    let skill = pod.workspace().join(".claude/skills/herons");
    std::fs::create_dir_all(&skill).unwrap();
    std::fs::write(
        skill.join("SKILL.md"),
        "---\nname: herons\ndescription: All about herons\n---\nThey wade.",
    )
    .unwrap();
    let mut request = request();
    let transport = McpTransport::Stdio {
        command: ["bash", "-c", MCP].map(str::to_owned).to_vec(),
        env: vec![EnvVar { name: "MINE".into(), value: "x".into() }],
    };
    request.agent.equipment.mcp_servers = vec![McpServer { name: "paint".into(), transport }];
    assert_eq!(pod.activate(&request).await.status, 200);
    assert_eq!(pod.turn("t1", "!say hi").await.text(), "hi");
    let seen = model.log().pop().unwrap();
    assert!(seen.tools.contains(&"mcp__paint__colour".to_owned()), "{:?}\n{}", seen.tools, pod.log());
    assert!(seen.tools.contains(&"Skill".to_owned()), "{:?}", seen.tools);
}
