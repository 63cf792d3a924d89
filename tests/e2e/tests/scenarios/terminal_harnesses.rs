//! Claude Code and Codex, used through their terminals by somebody who types and looks.

use std::time::{Duration, Instant};

use futures::future::join_all;
use paddock_api::Session;
use paddock_api::session::StartupPath;
use paddock_e2e::http::message_route;
use paddock_e2e::objects::Kind;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::terminal::Terminal;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, processes, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
const ESCAPE: &str = "\x1b";

/// A program under test.
struct Known {
    harness: &'static str,
    program: &'static str,
    /// On its screen once it waits for somebody, who was asked nothing before.
    waits: &'static str,
    /// On its screen while it works.
    works: &'static str,
    /// On its screen after it was interrupted.
    interrupted: &'static str,
    /// Where it asks for models.
    path: &'static str,
}

const CLAUDE_CODE: Known = Known {
    harness: "claude-code",
    program: "claude",
    waits: "bypass permissions on",
    works: "esc to interrupt",
    interrupted: "Interrupted",
    path: "/v1/messages",
};
const CODEX: Known = Known {
    harness: "codex",
    program: "codex",
    waits: "permissions: YOLO mode",
    works: "esc to interrupt",
    interrupted: "Conversation interrupted",
    path: "/v1/responses",
};

#[tokio::test]
async fn claude_code_asks_nothing_and_works() {
    scenario("Claude Code", Share::Shared, LIMIT, async |s| life(s, &CLAUDE_CODE).await).await;
}

#[tokio::test]
async fn codex_asks_nothing_and_works() {
    scenario("Codex", Share::Shared, LIMIT, async |s| life(s, &CODEX).await).await;
}

