use std::sync::atomic::Ordering;

use paddock_runnerapi::{
    AgentBinding, EnvVar, Equipment, InitialTurn, McpServer, McpTransport, QuiesceRequest, Repo, SessionRef,
    Skill, TextFile,
};

use super::*;
use crate::harness::fake::FakeHarness;
use crate::turns::testing::{Disk, MemoryStorage};

const POD: &str = "pod-1";

fn request(uid: &str, incarnation: u32) -> ActivateRequest {
    let agent = AgentBinding {
        model: "m".into(),
        prompt: None,
        env: vec![],
        turn_timeout_ms: 10_000,
        equipment: Equipment::default(),
        max_queued_turns: 2,
    };
    let session = SessionRef { namespace: "n".into(), name: "s".into(), uid: uid.into() };
    ActivateRequest {
        session,
        incarnation,
        agent,
        title: String::new(),
        continues: false,
        initial_turn: None,
    }
}

fn pod() -> (Arc<FakeHarness>, MemoryStorage, Arc<Activator>) {
    let (harness, storage) = (Arc::new(FakeHarness::default()), MemoryStorage::default());
    let activator = Activator::new(
        Arc::clone(&harness) as Arc<dyn Harness>,
        Tools::idle(),
        storage.journal(),
        POD.into(),
        Meter::start(),
    );
    (harness, storage, Arc::new(activator))
}

/// One that is done before anybody is told of progress.
async fn activate(
    activator: &Arc<Activator>,
    request: ActivateRequest,
) -> Result<ActivateResponse, ErrorBody> {
    match activator.activate(request).await? {
        Answer::Done(response) => Ok(response),
        Answer::Going(progress) => panic!("it goes on: {progress:?}"),
    }
}

fn code(answer: &Result<ActivateResponse, ErrorBody>) -> ErrorCode {
    answer.as_ref().unwrap_err().code
}

