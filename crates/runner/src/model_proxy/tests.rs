use std::time::{Duration, Instant};

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use paddock_testkit::ScriptedModel;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn proxy(base_url: &str) -> Arc<ModelProxy> {
    proxy_with(base_url, Some("sk-real")).await
}

async fn proxy_with(base_url: &str, key: Option<&str>) -> Arc<ModelProxy> {
    let api_key = key.map(|key| Secret::new(key.to_owned()));
    let gateway = ModelGateway { base_url: base_url.parse().unwrap(), api_key };
    ModelProxy::start(&gateway, None).await.unwrap()
}

async fn send(proxy: &ModelProxy, token: &str, text: &str) -> Response<Incoming> {
    let messages = json!([{"role": "user", "content": text}]);
    let body = json!({"model": "agent", "stream": true, "messages": messages});
    let url = format!("{}/chat/completions", proxy.base_url());
    ask(Request::post(url).header("authorization", format!("Bearer {token}")), &body).await
}

async fn ask(request: http::request::Builder, body: &Value) -> Response<Incoming> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    client.request(request.body(Full::from(body.to_string())).unwrap()).await.unwrap()
}

/// As Anthropic's clients ask.
async fn ask_messages(proxy: &ModelProxy, path: &str, body: &Value) -> Response<Incoming> {
    let request = Request::post(format!("{}{path}", proxy.anthropic_base_url()))
        .header("x-api-key", proxy.token().reveal())
        .header("anthropic-version", "2023-06-01");
    ask(request, body).await
}

async fn document(response: Response<Incoming>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn only_the_token_opens_it() {
    let proxy = proxy("http://127.0.0.1:9/v1").await;
    for token in ["", "x", "sk-real"] {
        assert_eq!(send(&proxy, token, "hi").await.status(), 401);
    }
    assert_eq!(send(&proxy, proxy.token().reveal(), "hi").await.status(), 200);
}

#[tokio::test]
async fn before_activation_it_answers_by_itself_and_afterwards_the_gateway_does() {
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let proxy = proxy(&model.base_url()).await;
    assert!(!proxy.is_bound());
    assert!(text(send(&proxy, proxy.token().reveal(), "hi").await).await.contains("ready"));
    assert!(model.log().is_empty());
    proxy.bind("gpt-test");
    assert!(text(send(&proxy, proxy.token().reveal(), "hi").await).await.contains("echo: hi"));
    assert_eq!(model.log()[0].model, "gpt-test");
}

#[tokio::test]
async fn answers_come_through_piece_by_piece_and_errors_as_they_are() {
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let proxy = proxy(&model.base_url()).await;
    proxy.bind("gpt-test");
    let token = proxy.token().reveal();
    let mut response = send(&proxy, token, "!chunks 2 300\n!say ab").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.body_mut().frame().await.unwrap().unwrap();
    let first = Instant::now();
    while response.body_mut().frame().await.is_some() {}
    assert!(first.elapsed() > Duration::from_millis(300), "the first piece came with the last");
    let failed = send(&proxy, token, "!fail 429").await;
    assert_eq!(failed.status(), 429);
    assert!(text(failed).await.contains("scripted failure 429"));
}

#[tokio::test]
async fn all_three_formats_reach_the_model_with_the_sessions_name() {
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let proxy = proxy(&model.base_url()).await;
    proxy.bind("gpt-test");
    let asked =
        json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "!say hi"}]});
    let answer = document(ask_messages(&proxy, "/v1/messages?beta=true", &asked).await).await;
    assert_eq!(answer["content"][0]["text"], "hi", "{answer}");
    let counted = document(ask_messages(&proxy, "/v1/messages/count_tokens?beta=true", &asked).await).await;
    assert!(counted["input_tokens"].as_u64().unwrap() > 1, "{counted}");
    let url = format!("{}/responses", proxy.base_url());
    let request = Request::post(url).header("authorization", format!("Bearer {}", proxy.token().reveal()));
    let streamed =
        text(ask(request, &json!({"model": "gpt-x", "stream": true, "input": "!say ho"})).await).await;
    assert!(streamed.contains("event: response.completed"), "{streamed}");
    assert!(text(send(&proxy, proxy.token().reveal(), "!say ha").await).await.contains("ha"));
    let seen: Vec<_> = model.log().into_iter().map(|seen| (seen.path, seen.model)).collect();
    let expected = ["/v1/messages", "/v1/responses", "/v1/chat/completions"];
    assert_eq!(seen, expected.map(|path| (path.to_owned(), "gpt-test".to_owned())));
}

