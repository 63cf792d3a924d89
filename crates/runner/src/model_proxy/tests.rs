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
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let messages = json!([{"role": "user", "content": text}]);
    let body = json!({"model": "agent", "stream": true, "messages": messages});
    let request = Request::post(format!("{}/chat/completions", proxy.base_url()))
        .header("authorization", format!("Bearer {token}"))
        .body(Full::from(body.to_string()))
        .unwrap();
    client.request(request).await.unwrap()
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