#[tokio::test]
async fn the_first_session_wins_and_is_answered_the_same_again() {
    let (harness, storage, activator) = pod();
    let first = activate(&activator, request("u1", 1)).await.unwrap();
    assert_eq!(storage.story(), ["activated u1"]);
    assert_eq!(activate(&activator, request("u1", 1)).await.unwrap(), first);
    assert_eq!(code(&activate(&activator, request("u2", 1)).await), ErrorCode::BoundToOther);
    assert_eq!(code(&activate(&activator, request("u1", 2)).await), ErrorCode::BoundToOther);
    assert_eq!(harness.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_many_at_once_one_session_wins() {
    let (harness, storage, activator) = pod();
    let ask = |number: usize| {
        let activator = Arc::clone(&activator);
        async move { activate(&activator, request(&format!("u{}", number % 3), 1)).await }
    };
    let answers = futures::future::join_all((0..12).map(ask)).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (4, 8));
    assert!(won.iter().all(|answer| answer == &won[0]));
    assert!(lost.iter().all(|answer| code(answer) == ErrorCode::BoundToOther));
    assert_eq!(harness.opened.load(Ordering::SeqCst), 1);
    assert_eq!(storage.story().len(), 1);
}

#[tokio::test]
async fn a_failed_activation_may_be_tried_again_by_its_session_only() {
    let (harness, storage, activator) = pod();
    harness.failures.store(1, Ordering::SeqCst);
    assert_eq!(code(&activate(&activator, request("u1", 1)).await), ErrorCode::HarnessFailed);
    assert_eq!(code(&activate(&activator, request("u2", 1)).await), ErrorCode::BoundToOther);
    storage.becomes(Disk::Full);
    assert_eq!(code(&activate(&activator, request("u1", 1)).await), ErrorCode::JournalFailed);
    assert!(activator.bound().is_none());
    storage.becomes(Disk::Good);
    assert!(activate(&activator, request("u1", 1)).await.is_ok());
}

#[tokio::test]
async fn the_initial_turn_runs_once_and_not_again_after_a_restart() {
    let (harness, storage, activator) = pod();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    let answer = activate(&activator, asked.clone()).await.unwrap();
    activate(&activator, asked.clone()).await.unwrap();
    let parts = vec![json!({"type": "text", "text": "next"})];
    activator
        .bound()
        .unwrap()
        .turns()
        .unwrap()
        .engine
        .submit(TurnRequest::message("t", parts))
        .await
        .unwrap();
    assert_eq!(harness.runs(), ["begin", "next"]);

    let (journal, restored) = storage.reopened();
    let second = Arc::new(Activator::new(
        Arc::clone(&harness) as Arc<dyn Harness>,
        Tools::idle(),
        journal,
        POD.into(),
        Meter::start(),
    ));
    second.restore(restored).await.unwrap();
    assert_eq!(harness.reopened.load(Ordering::SeqCst), 1);
    assert_eq!(activate(&second, asked).await.unwrap(), answer);
    assert_eq!(code(&activate(&second, request("u2", 1)).await), ErrorCode::BoundToOther);
    let parts = vec![json!({"type": "text", "text": "begin"})];
    let bound = second.bound().unwrap();
    bound.turns().unwrap().engine.submit(TurnRequest::message("initial", parts)).await.unwrap();
    assert_eq!(harness.runs(), ["begin", "next"]);
}

#[tokio::test]
async fn the_initial_turn_may_come_with_a_later_activation() {
    let (harness, storage, activator) = pod();
    let answer = activate(&activator, request("u1", 1)).await.unwrap();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    for _ in 0..3 {
        assert_eq!(activate(&activator, asked.clone()).await.unwrap(), answer);
    }
    let begin = || TurnRequest::message("initial", vec![json!({"type": "text", "text": "begin"})]);
    activator.bound().unwrap().turns().unwrap().engine.submit(begin()).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);

    let (journal, restored) = storage.reopened();
    let second = Arc::new(Activator::new(
        Arc::clone(&harness) as Arc<dyn Harness>,
        Tools::idle(),
        journal,
        POD.into(),
        Meter::start(),
    ));
    second.restore(restored).await.unwrap();
    second.bound().unwrap().turns().unwrap().engine.submit(begin()).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);
}

/// The next pod on the same volume; nothing of the last is left but that.
async fn next_pod(harness: &Arc<FakeHarness>, storage: &MemoryStorage, uid: &str) -> Arc<Activator> {
    let (journal, restored) = storage.reopened();
    let activator = Activator::new(
        Arc::clone(harness) as Arc<dyn Harness>,
        Tools::idle(),
        journal,
        uid.into(),
        Meter::start(),
    );
    activator.restore(restored).await.unwrap();
    Arc::new(activator)
}

fn message(id: &str, text: &str) -> TurnRequest {
    TurnRequest::message(id, vec![json!({"type": "text", "text": text})])
}

