//! The runner beside a server that speaks opencode's wire as the images of LiteLLM Agent Platform do.

#![allow(clippy::unwrap_used)] // a panic is the report

mod support;

use std::time::Duration;

use http::Method;
use paddock_runnerapi::{ActivateRequest, EnvVar, Equipment, McpServer, McpTransport, Scope, TextFile};
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};
use support::lap::{Lap, free_port};
use support::{POD, Pod, SESSION, equipped, request, until};

/// A pod whose server listens at this port, in a container of its own.
fn pod_beside(port: u16, model_base_url: &str) -> Pod {
    let mut pod = Pod::with_adapter("http", &[] as &[&str], model_base_url);
    pod.env.push(("PADDOCK_HARNESS_PORT".into(), port.to_string()));
    pod
}

/// A pod that is ready, and its server.
async fn booted() -> (Pod, Lap) {
    let lap = Lap::start(0).await;
    let mut pod = pod_beside(lap.address.port(), "http://127.0.0.1:9/v1");
    pod.start();
    pod.ready().await;
    (pod, lap)
}

/// A session without variables: the server's container is not ours to give it any.
fn plain() -> ActivateRequest {
    let mut request = request();
    request.agent.env.clear();
    request
}

async fn read(pod: &Pod, path: &str) -> Value {
    let token = pod.token(SESSION, Scope::Turn);
    let answer = pod.call(Method::GET, path, Some(&token), None).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn texts(messages: &Value) -> Vec<&str> {
    let messages = messages.as_array().unwrap().iter();
    messages
        .flat_map(|message| message["parts"].as_array().unwrap())
        .filter_map(|part| part["text"].as_str())
        .collect()
}

#[tokio::test]
async fn it_is_waited_for_and_gets_its_session_by_its_own_wire() {
    let port = free_port();
    let mut pod = pod_beside(port, "http://127.0.0.1:9/v1");
    pod.start();
    let alive = || std::net::TcpStream::connect(pod.address).ok();
    until("the runner serves", Duration::from_secs(20), alive).await;
    for (path, status) in [("/livez", 200), ("/readyz", 503)] {
        assert_eq!(pod.call(Method::GET, path, None, None).await.unwrap().status, status, "{path}");
    }
    let lap = Lap::start(port).await;
    pod.ready().await;

    let header = EnvVar { name: "X-Key".into(), value: "k".into() };
    let transport = McpTransport::Http { url: "http://mcp/x".into(), headers: vec![header] };
    let mut wanted = equipped(Equipment {
        files: vec![TextFile { path: "docs/a.txt".into(), content: "hello".into() }],
        mcp_servers: vec![McpServer { name: "tickets".into(), transport }],
        ..Equipment::default()
    });
    wanted.agent.env.clear();
    let activated = pod.activate(&wanted).await;
    assert_eq!((activated.status, activated.body["harness_session_id"].as_str()), (200, Some("conv_1")));
    let path = pod.workspace().join("docs/a.txt");
    let expected = json!({
        "title": "A test", "prompt": "You are a careful tester.",
        "files": [{"sandbox_path": path, "content": "aGVsbG8="}],
        "mcp_servers": [{"name": "tickets", "url": "http://mcp/x", "transport": "http", "headers": {"X-Key": "k"}}],
    });
    assert_eq!(lap.opened(), [expected]);
    // The workspace is shared, so it has them in any case.
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hello");

    let mut events = pod.follow(None).await;
    let reply = pod.turn("t1", "use a tool").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "did use a tool"), "{}", reply.body);
    assert_eq!(reply.body["parts"][0]["state"]["output"], "hi");
    let said = &lap.said()[0];
    assert_eq!(said["model"], json!({"providerID": "litellm", "modelID": "gpt-test"}));
    assert_eq!(said["parts"][0]["text"], "use a tool");
    while events.next().await.unwrap()["event"]["type"] != "session.idle" {}

    let failed = pod.turn("t2", "fail").await;
    assert_eq!((failed.status, &failed.body["info"]["error"]["name"]), (200, &json!("SDKError")));
    let image = json!([{"type": "file", "mime": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}]);
    assert_eq!(pod.try_parts("t3", &image).await.unwrap().status, 200);
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
    assert_eq!(lap.said()[2]["parts"][0]["source"], source);
    let other = json!([{"type": "file", "mime": "text/plain", "url": "file:///etc/passwd"}]);
    assert_eq!(pod.try_parts("t4", &other).await.unwrap().status, 400);

    let token = pod.token(SESSION, Scope::Turn);
    let stop = async {
        while events.next().await.unwrap()["event"]["type"] != "message.updated" {}
        pod.call(Method::POST, "/v1/abort", Some(&token), None).await.unwrap()
    };
    let (hung, stopped) = tokio::join!(pod.turn("t5", "hang"), stop);
    assert_eq!((stopped.status, &hung.body["info"]["error"]["name"]), (200, &json!("AbortError")));

    // Each turn is stored whole, though its messages have names of the server's own.
    let told = read(&pod, "/v1/transcript?after=0").await;
    let entries = told["entries"].as_array().unwrap();
    let of_first: Vec<_> =
        entries.iter().filter(|entry| entry["body"]["turn"] == "t1" || entry["turn"] == "t1").collect();
    let user = of_first.iter().find(|entry| entry["kind"] == "messages").unwrap_or_else(|| panic!("{told}"));
    assert_eq!(texts(&user["body"]["messages"]), ["use a tool"], "{told}");
    assert_eq!(texts(&read(&pod, "/v1/messages").await)[..2], ["use a tool", "did use a tool"]);
    let passed = pod.pass(Method::GET, "/session/conv_1/message", None).await;
    assert_eq!((passed.status, passed.body.as_array().unwrap().len()), (200, 8));
    let other = pod
        .call_turn("t6", "/session/conv_9/message", &json!({"parts": [{"type": "text", "text": "x"}]}))
        .await;
    assert_eq!((other.status, other.body["code"].as_str()), (404, Some("not_in_harness")), "{}", other.body);
}

