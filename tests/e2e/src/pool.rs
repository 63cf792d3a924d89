//! Pools of a scenario's own: copies of the chart's, so that nobody else takes their members.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use paddock_api::condition::ConditionStatus;
use paddock_api::template::SandboxTemplate;
use paddock_api::{Sandbox, SandboxWarmPool, labels};
use serde_json::{Value, json};

use crate::objects::Kind;
use crate::scenario::Scenario;
use crate::wait;

/// Label on the pods of a scenario's own pools; its value is the scenario's nonce.
pub const MARK: &str = "e2e.paddock.dev/scenario";

type Edit<'a> = Box<dyn FnOnce(&mut Value) + Send + 'a>;

/// A pool to be made, with a template of its own, copied from the default pool's or another one's.
pub struct PrivatePool<'a> {
    scenario: &'a Scenario,
    what: &'a str,
    original: Option<&'a str>,
    namespace: String,
    replicas: i32,
    annotations: Value,
    strategy: &'static str,
    harness: Option<&'a str>,
    described: Vec<(&'a str, String)>,
    edit: Edit<'a>,
}

impl<'a> PrivatePool<'a> {
    /// An empty pool.
    pub fn new(scenario: &'a Scenario, what: &'a str) -> Self {
        let namespace = scenario.env.namespace.clone();
        Self {
            scenario,
            what,
            original: None,
            namespace,
            replicas: 0,
            annotations: json!({}),
            strategy: "OnReplenish",
            harness: None,
            described: Vec::new(),
            edit: Box::new(|_| {}),
        }
    }

    /// How many members it keeps. With none every start is a cold one.
    pub fn replicas(mut self, replicas: i32) -> Self {
        self.replicas = replicas;
        self
    }

    /// An annotation of the SandboxWarmPool.
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    /// A new template replaces members that nobody has used.
    pub fn rolling(mut self) -> Self {
        self.strategy = "Recreate";
        self
    }

    /// A copy of another pool of the chart's than the default one.
    pub fn of(mut self, pool: &'a str) -> Self {
        self.original = Some(pool);
        self
    }

    /// Another harness, in the same image.
    pub fn harness(mut self, harness: &'a str) -> Self {
        self.harness = Some(harness);
        self
    }

    /// An annotation of the SandboxTemplate.
    pub fn describe(mut self, key: &'a str, value: impl Into<String>) -> Self {
        self.described.push((key, value.into()));
        self
    }

    /// Another namespace; what the template refers to is copied there too.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// Changes the pod's spec.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) + Send + 'a) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// Makes template and pool, both of the returned name.
    pub async fn create(self) -> String {
        let s = self.scenario;
        let name = s.name(self.what);
        let original = template_of(s, self.original.unwrap_or(&s.env.default_pool)).await;
        let mut spec = original.spec;
        let pod = &mut spec.pod_template;
        pod.metadata.labels.insert(MARK.to_owned(), s.nonce().to_owned());
        ask_for_little(Arc::make_mut(&mut pod.spec));
        (self.edit)(Arc::make_mut(&mut pod.spec));
        if self.namespace != s.env.namespace {
            copy_references(s, &pod.spec, &self.namespace).await;
        }
        let ours = |(key, _): &(String, String)| key.starts_with("paddock.dev/");
        let mut annotations: BTreeMap<String, String> =
            original.metadata.annotations.unwrap_or_default().into_iter().filter(ours).collect();
        if let Some(harness) = self.harness {
            annotations.insert(labels::HARNESS.to_owned(), harness.to_owned());
        }
        annotations.extend(self.described.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let mut template = SandboxTemplate::new(&name, spec);
        template.metadata.annotations = Some(annotations);
        s.record(Kind::Template, &self.namespace, &name);
        let templates: Api<SandboxTemplate> = Api::namespaced(s.kube.clone(), &self.namespace);
        templates.create(&PostParams::default(), &template).await.expect("a copy of the chart's template");
        let pool: SandboxWarmPool = serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": self.annotations },
            "spec": {
                "replicas": self.replicas,
                "sandboxTemplateRef": { "name": name },
                "updateStrategy": { "type": self.strategy },
            },
        }))
        .expect("a pool");
        s.record(Kind::Pool, &self.namespace, &name);
        let pools: Api<SandboxWarmPool> = Api::namespaced(s.kube.clone(), &self.namespace);
        pools.create(&PostParams::default(), &pool).await.expect("a pool of the scenario's own");
        name
    }
}

/// The template of the pool that opencode agents use by default.
pub async fn default_template(s: &Scenario) -> SandboxTemplate {
    template_of(s, &s.env.default_pool).await
}

/// The template of a pool.
async fn template_of(s: &Scenario, pool: &str) -> SandboxTemplate {
    let found = s.api::<SandboxWarmPool>().get(pool).await;
    let pool = found.unwrap_or_else(|error| panic!("no pool {pool}: {error}; see tests/e2e/README.md"));
    let templates: Api<SandboxTemplate> = s.api();
    templates.get(&pool.spec.sandbox_template_ref.name).await.expect("the pool's template")
}