#[tokio::test]
async fn the_next_pod_goes_on_with_the_session() {
    let (harness, storage, first) = pod();
    let answer = activate(&first, request("u1", 1)).await.unwrap();
    let engine = &first.bound().unwrap().turns().unwrap().engine;
    let reply = engine.submit(message("done", "done")).await.unwrap();
    let lost = tokio::spawn({
        let engine = engine.clone();
        async move { engine.submit(message("lost", "wait")).await }
    });
    while harness.runs().len() < 2 {
        tokio::task::yield_now().await;
    }

    let second = next_pod(&harness, &storage, "pod-2").await;
    assert!(second.bound().is_none() && harness.reopened.load(Ordering::SeqCst) == 0);
    let mut asked = request("u1", 2);
    asked.agent.model = "another".into();
    let resumed = activate(&second, asked.clone()).await.unwrap();
    assert_eq!((resumed.incarnation, &resumed.harness_session_id), (2, &answer.harness_session_id));
    assert_eq!((harness.opened.load(Ordering::SeqCst), harness.reopened.load(Ordering::SeqCst)), (1, 1));
    let engine = &second.bound().unwrap().turns().unwrap().engine;
    assert_eq!(engine.submit(message("done", "done")).await.unwrap(), reply);
    assert_eq!(engine.submit(message("lost", "wait")).await.unwrap_err().code, ErrorCode::Interrupted);
    engine.submit(message("more", "more")).await.unwrap();
    assert_eq!(harness.runs(), ["done", "wait", "more"]);
    assert_eq!(engine.activity().await.turns.total, 3);
    lost.abort();

    // Within this pod all is as within the first.
    assert_eq!(activate(&second, asked.clone()).await.unwrap(), resumed);
    assert_eq!(code(&activate(&second, request("u1", 3)).await), ErrorCode::BoundToOther);
    assert_eq!(code(&activate(&second, request("u1", 1)).await), ErrorCode::BoundToOther);
    let restarted = next_pod(&harness, &storage, "pod-2").await;
    assert_eq!(activate(&restarted, asked).await.unwrap(), resumed);
    assert_eq!(restarted.bound().unwrap().activation.request.agent.model, "another");
}

#[tokio::test]
async fn a_volume_is_for_its_own_session_and_never_goes_back() {
    let (harness, storage, first) = pod();
    activate(&first, request("u1", 3)).await.unwrap();
    let second = next_pod(&harness, &storage, "pod-2").await;
    for refused in [request("u2", 1), request("u2", 4), request("u1", 2)] {
        let answer = activate(&second, refused).await;
        assert_eq!(code(&answer), ErrorCode::BoundToOther);
        assert!(answer.unwrap_err().error.contains("volume"));
    }
    assert_eq!(storage.story(), ["activated u1"]);
    // Those left no claim. A second pod for the same incarnation is as good: the first may have come to nothing.
    assert!(activate(&second, request("u1", 3)).await.is_ok());
    assert_eq!(code(&activate(&second, request("u1", 4)).await), ErrorCode::BoundToOther);
}

#[tokio::test]
async fn a_resume_that_fails_may_be_tried_again() {
    let (harness, storage, first) = pod();
    activate(&first, request("u1", 1)).await.unwrap();
    let engine = first.bound().unwrap().turns().unwrap().engine.clone();
    let lost = tokio::spawn(async move { engine.submit(message("lost", "wait")).await });
    while harness.runs().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = next_pod(&harness, &storage, "pod-2").await;
    harness.failures.store(1, Ordering::SeqCst);
    assert_eq!(code(&activate(&second, request("u1", 2)).await), ErrorCode::HarnessFailed);
    storage.becomes(Disk::Full);
    assert_eq!(code(&activate(&second, request("u1", 2)).await), ErrorCode::JournalFailed);
    storage.becomes(Disk::Good);
    assert!(activate(&second, request("u1", 2)).await.is_ok());
    let before = ["activated u1", "accepted lost", "started lost"];
    let after = ["activated u1", "1 messages lost", "interrupted lost"];
    assert_eq!(storage.story(), [before, after].concat());
    lost.abort();
}

#[tokio::test]
async fn the_initial_turn_runs_once_in_all_incarnations() {
    let (harness, storage, first) = pod();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    activate(&first, asked.clone()).await.unwrap();
    let begin = message("initial", "begin");
    first.bound().unwrap().turns().unwrap().engine.submit(begin.clone()).await.unwrap();
    asked.incarnation = 2;
    let second = next_pod(&harness, &storage, "pod-2").await;
    activate(&second, asked).await.unwrap();
    let third = next_pod(&harness, &storage, "pod-3").await;
    activate(&third, request("u1", 3)).await.unwrap();
    third.bound().unwrap().turns().unwrap().engine.submit(begin).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);
}

