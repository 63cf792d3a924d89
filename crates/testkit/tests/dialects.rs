//! Each dialect over HTTP, streaming and not, as a harness's client would see it.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use paddock_testkit::ScriptedModel;
use serde_json::{Value, json};

struct Fixture {
    model: ScriptedModel,
    client: Client<HttpConnector, Full<Bytes>>,
}

async fn start() -> Fixture {
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    Fixture { model, client: Client::builder(TokioExecutor::new()).build_http() }
}

impl Fixture {
    async fn call(&self, method: Method, path: &str, body: &Value) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.model.address()))
            .header("authorization", "Bearer very-secret")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn json(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.call(Method::POST, path, &body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn events(&self, path: &str, body: Value) -> Vec<Value> {
        let (status, text) = self.call(Method::POST, path, &body).await;
        assert_eq!(status, 200, "{text}");
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer).and_then(Value::as_str)).collect()
}

fn chat_tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"command": {"type": "string"}}});
    json!([{"type": "function", "function": {"name": "bash", "parameters": parameters}}])
}

#[tokio::test]
async fn chat_answers_and_calls_tools() {
    let fixture = start().await;
    let path = "/v1/chat/completions";
    let user = json!({"role": "user", "content": [{"type": "text", "text": "!run ls"}]});
    let asked = json!({"model": "m", "messages": [user], "tools": chat_tools()});
    let answer = fixture.json(path, asked).await;
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(call["function"]["name"], "bash");
    assert_eq!(call["function"]["arguments"], r#"{"command":"ls"}"#);
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 1);

    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "a b"});
    let asked =
        json!({"model": "m", "messages": [user, {"role": "assistant"}, result], "tools": chat_tools()});
    assert_eq!(fixture.json(path, asked).await["choices"][0]["message"]["content"], "ran: a b");
}

#[tokio::test]
async fn chat_streams_text_reasoning_calls_and_usage() {
    let fixture = start().await;
    let path = "/v1/chat/completions";
    let user = json!({"role": "user", "content": "!think hm\n!chunks 3 10\n!say abc"});
    let begun = Instant::now();
    let events = fixture.events(path, json!({"model": "m", "stream": true, "messages": [user]})).await;
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!(joined(&events, "/choices/0/delta/content"), "abc");
    assert_eq!(joined(&events, "/choices/0/delta/reasoning_content"), "hm");
    assert_eq!(joined(&events, "/choices/0/finish_reason"), "stop");
    assert!(events.last().unwrap()["usage"]["completion_tokens"].is_number());

    let user = json!({"role": "user", "content": "!run ls"});
    let asked = json!({"model": "m", "stream": true, "messages": [user], "tools": chat_tools()});
    let events = fixture.events(path, asked).await;
    assert_eq!(joined(&events, "/choices/0/delta/tool_calls/0/function/arguments"), r#"{"command":"ls"}"#);
    assert_eq!(joined(&events, "/choices/0/finish_reason"), "tool_calls");
}

fn responses_tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"command": {"type": "array"}}});
    json!([{"type": "function", "name": "shell", "parameters": parameters}])
}

