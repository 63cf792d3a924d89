//! The runner with the real opencode and the scripted model. Needs `PADDOCK_TEST_OPENCODE`, the path of an
//! opencode binary; without it the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};
use support::{MODEL_KEY, Pod, SESSION, memory, request, request_of, until};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_from_boot_to_restart() {
    let Some(opencode) = opencode() else { return };
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

/// Speaks to opencode behind the runner's back, as a program of the agent could.
struct Backdoor {
    base: String,
    authorization: String,
}

impl Backdoor {
    fn open(pod: &Pod) -> Self {
        let log = pod.log();
        let base = log.rsplit("opencode server listening on ").next().unwrap().split_whitespace().next();
        let env = std::fs::read(format!("/proc/{}/environ", pod.children()[0])).unwrap();
        let env = String::from_utf8_lossy(&env).into_owned();
        let password =
            env.split('\0').find_map(|pair| pair.strip_prefix("OPENCODE_SERVER_PASSWORD=")).unwrap();
        let authorization = format!("Basic {}", STANDARD.encode(format!("opencode:{password}")));
        Self { base: base.unwrap().to_owned(), authorization }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::new(body.to_string().into()));
        let response = client.request(request.unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    async fn titles(&self) -> Vec<String> {
        let sessions = self.ask(Method::GET, "/session", &Value::Null).await;
        let title = |session: &Value| session["title"].as_str().unwrap().to_owned();
        sessions.as_array().unwrap().iter().map(title).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_in_a_pod_that_has_nothing_of_the_one_before() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut first = Pod::new(&[&opencode], &model.base_url());
    first.start();
    first.ready().await;
    first.activate(&request()).await;
    first.turn("t1", "remember pineapple").await;
    assert_eq!(first.turn("t2", "!run echo hi").await.text().trim(), "ran: hi");
    let told = read(&first, "/v1/messages").await;
    let ids = |messages: &Value| -> Vec<String> {
        let id = |message: &Value| message["info"]["id"].as_str().unwrap().to_owned();
        messages.as_array().unwrap().iter().map(id).collect()
    };
    assert_eq!(ids(&told).len(), 5, "two turns, one with a step: {told}");
    // The transcript has the same, in pieces.
    let page = read(&first, "/v1/transcript?after=0").await;
    let mut kept = Vec::new();
    for entry in page["entries"].as_array().unwrap() {
        match entry["kind"].as_str().unwrap() {
            "messages" => kept.extend(ids(&entry["body"]["messages"])),
            "ended" => kept.push(entry["body"]["reply"]["info"]["id"].as_str().unwrap().to_owned()),
            _ => {}
        }
    }
    assert_eq!(kept, ids(&told));
    first.kill();

    let mut second = Pod::new(&[&opencode], &model.base_url());
    second.start();
    second.ready().await;
    let continued = paddock_runnerapi::ActivateRequest { continues: true, ..request_of(2) };
    second.activate(&continued).await;
    let refused = second.turn("t3", "!say on").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("needs_conversation")));
    let token = second.token(SESSION, paddock_runnerapi::Scope::Turn);
    let begun = Instant::now();
    let given = json!({"messages": told});
    let given = second.call(Method::POST, "/v1/conversation", Some(&token), Some(&given)).await.unwrap();
    report!("taking over a conversation of 5 messages: {:?}", begun.elapsed());
    assert_eq!(given.status, 200, "{}\n{}", given.body, second.log());
    assert_eq!(second.turn("t3", "!say on").await.text(), "on");
    let seen = model.log().pop().unwrap();
    assert_eq!(seen.earlier_user_texts, ["remember pineapple", "!run echo hi"]);
    let now = read(&second, "/v1/messages").await;
    assert_eq!(ids(&now)[..5], ids(&told)[..], "in their order, before what is new");
    assert_eq!(ids(&now).len(), 7);

    // The container restarts: nothing is asked for again.
    second.kill();
    second.start();
    second.ready().await;
    assert_eq!(second.turn("t4", "!say still").await.text(), "still");
}

async fn read(pod: &Pod, path: &str) -> Value {
    let token = pod.token(SESSION, paddock_runnerapi::Scope::Turn);
    let answer = pod.call(Method::GET, path, Some(&token), None).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_its_next_pods() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut first = Pod::new(&[&opencode], &model.base_url());
    let begun = Instant::now();
    first.start();
    first.ready().await;
    report!("first pod to ready: {:?}", begun.elapsed());
    let activated = first.activate(&request()).await;
    assert_eq!(first.turn("t1", "remember the heron").await.text(), "echo: remember the heron");
    assert_eq!(first.turn("t2", "!run printf kept > kept.txt").await.status, 200);

    // opencode works although no turn runs.
    let conversation = activated.body["harness_session_id"].as_str().unwrap();
    let work = json!({"model": {"providerID": "paddock", "modelID": "agent"},
        "parts": [{"type": "text", "text": "!hang 3"}]});
    Backdoor::open(&first).ask(Method::POST, &format!("/session/{conversation}/prompt_async"), &work).await;
    first.idle("busy", |idle| idle == 0).await;
    assert_eq!(first.activity().await.body["turns"], json!({"total": 2, "running": 0, "queued": 0}));
    assert_eq!(first.quiesce(&json!({"if_idle_ms": 0})).await.body["code"], "busy");
    first.idle("idle", |idle| idle >= 300).await;
    assert_eq!(first.quiesce(&json!({"if_idle_ms": 300})).await.status, 200);
    assert_eq!(first.turn("t3", "too late").await.body["code"], "quiesced");
    first.terminate();
    assert!(first.exit().await.success());

    let begun = Instant::now();
    let mut second = first.next("pod-uid-2");
    second.start();
    second.ready().await;
    report!("next pod to ready: {:?}", begun.elapsed());
    let resumed = second.activate(&request_of(2)).await;
    report!("resume: {:?} ms", resumed.body["took_ms"]);
    assert_eq!(resumed.status, 200, "{}", resumed.body);
    assert_eq!(resumed.body["harness_session_id"], conversation);
    assert_eq!(second.turn("t1", "remember the heron").await.text(), "echo: remember the heron");
    let begun = Instant::now();
    assert_eq!(second.turn("t3", "too late").await.text(), "echo: too late");
    report!("first turn of the next pod: {:?}", begun.elapsed());
    assert_eq!(model.log().last().unwrap().earlier_user_texts[0], "remember the heron");
    let ran = second.turn("t4", "!run cat kept.txt && git status --short").await;
    assert!(ran.text().contains("kept"), "{}", ran.body);
    let backdoor = Backdoor::open(&second);
    let history = backdoor.ask(Method::GET, &format!("/session/{conversation}/message"), &Value::Null).await;
    let text = history.to_string();
    assert!(text.contains("remember the heron") && text.contains("too late"), "{text}");
    assert_eq!(backdoor.titles().await, ["A test"], "warm-up turns left something");

    // The second pod dies in the middle of a turn, without a chance to clear up.
    let calls = model.log().len();
    let cut = until("the model has the turn", Duration::from_secs(20), || {
        (model.log().len() > calls).then_some(())
    });
    tokio::select! {
        _ = second.try_turn("t5", "!hang 60") => panic!("the turn ended"),
        () = cut => {}
    }
    second.kill();
    let begun = Instant::now();
    let mut third = first.next("pod-uid-3");
    third.start();
    third.ready().await;
    report!("pod after a crash to ready: {:?}", begun.elapsed());
    assert_eq!(third.activate(&request_of(3)).await.body["harness_session_id"], conversation);
    assert_eq!(third.turn("t5", "!hang 60").await.body["code"], "interrupted");
    assert_eq!(third.turn("t6", "!say on and on").await.text(), "on and on");
    assert_eq!(model.log().last().unwrap().earlier_user_texts[0], "remember the heron");
    assert_eq!(third.activity().await.body["turns"]["total"], 6);
    third.terminate();
    assert!(third.exit().await.success());

    // The home is lost: the session goes on in its workspace, with a new conversation.
    std::fs::remove_dir_all(first.dir.join("home")).unwrap();
    std::fs::create_dir(first.dir.join("home")).unwrap();
    let mut fourth = first.next("pod-uid-4");
    fourth.start();
    fourth.ready().await;
    let renewed = fourth.activate(&request_of(4)).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert_ne!(renewed.body["harness_session_id"], conversation);
    assert_eq!(fourth.turn("t7", "!say anew").await.text(), "anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_opencode_does_in_the_conversation_is_told_as_it_happens() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::new(&[&opencode], &model.base_url());
    pod.start();
    pod.ready().await;
    let activated = pod.activate(&request()).await;
    let conversation = &activated.body["harness_session_id"];
    let mut events = pod.follow(None).await;
    assert!(events.next().await.unwrap()["event"].is_null());

    for (turn, word) in [("t1", "first-word"), ("t2", "second-word")] {
        let text = format!("!run echo {word}");
        let (mut told, mut bytes) = (Vec::new(), 0);
        let until_rest = async {
            loop {
                let line = events.next().await.unwrap();
                assert!(line["gap"].is_null(), "{line}");
                bytes += line.to_string().len();
                let rests = line["rests"] == true;
                told.push(line["event"].clone());
                if rests {
                    return Instant::now();
                }
            }
        };
        let replies = async {
            pod.turn(turn, &text).await;
            Instant::now()
        };
        let (rested, replied) = tokio::join!(until_rest, replies);
        report!("{turn}: {} events, {bytes} bytes", told.len());
        report!("session.idle after the reply: {:?}", rested.checked_duration_since(replied));
        assert_eq!(told.last().unwrap()["type"], "session.idle");
        let is_of_conversation = |event: &Value| event.to_string().contains(conversation.as_str().unwrap());
        assert!(told.iter().all(is_of_conversation), "{told:?}");
        let ran = |event: &&Value| {
            let part = &event["properties"]["part"];
            part["type"] == "tool" && part["state"]["output"].to_string().contains(word)
        };
        assert!(told.iter().any(|event| ran(&event)), "the tool's part is told: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_api_is_open_and_what_works_there_is_a_turn() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::new(&[&opencode], &model.base_url());
    pod.start();
    pod.ready().await;
    let own = pod.activate(&request()).await.body["harness_session_id"].as_str().unwrap().to_owned();

    // A conversation beside the session's own, with the agent's prompt and model.
    let made = pod.pass(Method::POST, "/session", Some(&json!({"title": "beside"}))).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.headers["x-paddock-harness"], "answered");
    let beside = made.body["id"].as_str().unwrap().to_owned();
    assert_ne!(beside, own);
    let message = format!("/session/{beside}/message");
    let text = |text: &str| json!({"parts": [{"type": "text", "text": text}], "model": {"providerID": "x", "modelID": "y"}});
    let said = pod.call_turn("t1", &message, &text("!say beside")).await;
    assert_eq!((said.status, said.text().as_str()), (200, "beside"), "{}", said.body);
    assert_eq!(said.headers["x-paddock-turn-id"], "t1");
    let call = model.log().last().unwrap().clone();
    assert_eq!(call.model, "gpt-test");
    assert!(call.system.ends_with("You are a careful tester."), "{}", call.system);
    assert_eq!(pod.turn("t2", "!say own").await.text(), "own");
    assert_eq!(
        pod.call_turn("t3", &format!("/session/{own}/message"), &text("!say mine")).await.text(),
        "mine"
    );

    // The same again is the same turn, and asks no model.
    let calls = model.log().len();
    assert_eq!(pod.call_turn("t1", &message, &text("!say beside")).await.body, said.body);
    assert_eq!(pod.call_turn("t1", &message, &text("!say other")).await.status, 422);
    assert_eq!(model.log().len(), calls);

    // Each conversation has its own messages only; the transcript has the session's.
    let texts = |told: &Value| {
        let parts = told.as_array().unwrap().iter().flat_map(|message| message["parts"].as_array().unwrap());
        let texts =
            parts.filter(|part| part["type"] == "text").map(|part| part["text"].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    let told = pod.pass(Method::GET, &message, None).await.body;
    assert_eq!(texts(&told), ["!say beside", "beside"]);
    let token = pod.token(SESSION, paddock_runnerapi::Scope::Turn);
    let told = pod.call(Method::GET, "/v1/messages", Some(&token), None).await.unwrap().body;
    assert_eq!(texts(&told), ["!say own", "own", "!say mine", "mine"]);
    let page = pod.call(Method::GET, "/v1/transcript?after=0", Some(&token), None).await.unwrap().body;
    let of_t1: Vec<&Value> =
        page["entries"].as_array().unwrap().iter().filter(|e| e["turn"] == "t1").collect();
    assert_eq!(of_t1[0]["body"]["conversation"], json!(beside));
    assert!(of_t1.iter().all(|entry| entry["kind"] != "messages"), "{of_t1:?}");

    // A shell command is a turn as well, and what it says is in the conversation.
    let shell = json!({"agent": "build", "command": "printf %s from-a-call > called.txt"});
    let ran = pod.call_turn("t4", &format!("/session/{own}/shell"), &shell).await;
    assert_eq!(ran.status, 200, "{}", ran.body);
    assert_eq!(std::fs::read_to_string(pod.workspace().join("called.txt")).unwrap(), "from-a-call");
    let page = pod.call(Method::GET, "/v1/transcript?after=0", Some(&token), None).await.unwrap().body;
    let of_t4: Vec<&Value> =
        page["entries"].as_array().unwrap().iter().filter(|e| e["turn"] == "t4").collect();
    assert_eq!(of_t4[0]["body"]["parts"][0]["text"], "!printf %s from-a-call > called.txt");
    let summary = pod
        .call_turn("t5", &format!("/session/{own}/summarize"), &json!({"providerID": "x", "modelID": "y"}))
        .await;
    assert_eq!((summary.status, &summary.body), (200, &json!(true)));

    // What is only told to the agent is kept like everything else.
    let note = json!({"parts": [{"type": "text", "text": "a note"}], "noReply": true});
    let noted = pod.call_turn("t8", &format!("/session/{own}/message"), &note).await;
    assert_eq!((noted.status, noted.text().as_str()), (200, "a note"), "{}", noted.body);
    let page = pod.call(Method::GET, "/v1/transcript?after=0", Some(&token), None).await.unwrap().body;
    let of_t8: Vec<&Value> =
        page["entries"].as_array().unwrap().iter().filter(|e| e["turn"] == "t8").collect();
    assert_eq!(of_t8[1]["body"]["messages"][0]["info"]["id"], noted.body["info"]["id"], "{of_t8:?}");

    // What is not there, what is closed, and what is no API.
    for (method, path, status) in [
        (Method::DELETE, format!("/session/{own}"), 403),
        (Method::PATCH, "/config".to_owned(), 403),
        (Method::POST, message.clone(), 400),
        (Method::GET, "/no/such/path".to_owned(), 404),
        (Method::GET, "/session/ses_unknown".to_owned(), 404),
        (Method::DELETE, format!("/session/{beside}"), 200),
    ] {
        let answer = pod.pass(method.clone(), &path, None).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    let gone = pod.call_turn("t6", &message, &text("!say gone")).await;
    assert_eq!((gone.status, gone.body["code"].as_str().unwrap()), (404, "not_in_harness"), "{}", gone.body);
    let calls = model.log().len();
    let bad = pod.call_turn("t7", &format!("/session/{own}/message"), &json!({})).await;
    assert_eq!((bad.status, bad.body["code"].as_str().unwrap()), (400, "bad_request"), "{}", bad.body);
    assert_eq!(model.log().len(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_beside_the_session_s_own_survives_the_runner() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = Pod::new(&[&opencode], &model.base_url());
    pod.start();
    pod.ready().await;
    assert_eq!(pod.activate(&request()).await.status, 200);
    let made = pod.pass(Method::POST, "/session", Some(&json!({"title": "beside"}))).await;
    let message = format!("/session/{}/message", made.body["id"].as_str().unwrap());
    let text = |text: &str| json!({"parts": [{"type": "text", "text": text}]});
    let said = pod.call_turn("t1", &message, &text("!say before")).await;
    assert_eq!(said.text(), "before");

    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.activate(&request()).await.status, 200);
    let calls = model.log().len();
    assert_eq!(
        pod.call_turn("t1", &message, &text("!say before")).await.body,
        said.body,
        "it is not run again"
    );
    assert_eq!(model.log().len(), calls);
    assert_eq!(pod.call_turn("t2", &message, &text("!say after")).await.text(), "after");
}