#[tokio::test]
async fn an_initial_turn_that_the_first_pod_did_not_get_to_is_run_by_the_next() {
    let (harness, storage, first) = pod();
    activate(&first, request("u1", 1)).await.unwrap();
    first.bound().unwrap().turns().unwrap().engine.quiesce(QuiesceRequest::default()).await.unwrap();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    activate(&first, asked).await.unwrap();
    let second = next_pod(&harness, &storage, "pod-2").await;
    activate(&second, request("u1", 2)).await.unwrap();
    second.bound().unwrap().turns().unwrap().engine.submit(message("initial", "begin")).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);
}

#[tokio::test]
async fn a_conversation_that_the_harness_has_lost_is_replaced_and_remembered() {
    let (harness, storage, first) = pod();
    activate(&first, request("u1", 1)).await.unwrap();
    harness.forgetful.store(true, Ordering::SeqCst);
    let second = next_pod(&harness, &storage, "pod-2").await;
    let answer = activate(&second, request("u1", 2)).await.unwrap();
    assert_eq!(answer.harness_session_id, "ses_2");
    let restarted = next_pod(&harness, &storage, "pod-2").await;
    assert_eq!(activate(&restarted, request("u1", 2)).await.unwrap().harness_session_id, "ses_3");
    harness.forgetful.store(false, Ordering::SeqCst);
    let restarted = next_pod(&harness, &storage, "pod-2").await;
    assert_eq!(activate(&restarted, request("u1", 2)).await.unwrap().harness_session_id, "ses_3");
}

#[tokio::test]
async fn a_journal_without_pod_uids_is_of_this_pod() {
    let (harness, storage, first) = pod();
    let answer = activate(&first, request("u1", 1)).await.unwrap();
    let (journal, mut restored) = storage.reopened();
    restored.activation.as_mut().unwrap().pod_uid = None;
    let line = serde_json::to_string(&Record::Activated(Box::new(restored.activation.clone().unwrap())));
    assert!(!line.unwrap().contains("pod_uid"));
    let restarted = Activator::new(
        Arc::clone(&harness) as Arc<dyn Harness>,
        Tools::idle(),
        journal,
        POD.into(),
        Meter::start(),
    );
    restarted.restore(restored).await.unwrap();
    assert_eq!(activate(&Arc::new(restarted), request("u1", 1)).await.unwrap(), answer);
}

