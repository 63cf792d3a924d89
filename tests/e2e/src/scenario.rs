//! One scenario: its ways into the cluster, its own names, and the removal of all that it made.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use paddock_api::session::PodRef;
use paddock_api::{Phase, Sandbox, Session, labels};
use serde_json::{Value, json};

use crate::command::{self, Output};
use crate::environment::Environment;
use crate::gate::{self, Pass, Share};
use crate::http::Http;
use crate::kubectl::Kubectl;
use crate::model::ScriptedModel;
use crate::objects::{self, Kind};
use crate::pool::PrivatePool;
use crate::{LIVENESS, measure, wait};

/// Helm may take this long for one call.
const HELM: Duration = Duration::from_secs(300);

/// What a scenario works with.
pub struct Scenario {
    /// The installation.
    pub env: Environment,
    /// The Kubernetes API, as admin.
    pub kube: Client,
    /// kubectl, as admin, in the release's namespace.
    pub kubectl: Kubectl,
    /// The gateway, with the master key.
    pub http: Http,
    /// The scripted model's log.
    pub model: ScriptedModel,
    title: &'static str,
    nonce: String,
    started: Instant,
    made: Mutex<Vec<(Kind, String, String)>>,
    pass: Mutex<Option<Pass>>,
}

/// Runs `body`; `after` follows however it ends.
///
/// # Panics
/// When `body` does, after `after`.
pub async fn finally<T>(body: impl Future<Output = T>, after: impl Future<Output = ()>) -> T {
    let ended = AssertUnwindSafe(body).catch_unwind().await;
    after.await;
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a scenario when the cluster is free for it, and removes what it made, also when it fails.
///
/// `PADDOCK_E2E_KEEP=1` keeps the objects of a scenario that failed.
///
/// # Panics
/// When the scenario does, or takes longer than `limit`.
pub async fn scenario(title: &'static str, share: Share, limit: Duration, body: impl AsyncFnOnce(&Scenario)) {
    let env = Environment::read();
    let pass = gate::enter(share).await;
    let kube = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
    let nonce = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let s = Scenario {
        kubectl: Kubectl::new(&env),
        http: Http::new(&env),
        model: ScriptedModel::find(&env, kube.clone()).await,
        env,
        kube,
        title,
        nonce,
        started: Instant::now(),
        made: Mutex::default(),
        pass: Mutex::new(Some(pass)),
    };
    s.log(&format!("starts; its objects have {} in their names", s.nonce));
    let ended = AssertUnwindSafe(tokio::time::timeout(limit, body(&s))).catch_unwind().await;
    let failed = !matches!(ended, Ok(Ok(())));
    s.log(if failed { "FAILED" } else { "passed" });
    let finish = async {
        if failed {
            s.diagnose().await;
        }
        if !failed || std::env::var_os("PADDOCK_E2E_KEEP").is_none() {
            s.clean_up().await;
        }
    };
    // The scenario's own failure is what counts, not one of tidying up after it.
    if AssertUnwindSafe(finish).catch_unwind().await.is_err() {
        s.log("could not tidy up");
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("{title}: not done within {limit:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Scenario {
    /// A random word that is in the name of everything this scenario makes.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// A name of this scenario's own.
    pub fn name(&self, what: &str) -> String {
        format!("e2e-{what}-{}", self.nonce)
    }

    /// A fresh random word, to be recognised in replies and logs.
    pub fn word(&self, what: &str) -> String {
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!("{what}{}", &random[..10])
    }

    /// Prints a line with the scenario's title and clock.
    pub fn log(&self, text: &str) {
        measure::line(&format!("[{:7.1}s] {}: {text}", self.started.elapsed().as_secs_f64(), self.title));
    }

    /// Lets other scenarios have the cluster, for one that only waits from here on.
    pub fn leave_the_cluster_to_others(&self) {
        self.pass.lock().expect("never poisoned").take();
    }

    /// A typed client for the release's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.clone(), &self.env.namespace)
    }

    /// Has an object removed at the end of the scenario.
    pub fn record(&self, kind: Kind, namespace: &str, name: &str) {
        let entry = (kind, namespace.to_owned(), name.to_owned());
        let mut made = self.made.lock().expect("never poisoned");
        if !made.contains(&entry) {
            made.push(entry);
        }
    }

    /// Applies a manifest that must be accepted, and has its objects removed at the end.
    pub async fn apply(&self, manifest: &Value) {
        self.record_manifest(manifest);
        let own = manifest["metadata"]["namespace"].as_str().unwrap_or(self.kubectl.namespace());
        self.kubectl.in_namespace(own).apply(manifest).await.succeeded();
    }

    /// Has the objects of a manifest removed at the end.
    ///
    /// # Panics
    /// For kinds that scenarios do not make.
    pub fn record_manifest(&self, manifest: &Value) {
        if let Some(items) = manifest["items"].as_array() {
            return items.iter().for_each(|item| self.record_manifest(item));
        }
        let kind = match manifest["kind"].as_str().unwrap_or_default() {
            "Session" => Kind::Session,
            "Agent" => Kind::Agent,
            "SandboxWarmPool" => Kind::Pool,
            "SandboxTemplate" => Kind::Template,
            "Pod" => Kind::Pod,
            "NetworkPolicy" => Kind::NetworkPolicy,
            "Service" => Kind::Service,
            "Secret" => Kind::Secret,
            "ConfigMap" => Kind::ConfigMap,
            "Namespace" => Kind::Namespace,
            other => panic!("scenarios do not make a {other}"),
        };
        let meta = &manifest["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or(&self.env.namespace);
        self.record(kind, namespace, meta["name"].as_str().expect("a manifest has a name"));
    }

    /// Makes an Agent of the scripted model; `extra` is added to its spec.
    pub async fn agent(&self, what: &str, extra: Value) -> String {
        let name = self.name(what);
        self.apply(&objects::agent(&self.env.namespace, &name, &extra)).await;
        name
    }

    /// Makes an Agent whose sessions start cold and keep their files on a volume of their own; `extra` is added to
    /// its spec.
    pub async fn persistent_agent(&self, what: &str, extra: Value) -> String {
        let pool = self.private_pool(what).create().await;
        let mut spec = json!({
            "poolRef": { "name": pool },
            "workspace": { "mode": "Persistent", "size": "1Gi" },
        });
        objects::merge(&mut spec, &extra);
        self.agent(what, spec).await
    }

    /// Makes a Session; `extra` is added to its spec. It is not Ready yet.
    pub async fn session(&self, what: &str, agent: &str, extra: Value) -> String {
        let name = self.name(what);
        self.apply(&objects::session(&self.env.namespace, &name, agent, &extra)).await;
        name
    }

    /// Makes a Session and waits until it is Ready.
    pub async fn ready_session(&self, what: &str, agent: &str) -> Session {
        let name = self.session(what, agent, Value::Null).await;
        self.ready(&name).await
    }

    /// A pool of the scenario's own.
    pub fn private_pool<'a>(&'a self, what: &'a str) -> PrivatePool<'a> {
        PrivatePool::new(self, what)
    }

    /// Waits until a Session is Ready.
    ///
    /// # Panics
    /// When it fails or dies instead.
    pub async fn ready(&self, name: &str) -> Session {
        self.ready_within(name, LIVENESS).await
    }

    /// Waits until a Session is Ready, for as long as `limit`.
    ///
    /// # Panics
    /// When it fails or dies instead.
    pub async fn ready_within(&self, name: &str, limit: Duration) -> Session {
        wait::watch(&self.api::<Session>(), name, "the session is Ready", limit, |session| {
            let status = session.status.as_ref()?;
            match status.phase {
                Phase::Ready => Some(session.clone()),
                Phase::Creating | Phase::Suspended => None,
                Phase::Failed | Phase::Dead => {
                    panic!("{name} became {:?} ({:?}): {}", status.phase, status.reason, status.message)
                }
            }
        })
        .await
    }

    /// Waits until a Session is Ready in the incarnation with this number, or in a later one: a start may be exchanged for a
    /// pool member.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn incarnation(&self, name: &str, number: u32) -> Session {
        wait::watch(&self.api::<Session>(), name, "the next incarnation is Ready", LIVENESS, |session| {
            let status = session.status.as_ref()?;
            assert!(!status.phase.is_final(), "{name}: {:?} {}", status.reason, status.message);
            (status.phase == Phase::Ready && status.incarnation >= number).then(|| session.clone())
        })
        .await
    }

    /// Waits until a Session has ended in a phase, and until the gateway says so too: it watches on its own, and
    /// may be a moment behind.
    pub async fn ended(&self, name: &str, phase: Phase) -> Session {
        self.ended_within(name, phase, LIVENESS).await
    }

    /// The same, with as much time as `limit`.
    pub async fn ended_within(&self, name: &str, phase: Phase, limit: Duration) -> Session {
        let session = self.in_phase(name, phase, "the session has ended", limit).await;
        let expected = format!("{phase:?}").to_lowercase();
        wait::until("the gateway tells the same phase", LIVENESS, async || {
            let told = self.http.get(&format!("/sessions/{name}")).await.with_status(200);
            if told["status"] == *expected { Ok(()) } else { Err(told.to_string()) }
        })
        .await;
        session
    }

    async fn in_phase(&self, name: &str, phase: Phase, what: &str, limit: Duration) -> Session {
        wait::watch(&self.api::<Session>(), name, what, limit, |session| {
            let status = session.status.as_ref()?;
            (status.phase == phase).then(|| session.clone())
        })
        .await
    }

    /// Waits until a Session rests, and its pod is gone.
    pub async fn suspended(&self, name: &str) -> Session {
        let session = self.in_phase(name, Phase::Suspended, "the session is suspended", LIVENESS).await;
        wait::until("the suspended session has no pod", LIVENESS, async || {
            match self.bound_to(&uid(&session)).await.1.len() {
                0 => Ok(()),
                pods => Err(format!("{pods} pods with its UID")),
            }
        })
        .await;
        session
    }

    /// Changes the spec of a Session with `kubectl patch`; it must be accepted.
    pub async fn patch_session(&self, name: &str, spec: Value) {
        let patch = json!({ "spec": spec }).to_string();
        self.kubectl.run(&["patch", "session", name, "--type=merge", "-p", &patch]).await.succeeded();
    }

    /// Runs helm in the release's namespace, and returns what it said; it must succeed.
    pub async fn helm(&self, args: &[&str]) -> String {
        let all = [args, &["--namespace", &self.env.namespace]].concat();
        command::run(&self.env.helm, &all, None, HELM).await.succeeded()
    }

    /// Runs a command in the harness container of a session's pod.
    pub async fn exec(&self, session: &Session, argv: &[&str]) -> Output {
        self.kubectl.exec(&pod_of(session).name, argv).await
    }

    /// The files in a session's pod, wherever its agent can write, that hold one of `words`.
    ///
    /// # Panics
    /// When the search does not work: it must find a word that is planted for it.
    pub async fn files_with(&self, session: &Session, words: &[&str]) -> Vec<String> {
        let (planted, control) = (format!("/tmp/{}", self.word("planted-")), self.word("control"));
        let plant = format!("echo {control} > {planted}");
        self.exec(session, &["sh", "-c", &plant]).await.succeeded();
        // The words come on standard input, so no command line and no request holds them.
        let patterns = format!("{}\n{control}\n", words.join("\n"));
        let search = ["sh", "-c", "grep -rlsF -f - /workspace /paddock /tmp \"$HOME\""];
        let output = self.kubectl.exec_with_input(&pod_of(session).name, &search, &patterns).await;
        let mut files: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        assert!(files.contains(&planted), "the search finds nothing: {}{}", output.stderr, output.stdout);
        files.retain(|file| *file != planted);
        files
    }

    /// The Sandboxes and pods that carry a session's UID.
    pub async fn bound_to(&self, session_uid: &str) -> (Vec<Sandbox>, Vec<Pod>) {
        let selector =
            kube::api::ListParams::default().labels(&format!("{}={session_uid}", labels::SESSION_UID));
        let sandboxes = self.api::<Sandbox>().list(&selector).await.expect("a list of Sandboxes");
        let pods = self.api::<Pod>().list(&selector).await.expect("a list of pods");
        (sandboxes.items, pods.items)
    }

    /// Waits until a session has neither Sandbox nor pod.
    pub async fn nothing_bound_to(&self, session_uid: &str) {
        wait::until("the session's sandbox and pod are gone", LIVENESS, async || {
            let (sandboxes, pods) = self.bound_to(session_uid).await;
            if sandboxes.is_empty() && pods.is_empty() {
                return Ok(());
            }
            Err(format!("{} sandboxes, {} pods with its UID", sandboxes.len(), pods.len()))
        })
        .await;
    }

    /// Prints what one wants to know about a failure, before the clean-up takes it away.
    async fn diagnose(&self) {
        let controller = format!("deployment/{}-controller", self.env.release);
        let gateway = format!("deployment/{}-gateway", self.env.release);
        for args in [
            &["get", "sessions", "-o", "wide"][..],
            &["get", "agents,sandboxwarmpools,sandboxtemplates"],
            &["get", "sandboxes,pods", "-o", "wide", "--show-labels"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", &controller, "--all-pods", "--prefix", "--tail=60"],
            &["logs", &gateway, "--all-pods", "--prefix", "--tail=40"],
        ] {
            let output = self.kubectl.run(args).await;
            let lines: Vec<&str> = output.stdout.lines().chain(output.stderr.lines()).collect();
            let tail = lines[lines.len().saturating_sub(120)..].join("\n");
            measure::line(&format!("--- {}: kubectl {}\n{tail}", self.title, args.join(" ")));
        }
    }

    async fn clean_up(&self) {
        let mut made = std::mem::take(&mut *self.made.lock().expect("never poisoned"));
        made.sort();
        for batch in made.chunk_by(|a, b| (a.0, &a.1) == (b.0, &b.1)) {
            let (kind, namespace) = (batch[0].0, &batch[0].1);
            let mut args = vec!["delete", kind.resource(), "--ignore-not-found", "--timeout=90s"];
            args.extend(batch.iter().map(|(_, _, name)| name.as_str()));
            let output = self.kubectl.in_namespace(namespace).run(&args).await;
            if !output.ok {
                self.log(&format!("clean-up: {}", output.stderr.trim()));
            }
        }
        // The next scenario shall not have to share the processor with this one's pods.
        let owners: Vec<&str> = made
            .iter()
            .filter(|(kind, ..)| matches!(kind, Kind::Session | Kind::Pool))
            .map(|(_, _, name)| name.as_str())
            .collect();
        let emptied =
            wait::until("no sandbox of the scenario is left", Duration::from_secs(90), async || {
                let all = self.api::<Sandbox>().list(&Default::default()).await.map_err(|e| e.to_string())?;
                let ours = all.items.iter().filter(|sandbox| {
                    let references = sandbox.metadata.owner_references.iter().flatten();
                    references.into_iter().any(|owner| owners.contains(&owner.name.as_str()))
                });
                match ours.count() {
                    0 => Ok(()),
                    n => Err(format!("{n} sandboxes")),
                }
            });
        // A scenario that leaves something is reported, but was decided by what it showed.
        if AssertUnwindSafe(emptied).catch_unwind().await.is_err() {
            self.log("clean-up: some of its sandboxes are still there");
        }
    }
}

/// The UID of an object that came from the API server.
pub fn uid(object: &impl Resource) -> String {
    object.meta().uid.clone().expect("an object from the API server has a UID")
}

/// The pod that serves a Ready session.
pub fn pod_of(session: &Session) -> PodRef {
    let status = session.status.as_ref().expect("a Ready session has a status");
    status.pod.clone().expect("a Ready session names its pod")
}

/// The name of an object that came from the API server.
pub fn name_of(object: &impl Resource) -> String {
    object.meta().name.clone().expect("an object from the API server has a name")
}