async fn life(s: &Scenario, known: &Known) {
    let harness = known.harness;
    let pool = s.private_pool(harness).of(harness).replicas(1).create().await;
    pool::full(s, &s.env.namespace, &pool).await;
    let (sign, agent) = agent(s, known, &pool).await;
    let made = s.http.post(&format!("/agents/{agent}/session?wait=240s"), &json!({})).await;
    let id = made.with_status(200)["id"].as_str().expect("an id").to_owned();
    s.record(Kind::Session, &s.env.namespace, &id);
    measure::times(&format!("{harness}: POST session→ready, warm"), &[made.took]);
    let begun = Instant::now();
    let mut terminal = s.attach(&id).await;
    terminal.shows(known.waits).await;
    measure::times(&format!("{harness}: attach→it waits for a prompt"), &[begun.elapsed()]);
    let session = s.ready(&id).await;
    let status = session.status.as_ref().expect("a status");
    assert_eq!(status.startup.as_ref().map(|startup| startup.path), Some(StartupPath::Warm));
    assert!(s.model.calls_with(&sign).await.is_empty(), "it asked the model by itself");

    // Its shell works in the pod, and its model is behind LiteLLM. The space keeps `!` from being a command of its own.
    let word = s.word("made");
    let begun = Instant::now();
    terminal.prompts(&format!(" !run echo {word} > made.txt; echo fi\"\"n")).await;
    terminal.sees("the reply", |text| text.contains("ran: ") && text.contains("fin\n")).await;
    measure::times(&format!("{harness}: first prompt, with a shell command→reply"), &[begun.elapsed()]);
    let file = s.exec(&session, &["cat", "/workspace/made.txt"]).await.succeeded();
    assert_eq!(file.trim(), word);
    let calls = s.model.calls_with(&word).await;
    assert!(calls.iter().any(|call| call.system.contains(&sign)), "the agent's prompt: {calls:?}");
    assert!(calls.iter().all(|call| call.model == "scripted"), "{calls:?}");
    s.went_through_litellm(&session, known.path).await;

    // A key interrupts it, whatever its tool does.
    terminal.prompts(" !run touch begun; sleep 600").await;
    wait::until("the tool runs", LIVENESS, async || {
        let output = s.exec(&session, &["cat", "/workspace/begun"]).await;
        if output.ok { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    terminal.shows(known.works).await;
    let begun = Instant::now();
    terminal.presses(ESCAPE).await;
    let interrupted = |text: &str| text.contains(known.interrupted) && !text.contains(known.works);
    terminal.sees("that it was interrupted", interrupted).await;
    measure::times(&format!("{harness}: Escape→interrupted"), &[begun.elapsed()]);
    says(s, &mut terminal, "next").await;

    // It takes no messages, and says where its terminal is.
    let attachments = json!([{ "mime_type": "image/png", "base64": "aGVsbG8=" }]);
    for body in [json!({ "text": "hello" }), json!({ "text": "look", "attachments": attachments })] {
        let refused = s.http.post(&message_route(&id), &body).await.error(409, Some("terminal_only"));
        assert_eq!(refused["tty_url"], paddock_e2e::terminal::path(&id));
    }
}

#[tokio::test]
async fn show_the_same_to_who_comes_back_and_after_the_gateway_was_killed() {
    scenario("Claude Code, Codex and a killed gateway", Share::Alone, LIMIT, async |s| {
        let programs = [&CLAUDE_CODE, &CODEX];
        let open = join_all(programs.map(|known| open(s, known))).await;
        let gateway = s.the_gateway().await;
        assert_eq!(s.sigkill_gateways(std::slice::from_ref(&gateway)).await, 1, "it runs on this machine");
        s.remove_pods(std::slice::from_ref(&gateway)).await;
        for Open { known, session, process, conversation } in open {
            let name = name_of(&session);
            let mut again = s.attach_to_another(&name, &uid(&gateway)).await;
            again.shows(&conversation).await;
            again.shows_the_same_as(&mut s.attach(&name).await).await;
            let processes = processes::of_pod(&pod_of(&session).uid, known.program);
            assert!(processes.contains(&process), "another program: {process} is not in {processes:?}");
            says(s, &mut again, "still").await;
        }
    })
    .await;
}

/// A program to which somebody has come back once, and what stands on its screen of their conversation.
struct Open<'a> {
    known: &'a Known,
    session: Session,
    process: u32,
    conversation: String,
}

async fn open<'a>(s: &Scenario, known: &'a Known) -> Open<'a> {
    let pool = s.private_pool(known.harness).of(known.harness).create().await;
    let (_, agent) = agent(s, known, &pool).await;
    let name = s.session(known.harness, &agent, Value::Null).await;
    let begun = Instant::now();
    let session = s.ready(&name).await;
    measure::times(&format!("{}: Session→Ready, cold", known.harness), &[begun.elapsed()]);
    let mut first = s.attach(&name).await;
    first.shows(known.waits).await;
    let word = says(s, &mut first, "begun").await;
    // It may have children of its own name.
    let process = processes::of_pod(&pod_of(&session).uid, known.program).into_iter().min();
    let process = process.expect("it runs on this machine");

    // Below and above the conversation a program may show what passes.
    let text = first.text();
    let (begin, end) = (text.find(&word).expect("the prompt"), text.rfind(&word).expect("the reply"));
    let begin = text[..begin].rfind('\n').map_or(0, |at| at + 1);
    let conversation = text[begin..end + word.len()].to_owned();
    first.shows_the_same_as(&mut s.attach(&name).await).await;
    drop(first);
    let mut again = s.attach(&name).await;
    again.shows(&conversation).await;
    again.shows_the_same_as(&mut s.attach(&name).await).await;
    Open { known, session, process, conversation }
}

/// An agent with a word in its prompt, which is returned with its name.
async fn agent(s: &Scenario, known: &Known, pool: &str) -> (String, String) {
    let sign = s.word("sign");
    let spec = json!({
        "harness": known.harness, "poolRef": { "name": pool }, "prompt": format!("Your sign is {sign}."),
    });
    let agent = s.agent(known.harness, spec).await;
    (sign, agent)
}

/// Has the model say a word, which is returned once the reply is shown and a prompt is waited for.
async fn says(s: &Scenario, terminal: &mut Terminal, word: &str) -> String {
    let word = s.word(word);
    terminal.prompts(&format!(" !say {word}")).await;
    let replied = |text: &str| text.matches(&word).count() == 2 && !text.contains(CLAUDE_CODE.works);
    terminal.sees("the reply", replied).await;
    word
}
