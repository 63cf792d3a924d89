//! The scripted model's log: what really reached the model.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use paddock_api::Session;
use serde::Deserialize;

use crate::environment::Environment;
use crate::scenario::{Scenario, pod_of};
use crate::{LIVENESS, wait};

/// The scripted model behind LiteLLM. Its log is only read, never emptied: scenarios share it and find
/// their own calls by words of their own.
#[derive(Clone, Debug)]
pub struct ScriptedModel {
    url: String,
    client: reqwest::Client,
}

/// One call of the model, as its log tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// The model that was asked for.
    pub model: String,
    /// All system text.
    pub system: String,
    /// The text of the last message of a person.
    pub last_user_text: String,
    /// What people had written before that in the same conversation.
    pub earlier_user_texts: Vec<String>,
    /// Images that people have sent in it, as data URLs, oldest first.
    pub images: Vec<String>,
    /// What the harness appended to that, such as the instructions of a repository.
    pub notes: String,
    /// Names of the tools that the model was offered.
    pub tools: Vec<String>,
}

impl Call {
    /// Whether `word` is anywhere in the call.
    pub fn mentions(&self, word: &str) -> bool {
        let texts = [&self.model, &self.system, &self.last_user_text, &self.notes];
        texts.into_iter().chain(&self.earlier_user_texts).chain(&self.tools).any(|text| text.contains(word))
    }
}

impl ScriptedModel {
    /// Finds the scripted model's Service.
    ///
    /// # Panics
    /// When it is not installed.
    pub async fn find(env: &Environment, kube: Client) -> Self {
        let services: Api<Service> = Api::namespaced(kube, &env.models_namespace);
        let service = services.get("scripted-model").await.unwrap_or_else(|error| {
            panic!("no Service scripted-model in namespace {}: {error}", env.models_namespace)
        });
        let spec = service.spec.expect("a Service has a spec");
        let ip = spec.cluster_ip.expect("the scripted model's Service has a ClusterIP");
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { url: format!("http://{ip}:8080"), client }
    }

    /// Where it speaks as OpenAI does.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// Every call in which a person's last message or the system prompt holds `word`, oldest first.
    pub async fn calls_with(&self, word: &str) -> Vec<Call> {
        let all = self.calls().await;
        all.into_iter()
            .filter(|call| call.last_user_text.contains(word) || call.system.contains(word))
            .collect()
    }

    async fn calls(&self) -> Vec<Call> {
        let answer = self.client.get(format!("{}/log", self.url)).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("the scripted model does not answer: {error:?}"));
        assert!(answer.status().is_success(), "GET {}/log: {}", self.url, answer.status());
        answer.json().await.expect("the scripted model's log")
    }
}

impl Scenario {
    /// Waits until LiteLLM's log says that a session's pod has asked it at `path`.
    pub async fn went_through_litellm(&self, session: &Session, path: &str) {
        let kubectl = self.kubectl.in_namespace(&self.env.models_namespace);
        let pod = format!(" {}:", pod_of(session).ip);
        let asked = format!("\"POST {path}");
        wait::until("LiteLLM was asked by the session's pod", LIVENESS, async || {
            let log = kubectl.run(&["logs", "deployment/litellm", "--since=15m"]).await;
            let posts: Vec<&str> = log.stdout.lines().filter(|line| line.contains("\"POST ")).collect();
            let found = posts.iter().any(|line| line.contains(&pod) && line.contains(&asked));
            if found { Ok(()) } else { Err(format!("{}{}", log.stderr, posts.join("\n"))) }
        })
        .await;
    }
}