/// Waits until every member of a pool can be adopted.
///
/// The members are looked at as well as the pool's status: right after a session has taken one, the status may still be that of
/// before, and a scenario that goes on then finds a member that is not ready yet.
pub async fn full(s: &Scenario, namespace: &str, name: &str) -> SandboxWarmPool {
    let pools: Api<SandboxWarmPool> = Api::namespaced(s.kube.clone(), namespace);
    let sandboxes: Api<Sandbox> = Api::namespaced(s.kube.clone(), namespace);
    wait::until("the pool is full", crate::LIVENESS, async || {
        let pool = said_to_be_full(&pools, name).await;
        let members = waiting_in(&sandboxes, name).await;
        let ready = members.iter().filter(|sandbox| is_ready(sandbox)).count();
        let wanted = usize::try_from(pool.spec.replicas).unwrap_or_default();
        if (members.len(), ready) == (wanted, wanted) {
            Ok(pool)
        } else {
            Err(format!("{ready} of {} members are ready, and {wanted} are wanted", members.len()))
        }
    })
    .await
}

async fn said_to_be_full(pools: &Api<SandboxWarmPool>, name: &str) -> SandboxWarmPool {
    wait::watch(pools, name, "every member of the pool is ready", crate::LIVENESS, |pool| {
        let status = pool.status.as_ref()?;
        let full = status.ready_replicas == pool.spec.replicas
            && status.replicas == pool.spec.replicas
            && status.observed_generation == pool.metadata.generation?;
        full.then(|| pool.clone())
    })
    .await
}

/// The selector of a pool's waiting Sandboxes.
pub fn members(pool: &str) -> String {
    format!("{}={}", labels::WARM_POOL_SANDBOX, labels::name_hash(pool))
}

/// Whether a pool's member can be adopted.
pub fn is_ready(sandbox: &Sandbox) -> bool {
    let conditions = sandbox.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.kind == "Ready" && c.status == ConditionStatus::True)
}

/// The pool's waiting Sandboxes.
pub async fn waiting(s: &Scenario, name: &str) -> Vec<Sandbox> {
    waiting_in(&s.api(), name).await
}

async fn waiting_in(sandboxes: &Api<Sandbox>, name: &str) -> Vec<Sandbox> {
    let selector = ListParams::default().labels(&members(name));
    sandboxes.list(&selector).await.expect("a list of Sandboxes").items
}

/// Lets many pods onto a small node. Only requests: limits stay what the chart says.
fn ask_for_little(pod_spec: &mut Value) {
    for container in pod_spec["containers"].as_array_mut().into_iter().flatten() {
        container["resources"]["requests"] = json!({ "cpu": "10m", "memory": "64Mi" });
    }
}

/// Copies Secrets, ConfigMaps and the ServiceAccount that a pod refers to.
async fn copy_references(s: &Scenario, pod_spec: &Value, to: &str) {
    let mut secrets = Vec::new();
    let mut config_maps = Vec::new();
    references(pod_spec, &mut secrets, &mut config_maps);
    let clean = |meta: &ObjectMeta| ObjectMeta { name: meta.name.clone(), ..ObjectMeta::default() };
    let from: Api<Secret> = s.api();
    let into: Api<Secret> = Api::namespaced(s.kube.clone(), to);
    for name in secrets {
        let Some(secret) = from.get_opt(&name).await.expect("a Secret") else { continue };
        let copy = Secret { metadata: clean(&secret.metadata), ..secret };
        into.create(&PostParams::default(), &copy).await.expect("a copied Secret");
    }
    let from: Api<ConfigMap> = s.api();
    let into: Api<ConfigMap> = Api::namespaced(s.kube.clone(), to);
    for name in config_maps {
        let Some(map) = from.get_opt(&name).await.expect("a ConfigMap") else { continue };
        let copy = ConfigMap { metadata: clean(&map.metadata), ..map };
        into.create(&PostParams::default(), &copy).await.expect("a copied ConfigMap");
    }
    if let Some(name) = pod_spec["serviceAccountName"].as_str().filter(|name| *name != "default") {
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(s.kube.clone(), to);
        accounts.create(&PostParams::default(), &account).await.expect("a copied ServiceAccount");
    }
}

fn references(value: &Value, secrets: &mut Vec<String>, config_maps: &mut Vec<String>) {
    let add = |list: &mut Vec<String>, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !list.iter().any(|known| known == name)) {
            list.push(name.to_owned());
        }
    };
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                match key.as_str() {
                    "secretKeyRef" | "secretRef" => add(secrets, inner["name"].as_str()),
                    "secret" => {
                        add(secrets, inner["secretName"].as_str());
                        add(secrets, inner["name"].as_str());
                    }
                    "configMapKeyRef" | "configMapRef" | "configMap" => {
                        add(config_maps, inner["name"].as_str())
                    }
                    _ => references(inner, secrets, config_maps),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, secrets, config_maps)),
        _ => {}
    }
}