#[tokio::test]
async fn what_it_cannot_be_given_is_refused_and_said() {
    let program = McpTransport::Stdio { command: vec!["x".into()], env: vec![] };
    let program = Equipment {
        mcp_servers: vec![McpServer { name: "tickets".into(), transport: program }],
        ..Equipment::default()
    };
    let with = |equipment: Equipment| ActivateRequest { agent: equipped(equipment).agent, ..plain() };
    let without_env = |mut request: ActivateRequest| {
        request.agent.env.clear();
        request
    };
    for (wanted, features, named) in [
        (request(), "abort", "giving the agent its environment"),
        (without_env(with(program.clone())), "mcp", "takes servers with a URL only"),
        (without_env(with(program)), "abort", "the session's harness takes none"),
    ] {
        let lap = Lap::start(0).await;
        let mut pod = pod_beside(lap.address.port(), "http://127.0.0.1:9/v1");
        pod.env.push(("PADDOCK_HARNESS_FEATURES".into(), features.into()));
        pod.start();
        pod.ready().await;
        let refused = pod.activate(&wanted).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("activation_failed")));
        assert!(refused.body["error"].as_str().unwrap().contains(named), "{}", refused.body);
        assert_eq!(lap.opened().len(), 0);
    }
    // What is not declared is not asked for.
    let lap = Lap::start(0).await;
    let mut pod = pod_beside(lap.address.port(), "http://127.0.0.1:9/v1");
    pod.env.push(("PADDOCK_HARNESS_FEATURES".into(), "none".into()));
    pod.env.push(("PADDOCK_HARNESS_MODEL".into(), "litellm/any".into()));
    pod.start();
    pod.ready().await;
    pod.activate(&plain()).await;
    assert_eq!(pod.turn("t1", "hi").await.status, 200);
    assert_eq!(lap.said()[0]["model"], json!({"providerID": "litellm", "modelID": "any"}));
    let image = json!([{"type": "file", "mime": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}]);
    let refused = pod.try_parts("t2", &image).await.unwrap();
    assert!(
        refused.status == 400 && refused.body["error"].as_str().unwrap().contains("text only"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn a_conversation_outlives_the_runner_but_not_the_server() {
    let (mut pod, lap) = booted().await;
    pod.activate(&plain()).await;
    pod.turn("t1", "one").await;
    // The runner alone restarts: the server still knows everything.
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t2", "two").await.text(), "did two");
    assert_eq!(lap.opened().len(), 1);

    lap.forgets();
    let lost = pod.turn("t3", "three").await;
    assert_eq!((lost.status, lost.body["code"].as_str()), (502, Some("harness_failed")), "{}", lost.body);
    assert!(lost.body["error"].as_str().unwrap().contains("does not know the session's conversation"));
    assert_eq!(pod.exit().await.code(), Some(1));
    let why = pod.termination_message();
    assert_eq!(why, "harness ended: it does not know the session's conversation any more");
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t4", "four").await.text(), "did four");
    assert_eq!(lap.opened().len(), 2);
    assert_eq!(lap.opened()[1]["files"], json!([]), "the agent's work is not written over");

    // The server ends, and is there again later.
    let port = lap.address.port();
    lap.end().await;
    assert_eq!(pod.exit().await.code(), Some(1));
    assert_eq!(pod.termination_message(), "harness ended: nothing listens at its port any more");
    pod.start();
    let lap = Lap::start(port).await;
    pod.ready().await;
    assert_eq!(pod.turn("t5", "five").await.text(), "did five");
    assert_eq!(lap.opened().len(), 1);
}

#[tokio::test]
async fn what_was_said_in_an_earlier_pod_is_told_with_the_next_message() {
    let (mut pod, lap) = booted().await;
    let continued = ActivateRequest { continues: true, incarnation: 2, ..plain() };
    pod.activate(&continued).await;
    assert_eq!(pod.turn("t1", "on").await.body["code"], "needs_conversation");
    let told = json!({"messages": [
        {"info": {"id": "u", "role": "user"}, "parts": [{"type": "text", "text": "remember pineapple"}]},
        {"info": {"id": "a", "role": "assistant"}, "parts": [{"type": "text", "text": "I will"}]},
    ]});
    let token = pod.token(SESSION, Scope::Turn);
    let given = pod.call(Method::POST, "/v1/conversation", Some(&token), Some(&told)).await.unwrap();
    assert_eq!(given.status, 200, "{}", given.body);
    // It is not lost with the container.
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.turn("t1", "on").await.status, 200);
    assert_eq!(pod.turn("t2", "and on").await.text(), "did and on");
    let said = lap.said();
    let before = said[0]["parts"][0]["text"].as_str().unwrap();
    assert!(before.contains("user: remember pineapple") && before.contains("assistant: I will"), "{before}");
    assert_eq!((&said[0]["parts"][1]["text"], said[1]["parts"].as_array().unwrap().len()), (&json!("on"), 1));
    // People do not see it again.
    assert_eq!(texts(&read(&pod, "/v1/messages").await)[0], "on");
}

#[tokio::test]
async fn its_models_are_asked_at_a_port_that_it_was_told_before() {
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let lap = Lap::start(0).await;
    let mut pod = pod_beside(lap.address.port(), &model.base_url());
    let port = free_port();
    pod.env.push(("PADDOCK_MODEL_PORT".into(), port.to_string()));
    pod.start();
    pod.ready().await;
    let ask = async |token: &str| {
        let client: hyper_util::client::legacy::Client<_, http_body_util::Full<bytes::Bytes>> =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let body = json!({"model": "any", "messages": [{"role": "user", "content": "!say hi"}]}).to_string();
        let request = http::Request::post(format!("http://127.0.0.1:{port}/v1/chat/completions"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        client.request(request.body(body.into()).unwrap()).await.unwrap().status().as_u16()
    };
    assert_eq!((ask(POD).await, model.log().len()), (200, 0), "no model is asked before there is a session");
    pod.activate(&plain()).await;
    assert_eq!((ask("wrong").await, ask(POD).await), (401, 200));
    let log = model.log();
    assert_eq!((log.len(), log[0].model.as_str()), (1, "gpt-test"));
}