#[tokio::test]
async fn an_environment_that_no_shell_takes_is_refused_before_the_pod_is_claimed() {
    let (_, _, activator) = pod();
    for (name, value) in [("1A", "x"), ("", "x"), ("A B", "x"), ("A;id", "x"), ("A", "x\0")] {
        let mut asked = request("u1", 1);
        asked.agent.env = vec![EnvVar { name: name.into(), value: value.into() }];
        assert_eq!(code(&activate(&activator, asked).await), ErrorCode::BadRequest, "{name:?}");
    }
    assert!(activate(&activator, request("u2", 1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_it_goes_on_waits_for_the_same_one() {
    let (harness, storage, activator) = pod();
    harness.holds.store(true, Ordering::SeqCst);
    let mut asked = request("u1", 1);
    asked.agent.equipment.mcp_servers = vec![server("m", "true")];
    for _ in 0..3 {
        let Answer::Going(progress) = activator.activate(asked.clone()).await.unwrap() else { panic!() };
        assert_eq!(progress.step, ActivationStep::ConnectingMcp);
    }
    assert_eq!(code(&activate(&activator, request("u2", 1)).await), ErrorCode::BoundToOther);
    // The prompt comes with one that did not begin it.
    let mut with_turn = asked.clone();
    with_turn.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    let (a, b, ()) =
        tokio::join!(activate(&activator, asked.clone()), activate(&activator, with_turn.clone()), async {
            harness.lets_go()
        });
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a, b);
    let steps: Vec<_> = a.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, [ActivationStep::ConnectingMcp, ActivationStep::OpeningHarness]);
    assert_eq!(activate(&activator, with_turn).await.unwrap(), a);
    let engine = &activator.bound().unwrap().turns().unwrap().engine;
    engine.submit(message("initial", "begin")).await.unwrap();
    assert_eq!((harness.opened.load(Ordering::SeqCst), harness.runs()), (1, vec!["begin".to_owned()]));
    assert_eq!(storage.story()[0], "activated u1");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_came_while_nobody_waited_is_told_once_and_then_tried_again() {
    let (harness, _, activator) = pod();
    harness.holds.store(true, Ordering::SeqCst);
    harness.failures.store(1, Ordering::SeqCst);
    assert!(matches!(activator.activate(request("u1", 1)).await, Ok(Answer::Going(_))));
    harness.lets_go();
    while harness.failures.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(&activate(&activator, request("u1", 1)).await), ErrorCode::HarnessFailed);
    assert!(activate(&activator, request("u1", 1)).await.is_ok());
}

fn server(name: &str, program: &str) -> McpServer {
    let transport = McpTransport::Stdio { command: vec![program.into()], env: vec![] };
    McpServer { name: name.into(), transport }
}

#[tokio::test]
async fn a_program_that_is_an_mcp_server_has_the_agents_environment_under_its_own() {
    let pair = |name: &str, value: &str| EnvVar { name: name.into(), value: value.into() };
    let mut asked = request("u1", 1);
    asked.agent.env = vec![pair("A", "agent's"), pair("PATH", "/agent's")];
    asked.agent.equipment.requirements.pip = vec!["ruff".into()];
    let mut near = server("near", "it");
    near.transport = McpTransport::Stdio { command: vec!["it".into()], env: vec![pair("A", "own")] };
    let far = McpTransport::Http { url: "https://h/mcp".into(), headers: vec![pair("h", "v")] };
    let far = McpServer { name: "far".into(), transport: far };
    asked.agent.equipment.mcp_servers = vec![near, far.clone()];
    let told = Tools::idle().as_told(&asked).agent;
    let [McpServer { transport: McpTransport::Stdio { env, .. }, .. }, other] =
        &told.equipment.mcp_servers[..]
    else {
        panic!("{:?}", told.equipment.mcp_servers)
    };
    assert_eq!(*env, [&told.env[..], &[pair("A", "own")]].concat());
    let path = env.iter().rfind(|variable| variable.name == "PATH").map(|found| found.value.as_str());
    assert!(path.is_some_and(|path| path.ends_with("/venv/bin:/agent's")), "{path:?}");
    assert_eq!(*other, far);
}

#[tokio::test]
async fn what_cannot_be_equipped_as_it_is_described_is_refused_before_the_pod_is_claimed() {
    let (_, _, activator) = pod();
    let file = |path: &str| TextFile { path: path.into(), content: String::new() };
    let repo =
        |url: &str| Some(Repo { url: url.into(), branch: None, credential: None, full_history: false });
    for (what, equipment) in [
        ("user", Equipment { repo: repo("https://me:secret@h/x"), ..Equipment::default() }),
        ("https://", Equipment { repo: repo("ext::sh"), ..Equipment::default() }),
        ("path", Equipment { files: vec![file("../x")], ..Equipment::default() }),
        (
            "skills",
            Equipment { skills: vec![Skill { name: "s".into(), files: vec![] }], ..Equipment::default() },
        ),
        (
            "has that name",
            Equipment { mcp_servers: vec![server("m", "a"), server("m", "b")], ..Equipment::default() },
        ),
        ("no program", Equipment { mcp_servers: vec![server("m", "")], ..Equipment::default() }),
        ("letters", Equipment { mcp_servers: vec![server("m m", "a")], ..Equipment::default() }),
    ] {
        let mut asked = request("u1", 1);
        asked.agent.equipment = equipment;
        let refused = activate(&activator, asked).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ActivationFailed, "{what}");
        assert!(refused.error.contains(what) && !refused.error.contains("secret"), "{}", refused.error);
    }
    assert!(activate(&activator, request("u2", 1)).await.is_ok());
}
