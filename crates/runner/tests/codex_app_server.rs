//! The runner with the real app server of Codex and the scripted model. Needs `PADDOCK_TEST_CODEX`, the path of the program; without
//! it the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use http::Method;
use paddock_runnerapi::{ActivateRequest, EnvVar, McpServer, McpTransport, Scope};
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};
use support::mcp::{self, MCP_TOKEN};
use support::{MODEL_KEY, Pod, SESSION, memory, request, request_of, until};

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

const LIMIT: Duration = Duration::from_secs(30);
/// A 1×1 image.
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn program() -> Option<String> {
    let variable = "PADDOCK_TEST_CODEX";
    let program = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if program.is_none() {
        report!("skipped: {variable} names no program");
    }
    program
}

fn pod(program: &str, model: &ScriptedModel) -> Pod {
    Pod::with_adapter("codex-app-server", &[program], &model.base_url())
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

fn ids(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["info"]["id"].as_str().unwrap()).collect()
}

fn tool_of(reply: &Value) -> &Value {
    let parts = reply["parts"].as_array().unwrap();
    parts.iter().find(|part| part["type"] == "tool").unwrap_or_else(|| panic!("no tool: {reply}"))
}

/// What users have said; Codex tells the model of its workspace in the same way.
fn said_before(model: &ScriptedModel) -> Vec<String> {
    let seen = model.log().pop().unwrap();
    let is_said = |text: &String| !text.starts_with('<') && !text.starts_with("# AGENTS.md");
    seen.earlier_user_texts.into_iter().filter(is_said).collect()
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
    assert!(!pod.log().contains("websocket"), "it looked for another endpoint: {}", pod.log());
    let process = pod.children()[0];
    report!("memory, waiting, KiB (all, anonymous): {:?}", memory(process));

    std::fs::write(pod.workspace().join("AGENTS.md"), "The heron is grey.").unwrap();
    let begun = Instant::now();
    let activated = pod.activate(&request()).await;
    report!("activation: {:?}, inside {} ms", begun.elapsed(), activated.body["took_ms"]);
    assert_eq!(activated.status, 200, "{}\n{}", activated.body, pod.log());
    assert_eq!(activated.body["capabilities"], json!({"messages": true, "terminal": false}));
    assert_eq!(pod.children()[0], process, "it was started again for the session");
    let conversation = activated.body["harness_session_id"].as_str().unwrap().to_owned();

    let begun = Instant::now();
    let first = pod.turn("t1", "hello").await;
    report!("first turn: {:?}", begun.elapsed());
    assert_eq!((first.status, first.text().as_str()), (200, "echo: hello"), "{}", first.body);
    assert_eq!(first.body["info"]["sessionID"], conversation.as_str());
    assert!(first.body["info"]["tokens"]["input"].as_u64().unwrap() > 0, "{}", first.body);
    let seen = model.log();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].model.as_str(), seen[0].path.as_str()), ("gpt-test", "/v1/responses"));
    assert!(seen[0].system.contains("You are a careful tester."), "{}", seen[0].system);
    assert!(seen[0].earlier_user_texts.iter().any(|text| text.contains("The heron is grey.")), "{seen:?}");

    // A tool that changes files, in the agent's environment, is a part of the one reply. Codex by itself would refuse `rm -f`.
    let command = "printf %s \"$AGENT_COLOUR\" > made.txt; touch x; rm -rf x; env | grep -ci paddock_";
    let begun = Instant::now();
    let ran = pod.turn("t2", &format!("!think hm\n!run {command}")).await;
    report!("turn with a shell command: {:?}", begun.elapsed());
    assert_eq!(std::fs::read_to_string(pod.workspace().join("made.txt")).unwrap(), "it's \"blue\" $HOME");
    assert!(!pod.workspace().join("x").exists());
    let tool = tool_of(&ran.body);
    assert_eq!(
        (&tool["tool"], &tool["state"]["input"]["command"]),
        (&json!("bash"), &json!(command)),
        "{tool}"
    );
    assert_eq!((&tool["state"]["status"], &tool["state"]["output"]), (&json!("completed"), &json!("0\n")));
    let parts = ran.body["parts"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["type"] == "reasoning" && part["text"] == "hm"), "{}", ran.body);

    let mut times = Vec::new();
    for number in 0..5 {
        let begun = Instant::now();
        assert_eq!(pod.turn(&format!("n{number}"), "!say x").await.text(), "x");
        times.push(begun.elapsed());
    }
    report!("later turns: {times:?}");
    report!("memory, after turns, KiB (all, anonymous): {:?}", memory(process));
    let calls = model.log().len();
    assert_eq!(pod.turn("t2", &format!("!think hm\n!run {command}")).await.body, ran.body);
    assert_eq!(model.log().len(), calls, "a repeated turn reached the model");

    // An image reaches the model; what is no image is refused.
    let image =
        json!([{"type": "text", "text": "!say seen"}, {"type": "file", "mime": "image/png", "url": IMAGE}]);
    assert_eq!(pod.try_parts("t3", &image).await.unwrap().text(), "seen");
    let told = read(&pod, "/v1/messages").await;
    let shown = told.as_array().unwrap().iter().rfind(|message| message["info"]["role"] == "user").unwrap();
    assert_eq!((&shown["parts"][1]["type"], &shown["parts"][1]["url"]), (&json!("file"), &json!(IMAGE)));
    let text = json!([{"type": "file", "mime": "text/plain", "url": "data:text/plain;base64,eA=="}]);
    let refused = pod.try_parts("t4", &text).await.unwrap();
    assert_eq!((refused.status, refused.body["code"].as_str()), (400, Some("bad_request")));

    // Of this turn the runner will not have written the end.
    let kept = pod.turn("t4k", "!say kept").await;

    // The runner dies in the middle of a turn; the container restarts with the same folders.
    let marker = pod.workspace().join("cut");
    let cut = until("the tool runs", LIMIT, || marker.exists().then_some(()));
    tokio::select! {
        _ = pod.try_turn("t5", "!run touch cut; exec tail -f /dev/null") => panic!("the turn ended"),
        () = cut => {}
    }
    pod.kill();
    forget_end_of(&pod, "t4k");
    let calls = model.log().len();
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    report!("restart to ready: {:?}", begun.elapsed());
    let interrupted = pod.turn("t5", "!run touch cut; exec tail -f /dev/null").await;
    assert_eq!((interrupted.status, interrupted.body["code"].as_str()), (502, Some("interrupted")));
    assert_eq!(pod.activate(&request()).await.body["harness_session_id"], conversation.as_str());
    assert_eq!(pod.turn("t1", "hello").await.body, first.body);
    let found = pod.turn("t4k", "!say kept").await;
    assert_eq!((found.status, &found.body["parts"]), (200, &kept.body["parts"]), "Codex's own record has it");
    assert_eq!(found.body["info"]["time"], kept.body["info"]["time"]);
    assert_eq!(model.log().len(), calls, "what was lost was run again");
    let begun = Instant::now();
    assert_eq!(pod.turn("t6", "!say still here").await.text(), "still here");
    report!("first turn after the restart: {:?}", begun.elapsed());
    assert_eq!(said_before(&model)[0], "hello");
    let told = read(&pod, "/v1/messages").await;
    let cut = told.as_array().unwrap().iter().filter(|message| {
        message["info"]["time"]["completed"].is_null() && message["info"]["role"] == "assistant"
    });
    assert_eq!(cut.count(), 1, "the cut turn is told, without an end: {told}");

    // A model's error is a reply.
    let failed = pod.turn("t7", "!fail 400").await;
    let error = &failed.body["info"]["error"];
    assert_eq!((failed.status, error["name"].as_str()), (200, Some("APIError")), "{}", failed.body);
    assert_eq!(error["data"]["message"], "scripted failure 400", "{error}");
    assert_eq!(pod.turn("t8", "!say better").await.text(), "better");
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
    let mut events = pod.follow(None).await;
    let marker = pod.workspace().join("pid");
    let stop = async {
        while events.next().await.unwrap()["event"]["properties"]["part"]["state"]["status"] != "running" {}
        let written = || std::fs::read_to_string(&marker).ok().filter(|text| text.ends_with('\n'));
        let process: u32 = until("the tool runs", LIMIT, written).await.trim().parse().unwrap();
        let token = pod.token(SESSION, Scope::Turn);
        let begun = Instant::now();
        let aborted = pod.call(Method::POST, "/v1/abort", Some(&token), None).await.unwrap();
        assert_eq!(aborted.status, 200);
        (begun, process)
    };
    let script = "!run echo $$ > pid; exec tail -f /dev/null";
    let (aborted, (begun, process)) = tokio::join!(pod.turn("t1", script), stop);
    report!("abort to the end of the turn: {:?}", begun.elapsed());
    let error = &aborted.body["info"]["error"];
    assert_eq!(
        (aborted.status, error["name"].as_str()),
        (200, Some("MessageAbortedError")),
        "{}",
        aborted.body
    );
    assert_eq!(tool_of(&aborted.body)["state"]["status"], "error", "{}", aborted.body);
    let told = read(&pod, "/v1/messages").await;
    assert_eq!(told[1], aborted.body, "it is told as it was answered");
    let gone = || (!std::path::Path::new(&format!("/proc/{process}")).exists()).then_some(());
    until("the tool's program has ended", LIMIT, gone).await;
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
    assert!(first.turn("t2", "!run echo hi").await.text().ends_with("hi\n"));
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
    assert_eq!(said_before(&model), ["remember pineapple", "!run echo hi"]);
    let now = read(&second, "/v1/messages").await;
    assert_eq!(ids(&now)[..4], ids(&told)[..], "in their order, before what is new");
    assert_eq!(now[1]["parts"], told_of(&now, &told)[1]["parts"]);
    assert!(ids(&now).is_sorted(), "{:?}", ids(&now));

    second.kill();
    second.start();
    second.ready().await;
    assert_eq!(second.turn("t4", "!say still").await.text(), "still");
    assert_eq!(said_before(&model).len(), 3);
    assert_eq!(ids(&read(&second, "/v1/messages").await).len(), 8);
}

