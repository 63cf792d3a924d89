//! A client of Paddock's HTTP API, as plain as the scripts people write.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::contract::Expectation;
use crate::environment::Environment;

/// Where the API's routes are.
pub const BASE: &str = "/api/v1/managed_agents";

/// The gateway, with a key: the master key, unless another is said.
#[derive(Clone, Debug)]
pub struct Http {
    url: String,
    key: String,
    client: reqwest::Client,
}

impl Http {
    /// A client without any time-out but for connecting: a silent turn may take very long.
    pub fn new(env: &Environment) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .expect("an HTTP client");
        Self { url: env.url.clone(), key: env.key.clone(), client }
    }

    /// The same client, for a gateway elsewhere.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same client with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request with the client's key to a route below [`BASE`].
    pub fn request(&self, method: Method, route: &str) -> RequestBuilder {
        self.anonymous(method, &format!("{BASE}{route}")).bearer_auth(&self.key)
    }

    /// A request without a key to a path of the gateway.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When there is no answer, or one that the OpenAPI document does not have.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let request = request.build().expect("a request");
        let what = format!("{} {}", request.method(), request.url().path());
        let expectation = Expectation::of(&request);
        let started = Instant::now();
        let response = self.client.execute(request).await;
        let response = response.unwrap_or_else(|error| panic!("{what}: no answer: {error:?}"));
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{what}: broke off: {error:?}"));
        let took = started.elapsed();
        expectation.check(status.as_u16(), &headers, &body);
        Answer { what, status, headers, body: body.to_vec(), took }
    }

    /// `GET`.
    pub async fn get(&self, route: &str) -> Answer {
        self.send(self.request(Method::GET, route)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, route: &str) -> Answer {
        self.send(self.request(Method::DELETE, route)).await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, route: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, route).json(body)).await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, route: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, route).json(body)).await
    }

    /// A message to a session, any body.
    pub async fn message(&self, session: &str, body: &Value) -> Answer {
        self.post(&message_route(session), body).await
    }

    /// A message of one text to a session.
    pub async fn say(&self, session: &str, text: &str) -> Answer {
        self.message(session, &json!({ "text": text })).await
    }

    /// A message of one text with an idempotency key.
    pub async fn say_once(&self, session: &str, key: &str, text: &str) -> Answer {
        let request = self.request(Method::POST, &message_route(session)).header("idempotency-key", key);
        self.send(request.json(&json!({ "text": text }))).await
    }

    /// Sends a message once, as a client does that sends it again with the same key until it is told its reply.
    pub async fn try_once(&self, session: &str, key: &str, text: &str) -> Result<Value, Unanswered> {
        let request = self.request(Method::POST, &message_route(session)).header("idempotency-key", key);
        let exchange = async {
            let response = request.json(&json!({ "text": text })).send().await?;
            let status = response.status().as_u16();
            response.json::<Value>().await.map(|body| (status, body))
        };
        let (status, body) =
            exchange.await.map_err(|error: reqwest::Error| Unanswered::ForNow(format!("{error:?}")))?;
        let code = body["code"].as_str().unwrap_or_default();
        match (status, code) {
            (200, _) => Ok(body),
            (503 | 429, _) | (502, "unreachable" | "turn_lost" | "misrouted") | (404, "creating") => {
                Err(Unanswered::ForNow(format!("{status} {body}")))
            }
            _ => Err(Unanswered::ForGood(format!("{status} {code}"))),
        }
    }
}

/// Why a message has no reply.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// It is to be sent again.
    ForNow(String),
    /// It never will have one: status and code.
    ForGood(String),
}

/// The route of a session's messages.
pub fn message_route(session: &str) -> String {
    format!("/sessions/{session}/message")
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path of the request, for messages.
    pub what: String,
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// Body.
    pub body: Vec<u8>,
    /// From the first byte sent to the last one received.
    pub took: Duration,
}

impl Answer {
    /// The body as text.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not, or is not declared to be.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(
            self.header("content-type").starts_with("application/json"),
            "{}: {} with content type {:?}, not JSON:\n{}",
            self.what,
            self.status,
            self.header("content-type"),
            self.body_text()
        );
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: not JSON ({error}): {}", self.what, self.body_text()))
    }

    /// The JSON body of an answer with this status.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn with_status(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.what, self.body_text());
        self.json()
    }

    /// What the agent said: the texts of the reply's text parts.
    ///
    /// # Panics
    /// When the answer is not a reply.
    #[track_caller]
    pub fn reply(&self) -> String {
        let reply = self.with_status(200);
        assert!(reply["info"].is_object(), "{}: a reply without info: {reply}", self.what);
        let parts = reply["parts"].as_array();
        let parts = parts.unwrap_or_else(|| panic!("{}: a reply without parts: {reply}", self.what));
        parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect()
    }

    /// Checks the form that every error has, and its stable code.
    ///
    /// # Panics
    /// When the answer is not such an error.
    #[track_caller]
    pub fn error(&self, status: u16, code: Option<&str>) -> Value {
        let body = self.with_status(status);
        let sentence = body["error"].as_str().unwrap_or_default();
        assert!(!sentence.is_empty(), "{}: an error without a sentence: {body}", self.what);
        let got = body["code"].as_str().unwrap_or_default();
        assert!(!got.is_empty(), "{}: an error without a code: {body}", self.what);
        if let Some(code) = code {
            assert_eq!(got, code, "{}: {body}", self.what);
        }
        let id = body["request_id"].as_str().unwrap_or_default();
        assert!(!id.is_empty(), "{}: an error without a request_id: {body}", self.what);
        assert_eq!(self.header("x-request-id"), id, "{}: header and body name different requests", self.what);
        body
    }
}
