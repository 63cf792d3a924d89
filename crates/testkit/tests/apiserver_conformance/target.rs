//! One of the two servers.

use std::time::Duration;

use bytes::BytesMut;
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use paddock_kubeio::client::{self, ClientOptions};
use paddock_testkit::apiserver::{ApiServer, Kinds};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::plain::Plain;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A server, and what is needed to compare its answers.
pub struct Target {
    pub client: kube::Client,
    /// None if it is the real one.
    pub memory: Option<ApiServer>,
    pub plain: Plain,
}

impl Target {
    pub fn memory(namespace: &str) -> Self {
        let server = ApiServer::new(Kinds::paddock(), jiff::Timestamp::now());
        server.make_namespace(namespace);
        let options = ClientOptions::default();
        let client = client::over(server.connect("test"), "default", &options);
        Self { client, memory: Some(server), plain: Plain::default() }
    }

    pub async fn real(kubeconfig: &str, namespace: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = client::from_config(config.unwrap(), ClientOptions::default()).unwrap();
        let target = Self { client, memory: None, plain: Plain::default() };
        target.install().await;
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        assert_eq!(target.send("POST", "/api/v1/namespaces", Some(body)).await.0, 201);
        target
    }

    async fn install(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");
        let mut kinds = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let definition: Value = serde_yaml::from_str(&text).unwrap();
            let (code, answer) = self.send("POST", DEFINITIONS, Some(definition.clone())).await;
            assert!(matches!(code, 201 | 409), "{answer}");
            let spec = &definition["spec"];
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            let version = word(&spec["versions"][0]["name"]);
            kinds.push(format!(
                "/apis/{}/{version}/{}",
                word(&spec["group"]),
                word(&spec["names"]["plural"])
            ));
        }
        for kind in kinds {
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.send("GET", &kind, None).await.0 != 200 {
                assert!(Instant::now() < deadline, "{kind} is not served");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Sends a request; returns the answer's status and body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.client.send(request(method, path, body)).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!({"text": body.to_vec()})))
    }

    /// What other programs of a cluster do is done for the one in memory.
    pub fn live(&self) {
        if let Some(server) = &self.memory {
            server.collect_garbage();
            server.finish_namespaces();
            server.release_claims();
        }
    }

    /// Waits until a GET of `path` answers as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> (u16, Value) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.live();
            let (code, body) = self.send("GET", path, None).await;
            if wanted(code, &body) {
                return (code, body);
            }
            assert!(Instant::now() < deadline, "{path} stays {code} {body}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts a watch from a version and goes on from where it was when it ends early, as clients do: a real server drops
    /// watches whose client is slow to read.
    pub fn follow(&self, path: &str, version: &str) -> Watch {
        let (events, seen) = mpsc::unbounded_channel();
        let (client, path, mut version) = (self.client.clone(), path.to_owned(), version.to_owned());
        tokio::spawn(async move {
            loop {
                let path = format!("{path}&watch=true&timeoutSeconds=300&resourceVersion={version}");
                let body = client.send(request("GET", &path, None)).await.unwrap().into_body();
                let mut lines = Lines { body, buffer: BytesMut::new() };
                while let Some(event) = lines.next().await {
                    let news = event["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                    assert!(!news.is_empty(), "{event}");
                    version = news.to_owned();
                    if events.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Watch { status: 200, seen }
    }

    /// Starts a watch and collects what it tells.
    pub async fn watch(&self, path: &str) -> Watch {
        let response = self.client.send(request("GET", path, None)).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body();
        let (events, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = Lines { body, buffer: BytesMut::new() };
            while let Some(event) = lines.next().await {
                if events.send(event).is_err() {
                    return;
                }
            }
        });
        Watch { status, seen }
    }
}

/// The events in a watch's body, one a line.
struct Lines {
    body: kube::client::Body,
    buffer: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if let Ok(data) = self.body.frame().await?.ok()?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// A watch's events as they come.
pub struct Watch {
    pub status: u16,
    seen: mpsc::UnboundedReceiver<Value>,
}

impl Watch {
    /// The next event; none at the end of the watch.
    pub async fn next(&mut self) -> Option<Value> {
        timeout(Duration::from_secs(20), self.seen.recv()).await.expect("an event or the end")
    }

    /// All events up to the one about an object of this name.
    pub async fn up_to(&mut self, name: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.expect("the watch ended early");
            if event["object"]["metadata"]["name"] == name {
                return events;
            }
            events.push(event);
        }
    }
}

fn request(method: &str, path: &str, body: Option<Value>) -> http::Request<kube::client::Body> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .header("accept", "application/json")
        .body(body.into())
        .unwrap()
}