#[tokio::test]
async fn responses_answers_and_calls_tools() {
    let fixture = start().await;
    let path = "/v1/responses";
    let user = json!({"role": "user", "content": [{"type": "input_text", "text": "!run ls"}]});
    let asked = json!({"model": "m", "input": [user], "tools": responses_tools()});
    let answer = fixture.json(path, asked).await;
    assert_eq!(answer["output"][0]["type"], "function_call");
    assert_eq!(answer["output"][0]["arguments"], r#"{"command":["bash","-c","ls"]}"#);
    let result = json!({"type": "function_call_output", "call_id": "call_1", "output": "a"});
    let asked = json!({"model": "m", "input": [user, result], "tools": responses_tools()});
    assert_eq!(fixture.json(path, asked).await["output"][0]["content"][0]["text"], "ran: a");
    let plain = fixture.json(path, json!({"model": "m", "input": "hello"})).await;
    assert_eq!(plain["output"][0]["content"][0]["text"], "echo: hello");
    assert!(plain["usage"]["output_tokens"].is_number());
}

#[tokio::test]
async fn responses_streams_text_reasoning_and_calls() {
    let fixture = start().await;
    let path = "/v1/responses";
    let input = "!think hm\n!chunks 2 1\n!say abcd";
    let events = fixture.events(path, json!({"model": "m", "stream": true, "input": input})).await;
    let of = |kind: &str| -> Vec<Value> { events.iter().filter(|e| e["type"] == kind).cloned().collect() };
    assert_eq!(joined(&of("response.output_text.delta"), "/delta"), "abcd");
    assert_eq!(joined(&of("response.reasoning_summary_text.delta"), "/delta"), "hm");
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert_eq!(events.last().unwrap()["response"]["output"][1]["content"][0]["text"], "abcd");
    let asked = json!({"model": "m", "stream": true, "input": "!run ls", "tools": responses_tools()});
    let events = fixture.events(path, asked).await;
    let done = events.iter().find(|e| e["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!(done["arguments"], r#"{"command":["bash","-c","ls"]}"#);
}

fn anthropic_tools() -> Value {
    let schema = |field: &str| json!({"type": "object", "properties": {field: {"type": "string"}}});
    json!([
        {"name": "Bash", "input_schema": schema("command")},
        {"name": "Write", "input_schema": schema("file_path")},
    ])
}

#[tokio::test]
async fn messages_answers_and_calls_tools() {
    let fixture = start().await;
    let path = "/v1/messages";
    let user = json!({"role": "user", "content": "!write a.txt hello\n!run ls"});
    let asked = json!({"model": "m", "messages": [user], "tools": anthropic_tools()});
    let answer = fixture.json(path, asked).await;
    assert_eq!(answer["stop_reason"], "tool_use");
    assert_eq!(answer["content"][0]["name"], "Write");
    assert_eq!(answer["content"][0]["input"], json!({"file_path": "a.txt", "content": "hello"}));
    let result = |text: &str| {
        let reminder = json!({"type": "text", "text": "<system-reminder>x</system-reminder>"});
        let block = json!({"type": "tool_result", "tool_use_id": "t", "content": text});
        json!({"role": "user", "content": [block, reminder]})
    };
    let asked = json!({"model": "m", "messages": [user, result("written")], "tools": anthropic_tools()});
    assert_eq!(fixture.json(path, asked).await["content"][0]["name"], "Bash");
    let messages = json!([user, result("written"), result("a.txt")]);
    let asked = json!({"model": "m", "messages": messages, "tools": anthropic_tools()});
    let answer = fixture.json(path, asked).await;
    assert_eq!(answer["content"][0]["text"], "ran: written\nran: a.txt");
    assert!(answer["usage"]["input_tokens"].is_number());
    let counted = fixture.json("/v1/messages/count_tokens", json!({"model": "m", "messages": []})).await;
    assert!(counted["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn messages_streams_text_thinking_and_calls() {
    let fixture = start().await;
    let path = "/v1/messages";
    let user = json!({"role": "user", "content": "!think hm\n!chunks 2 1\n!say abcd"});
    let events = fixture.events(path, json!({"model": "m", "stream": true, "messages": [user]})).await;
    assert_eq!(joined(&events, "/delta/text"), "abcd");
    assert_eq!(joined(&events, "/delta/thinking"), "hm");
    assert_eq!(joined(&events, "/delta/stop_reason"), "end_turn");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let user = json!({"role": "user", "content": "!run ls"});
    let asked = json!({"model": "m", "stream": true, "messages": [user], "tools": anthropic_tools()});
    let events = fixture.events(path, asked).await;
    assert_eq!(joined(&events, "/delta/partial_json"), r#"{"command":"ls"}"#);
}

#[tokio::test]
async fn images_are_in_the_log() {
    let fixture = start().await;
    let url = "data:image/png;base64,aGk=";
    let source = json!({"type": "base64", "media_type": "image/png", "data": "aGk="});
    for (path, field, block) in [
        ("/v1/chat/completions", "messages", json!({"type": "image_url", "image_url": {"url": url}})),
        ("/v1/responses", "input", json!({"type": "input_image", "image_url": url})),
        ("/v1/messages", "messages", json!({"type": "image", "source": source})),
    ] {
        let user = json!({"role": "user", "content": [{"type": "text", "text": "look"}, block]});
        let other = json!({"role": "user", "content": "and on"});
        fixture.json(path, json!({"model": "m", field: [user, other]})).await;
        let seen = fixture.model.log().pop().unwrap();
        assert_eq!((seen.images, seen.last_user_text.as_str()), (vec![url.to_owned()], "and on"), "{path}");
    }
}

#[tokio::test]
async fn failures_have_the_dialects_shape() {
    let fixture = start().await;
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "!fail 429"}]});
    let (status, text) = fixture.call(Method::POST, "/v1/chat/completions", &chat).await;
    assert_eq!(status, 429);
    assert!(serde_json::from_str::<Value>(&text).unwrap()["error"]["message"].is_string());
    let (status, text) = fixture.call(Method::POST, "/v1/messages", &chat).await;
    assert_eq!(status, 429);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["error"]["type"], "rate_limit_error");
    let (status, _) = fixture.call(Method::POST, "/v1/responses", &json!({"input": "!fail 500"})).await;
    assert_eq!(status, 500);
}

#[tokio::test]
async fn silence_lasts_as_long_as_asked() {
    let fixture = start().await;
    let begun = Instant::now();
    let answer = fixture.json("/v1/responses", json!({"input": "!hang 0.2"})).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(answer["output"][0]["content"][0]["text"], "hung 0.2");
}

#[tokio::test]
async fn the_log_tells_what_was_asked_but_no_credentials() {
    let fixture = start().await;
    let system = json!({"role": "system", "content": "be kind"});
    let messages = json!([system, {"role": "user", "content": "hello"}]);
    let asked = json!({"model": "m1", "messages": messages, "tools": chat_tools()});
    fixture.json("/v1/chat/completions", asked).await;
    let (_, text) = fixture.call(Method::GET, "/log", &Value::Null).await;
    assert!(!text.contains("very-secret"));
    let seen = fixture.model.log();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&seen).unwrap());
    assert_eq!((seen[0].order, seen[0].model.as_str(), seen[0].system.as_str()), (1, "m1", "be kind"));
    assert_eq!(
        (seen[0].last_user_text.as_str(), seen[0].tools.as_slice()),
        ("hello", &["bash".to_owned()][..])
    );
    fixture.call(Method::DELETE, "/log", &Value::Null).await;
    assert_eq!(fixture.call(Method::GET, "/log", &Value::Null).await.1, "[]");
    assert_eq!(fixture.call(Method::GET, "/healthz", &Value::Null).await.0, 200);
    assert_eq!(fixture.call(Method::GET, "/v1/models", &Value::Null).await.0, 200);
    assert_eq!(fixture.call(Method::GET, "/nothing", &Value::Null).await.0, 404);
}