#[tokio::test]
async fn warm_up_turns_of_claude_call_its_shell_tool_once() {
    let proxy = proxy("http://127.0.0.1:9/v1").await;
    let user = json!({"role": "user", "content": [{"type": "text", "text": WARM_TOOL_PROMPT}]});
    let mut asked = json!({"messages": [user], "tools": [{"name": "Read"}, {"name": "Bash"}]});
    let called = document(ask_messages(&proxy, "/v1/messages", &asked).await).await;
    assert_eq!(called["stop_reason"], "tool_use");
    assert_eq!(called["content"][0]["input"]["command"], "true", "{called}");
    asked["stream"] = true.into();
    let streamed = text(ask_messages(&proxy, "/v1/messages", &asked).await).await;
    assert!(streamed.contains(r#""partial_json":"{\"command\":\"true\""#), "{streamed}");
    assert!(streamed.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{streamed}");
    asked["messages"] = json!([user, {"role": "assistant", "content": called["content"]}, {"role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_warm", "content": ""}]}]);
    asked["stream"] = false.into();
    let said = document(ask_messages(&proxy, "/v1/messages", &asked).await).await;
    assert_eq!((&said["stop_reason"], &said["content"][0]["text"]), (&json!("end_turn"), &json!("ready")));
    let counted = document(ask_messages(&proxy, "/v1/messages/count_tokens", &asked).await).await;
    assert_eq!(counted, json!({"input_tokens": 1}));
}

#[tokio::test]
async fn only_the_sessions_model_is_listed() {
    let proxy = proxy("http://127.0.0.1:9/v1").await;
    let listed = async || {
        let url = format!("{}/models", proxy.base_url());
        let request = Request::get(url).header("x-api-key", proxy.token().reveal());
        document(ask(request, &Value::Null).await).await["data"].clone()
    };
    assert_eq!(listed().await, json!([]));
    proxy.bind("gpt-test");
    let data = listed().await;
    assert_eq!(data.as_array().unwrap().len(), 1);
    assert_eq!(data[0]["id"], "gpt-test");
}

#[tokio::test]
async fn errors_have_the_shape_of_the_format_that_is_spoken() {
    let proxy = proxy("http://127.0.0.1:9/v1").await;
    proxy.bind("m");
    let url = format!("{}/v1/messages", proxy.anthropic_base_url());
    let refused = ask(Request::post(url).header("x-api-key", "x"), &json!({})).await;
    assert_eq!(refused.status(), 401);
    let body = document(refused).await;
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("authentication_error")));
    for (path, body, status, kind) in [
        ("/v1/messages", json!([]), 400, "invalid_request_error"),
        ("/v1/messages", json!({}), 502, "api_error"),
        ("/v1/complete", json!({}), 404, "not_found_error"),
        ("/messages", json!({}), 404, "not_found_error"),
    ] {
        let failed = ask_messages(&proxy, path, &body).await;
        assert_eq!(failed.status(), status, "{path}");
        assert_eq!(document(failed).await["error"]["type"], kind, "{path}");
    }
    let url = format!("{}/embeddings", proxy.base_url());
    let request = Request::post(url).header("authorization", format!("Bearer {}", proxy.token().reveal()));
    let body = document(ask(request, &json!({})).await).await;
    assert_eq!(body["error"]["code"], "not_found");
    assert!(body["error"]["message"].as_str().unwrap().contains("POST /v1/responses"), "{body}");
}

/// A gateway that answers once and gives what it was asked.
async fn gateway() -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/deep/v1/", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.windows(2).any(|pair| pair == b"}]") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nx-request-id: r1\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (base_url, seen)
}

#[tokio::test]
async fn without_a_key_nothing_is_shown_to_the_gateway() {
    let (base_url, gateway) = gateway().await;
    let proxy = proxy_with(&base_url, None).await;
    proxy.bind("m");
    assert_eq!(send(&proxy, proxy.token().reveal(), "hi").await.status(), 200);
    let seen = gateway.await.unwrap().to_lowercase();
    assert!(!seen.contains("authorization"), "{seen}");
}

#[tokio::test]
async fn the_real_key_goes_to_the_gateway_and_nowhere_else() {
    let (base_url, gateway) = gateway().await;
    let proxy = proxy(&base_url).await;
    proxy.bind("m");
    let response = send(&proxy, proxy.token().reveal(), "hi").await;
    assert_eq!(response.headers()["x-request-id"], "r1");
    assert!(!response.headers().contains_key("set-cookie"));
    let seen = gateway.await.unwrap();
    assert!(seen.starts_with("POST /deep/v1/chat/completions HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: Bearer sk-real\r\n"), "{seen}");
    assert!(!seen.contains(proxy.token().reveal()));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_a_502_without_secrets() {
    let proxy = proxy("http://127.0.0.1:9/v1").await;
    proxy.bind("m");
    let failed = send(&proxy, proxy.token().reveal(), "hi").await;
    assert_eq!(failed.status(), 502);
    let body: Value = serde_json::from_str(&text(failed).await).unwrap();
    assert_eq!(body["error"]["type"], "bad_gateway");
    assert!(!body.to_string().contains("sk-real"));
}

#[tokio::test]
async fn the_gateway_hears_which_form_of_the_api_is_spoken() {
    let (base_url, gateway) = gateway().await;
    let proxy = proxy(&base_url).await;
    proxy.bind("m");
    let url = format!("{}/v1/messages?beta=true", proxy.anthropic_base_url());
    let request = Request::post(url)
        .header("authorization", format!("Bearer {}", proxy.token().reveal()))
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "a-1,b-2")
        .header("user-agent", "claude-cli");
    let asked = json!({"messages": [{"role": "user", "content": "x"}]});
    assert_eq!(ask(request, &asked).await.status(), 200);
    let seen = gateway.await.unwrap();
    assert!(seen.starts_with("POST /deep/v1/messages?beta=true HTTP/1.1\r\n"), "{seen}");
    for line in ["authorization: Bearer sk-real", "anthropic-version: 2023-06-01", "anthropic-beta: a-1,b-2"]
    {
        assert!(seen.contains(&format!("{line}\r\n")), "{line}: {seen}");
    }
    assert!(!seen.contains(proxy.token().reveal()) && !seen.contains("claude-cli"), "{seen}");
}