/// The messages as those of the other conversation.
fn told_of(now: &Value, told: &Value) -> Value {
    let (own, earlier) = (&now[0]["info"]["sessionID"], &told[0]["info"]["sessionID"]);
    let text = told.to_string().replace(earlier.as_str().unwrap(), own.as_str().unwrap());
    serde_json::from_str(&text).unwrap()
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
        let ran = |event: &Value| event["properties"]["part"]["state"]["output"] == "a-word\n";
        assert_eq!(told.iter().any(ran), turn == "t1", "{told:?}");
        // Whoever puts the events together has the reply.
        let last = |field: &str, id: &Value| {
            let found = told.iter().rfind(|event| event["properties"][field]["id"] == *id);
            found.map(|event| event["properties"][field].clone())
        };
        let info = &replied.body["info"];
        assert_eq!(last("info", &info["id"]).as_ref(), Some(info));
        for part in replied.body["parts"].as_array().unwrap() {
            assert_eq!(last("part", &part["id"]).as_ref(), Some(part));
        }
        assert!(last("info", &info["parentID"]).is_some(), "the user's message: {told:?}");
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
    for (turn, unknown) in [("t4", "ses_unknown"), ("t5", "ses_01a220e5-865a-79c1-88b6-5780632c9299")] {
        let gone = pod.call_turn(turn, &format!("/session/{unknown}/message"), &body).await;
        assert_eq!((gone.status, gone.body["code"].as_str()), (404, Some("not_in_harness")), "{}", gone.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_offered_the_agent_s_tools_and_skills() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    pod.start();
    pod.ready().await;
    let skill = pod.workspace().join(".agents/skills/herons");
    std::fs::create_dir_all(&skill).unwrap();
    let text = "---\nname: herons\ndescription: All about herons\n---\nThey wade.";
    std::fs::write(skill.join("SKILL.md"), text).unwrap();
    let mut request = request();
    let script = mcp::program(&pod.workspace());
    let stdio = McpTransport::Stdio {
        command: vec!["python3".to_owned(), script.to_str().unwrap().to_owned()],
        env: vec![
            EnvVar { name: "TOKEN".into(), value: "own".into() },
            EnvVar { name: "COLOUR".into(), value: "blue".into() },
        ],
    };
    let headers = vec![EnvVar { name: "Authorization".into(), value: MCP_TOKEN.into() }];
    let http = McpTransport::Http { url: mcp::server().await, headers };
    request.agent.equipment.mcp_servers = vec![
        McpServer { name: "near".into(), transport: stdio },
        McpServer { name: "far".into(), transport: http },
    ];
    let activated = pod.activate(&request).await;
    assert_eq!(activated.status, 200, "{}\n{}", activated.body, pod.log());
    assert_eq!(pod.turn("t1", "!say hi").await.text(), "hi");
    let seen = model.log().pop().unwrap();
    for server in ["mcp__near", "mcp__far"] {
        assert!(seen.tools.iter().any(|tool| tool == server), "{:?}\n{}", seen.tools, pod.log());
    }
    assert!(seen.system.contains("All about herons"), "{}", seen.system);
    for unfit in ["multi_agent_v1", "create_goal"] {
        assert!(!seen.tools.iter().any(|tool| tool == unfit), "{:?}", seen.tools);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mcp_server_that_cannot_be_used_fails_the_activation_and_the_next_one_may_do() {
    let Some(program) = program() else { return };
    let model = model().await;
    let mut pod = pod(&program, &model);
    pod.start();
    pod.ready().await;
    let mut without = request();
    let transport = McpTransport::Stdio { command: vec!["/no/such/program".to_owned()], env: vec![] };
    without.agent.equipment.mcp_servers = vec![McpServer { name: "near".into(), transport }];
    let failed = pod.activate(&without).await;
    assert_eq!(failed.body["code"], "activation_failed", "{}", failed.body);
    let said = failed.body["error"].as_str().unwrap();
    assert!(said.contains("the MCP server \"near\"") && said.contains("No such file"), "{said}");
    assert_eq!(pod.activate(&request()).await.status, 200);
    assert_eq!(pod.turn("t1", "!say hi").await.text(), "hi");
    let sessions = pod.pass(Method::GET, "/session", None).await;
    assert_eq!(sessions.body.as_array().unwrap().len(), 1, "{}", sessions.body);
}
