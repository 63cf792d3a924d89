//! Both servers, told the same.

use std::io::Write;

use serde_json::Value;

use crate::target::Target;

pub const KUBECONFIG: &str = "PADDOCK_TEST_KUBECONFIG";

/// The server in memory and the real one, with a namespace of the same name.
pub struct Pair {
    pub namespace: String,
    pub memory: Target,
    pub real: Target,
    told: Vec<String>,
}

impl Pair {
    /// None, with a word about it, if there is no real server.
    pub async fn make(name: &str) -> Option<Self> {
        let Ok(kubeconfig) = std::env::var(KUBECONFIG) else {
            // Written past the test harness, which would swallow it.
            let line = format!("SKIPPED {name}: {KUBECONFIG} is not set\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        };
        let namespace = format!("conform-{name}-{:x}", jiff::Timestamp::now().as_microsecond());
        let memory = Target::memory(&namespace);
        let real = Target::real(&kubeconfig, &namespace).await;
        Some(Self { namespace, memory, real, told: Vec::new() })
    }

    /// A path below the namespace; with two slashes in it, a path of its own.
    pub fn path(&self, plural: &str, rest: &str) -> String {
        let (group, rest) = (group_of(plural), rest.trim_start_matches('/'));
        let slash = if rest.is_empty() || rest.starts_with('?') { "" } else { "/" };
        format!("{group}/namespaces/{}/{plural}{slash}{rest}", self.namespace)
    }

    /// A node that does not exist. Nobody else's pods name it: after 40 s the real cluster removes such pods.
    pub fn node(&self) -> String {
        self.namespace.clone()
    }

    /// Sends the same to both and compares the answers. Returns the real one's.
    pub async fn send(&mut self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.send_each(method, path, body.clone(), body).await
    }

    /// Sends bodies that differ in what differs by nature: UIDs and versions.
    pub async fn send_each(
        &mut self,
        method: &str,
        path: &str,
        to_memory: Option<Value>,
        to_real: Option<Value>,
    ) -> (u16, Value) {
        let words = to_memory.as_ref().map(Value::to_string).unwrap_or_default();
        self.told.push(format!("{method} {path} {words}"));
        let memory = self.memory.send(method, path, to_memory).await;
        let real = self.real.send(method, path, to_real).await;
        let message = format!("real: {}\nmemory: {}", real.1, memory.1);
        let (left, right) = (self.memory.plain.answer(memory), self.real.plain.answer(real.clone()));
        if left != right {
            let from = self.told.len().saturating_sub(12);
            panic!("after\n{}\nmemory {left:#}\nreal {right:#}\n{message}", self.told[from..].join("\n"));
        }
        real
    }

    /// Reads an object on both, for its UIDs and versions. Compares them too.
    pub async fn read(&mut self, path: &str) -> Option<(Value, Value)> {
        self.send("GET", path, None).await;
        let (memory, real) =
            (self.memory.send("GET", path, None).await, self.real.send("GET", path, None).await);
        (real.0 == 200).then_some((memory.1, real.1))
    }

    pub async fn remove(self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.real.send("DELETE", &path, None).await;
    }
}

pub fn group_of(plural: &str) -> &'static str {
    match plural {
        "sessions" | "agents" => "/apis/paddock.dev/v1alpha1",
        "sandboxes" => "/apis/agents.x-k8s.io/v1beta1",
        "sandboxwarmpools" | "sandboxtemplates" => "/apis/extensions.agents.x-k8s.io/v1beta1",
        "leases" => "/apis/coordination.k8s.io/v1",
        "events" => "/apis/events.k8s.io/v1",
        _ => "/api/v1",
    }
}
