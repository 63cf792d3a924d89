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

    /// Starts a watch and collects what it tells.
    pub async fn watch(&self, path: &str) -> Watch {
        let response = self.client.send(request("GET", path, None)).await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let (events, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                buffer.extend_from_slice(&data);
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(end + 1);
                    if events.send(serde_json::from_slice(&line).unwrap()).is_err() {
                        return;
                    }
                }
            }
        });
        Watch { status, seen }
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
