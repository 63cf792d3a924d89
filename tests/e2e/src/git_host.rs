//! A host of private git repositories in the cluster, each with an MCP server beside it: what agents are equipped with.

use k8s_openapi::api::core::v1::{Pod, Service};
use paddock_api::template::SandboxTemplate;
use serde_json::{Map, Value, json};

use crate::scenario::Scenario;
use crate::{LIVENESS, objects, pool, wait};

/// What the pod runs. It needs git and Perl, which every harness's image has.
const PROGRAM: &str = include_str!("git_host.pl");
const PORT: u16 = 8080;

/// Makes a bare repository with one commit of the files that are its arguments.
const FILL: &str = r#"set -e
name=$1 work=/srv/$1.work
shift
git init --quiet --bare --initial-branch=main "/srv/$name.git"
git init --quiet --initial-branch=main "$work"
cd "$work"
while [ $# -gt 0 ]; do
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" >"$1"
  shift 2
done
git add .
git -c user.name=host -c user.email=host@host commit --quiet --message=first
git push --quiet "/srv/$name.git" main main:dev
"#;

/// A running host.
pub struct GitHost<'a> {
    scenario: &'a Scenario,
    name: String,
}

/// A private repository of a host.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its URL, as agents are told it.
    pub url: String,
    /// The URL of the MCP server beside it.
    pub mcp_url: String,
    /// The tool of that server.
    pub mcp_tool: String,
    /// What opens both.
    pub token: String,
    /// A Secret for agents: `token`, and `bearer` for a header.
    pub secret: String,
    name: String,
}

impl<'a> GitHost<'a> {
    /// Starts a host with a repository for each name, which is a word of the scenario's own, with these files on its branches
    /// `main` and `dev`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(s: &'a Scenario, repositories: &[(&str, &[(&str, &str)])]) -> (Self, Vec<Repository>) {
        let host = Self { scenario: s, name: s.name("git") };
        let made: Vec<Repository> = repositories.iter().map(|(name, _)| host.repository(name)).collect();
        let template = pool::default_template(s).await;
        let mut manifests = host.manifests(&template, &made);
        manifests.extend(made.iter().map(|repository| {
            let bearer = format!("Bearer {}", repository.token);
            let data = json!({ "token": repository.token, "bearer": bearer });
            secret(&s.env.namespace, &repository.secret, &data)
        }));
        s.apply(&objects::list(manifests)).await;
        host.serves().await;
        for (name, files) in repositories {
            let files = files.iter().flat_map(|(path, content)| [*path, *content]);
            let argv: Vec<&str> = ["sh", "-c", FILL, "fill", name].into_iter().chain(files).collect();
            s.kubectl.exec(&host.name, &argv).await.succeeded();
        }
        (host, made)
    }

    fn repository(&self, name: &str) -> Repository {
        let s = self.scenario;
        let base = format!("http://{}.{}.svc:{PORT}", self.name, s.env.namespace);
        Repository {
            url: format!("{base}/{name}.git"),
            mcp_url: format!("{base}/mcp/{name}"),
            mcp_tool: format!("lookup_{name}"),
            token: s.word("token"),
            secret: s.name(&format!("of-{name}")),
            name: name.to_owned(),
        }
    }

    /// Runs git in a repository, at the host.
    pub async fn git(&self, repository: &Repository, args: &[&str]) -> String {
        let dir = format!("/srv/{}.git", repository.name);
        let argv: Vec<&str> = ["git", "-C", &dir].into_iter().chain(args.iter().copied()).collect();
        self.scenario.kubectl.exec(&self.name, &argv).await.succeeded().trim().to_owned()
    }

    fn manifests(&self, template: &SandboxTemplate, repositories: &[Repository]) -> Vec<Value> {
        let (ns, name) = (&self.scenario.env.namespace, &self.name);
        let harness = &template.spec.pod_template.spec["containers"][0];
        let labels = json!({ "e2e.paddock.dev/git-host": name });
        let tokens: Map<String, Value> = repositories
            .iter()
            .map(|repository| (repository.name.clone(), repository.token.as_str().into()))
            .collect();
        let container = json!({
            "name": "git",
            "image": harness["image"],
            "imagePullPolicy": harness["imagePullPolicy"],
            "command": ["perl", "/etc/git-host/git_host.pl"],
            "env": [{ "name": "HOME", "value": "/srv" }],
            "ports": [{ "containerPort": PORT }],
            "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
            "resources": { "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "256Mi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [
                { "name": "program", "mountPath": "/etc/git-host" },
                { "name": "tokens", "mountPath": "/etc/tokens" },
                { "name": "srv", "mountPath": "/srv" },
            ],
        });
        let pod = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
            "volumes": [
                { "name": "program", "configMap": { "name": name } },
                { "name": "tokens", "secret": { "secretName": name } },
                { "name": "srv", "emptyDir": {} },
            ],
        });
        let meta = json!({ "namespace": ns, "name": name, "labels": labels });
        vec![
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": { "git_host.pl": PROGRAM } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": tokens }),
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": meta,
                "spec": { "selector": labels, "ports": [{ "port": PORT }] },
            }),
        ]
    }

    async fn serves(&self) {
        let s = self.scenario;
        wait::watch(&s.api::<Pod>(), &self.name, "the git host is ready", LIVENESS, |pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True").then_some(())
        })
        .await;
        let service = s.api::<Service>().get(&self.name).await.expect("the host's Service");
        let ip = service.spec.and_then(|spec| spec.cluster_ip).expect("a ClusterIP");
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        wait::until("the git host answers at its Service", LIVENESS, async || {
            let answer = client.get(format!("http://{ip}:{PORT}/")).send().await;
            answer.map(drop).map_err(|error| format!("{error:?}"))
        })
        .await;
    }
}

impl Repository {
    /// The `repo` of an agent that may use it.
    pub fn spec(&self) -> Value {
        json!({ "url": self.url, "credentialSecretRef": { "name": self.secret } })
    }
}

/// The manifest of a Secret that agents may use.
pub fn secret(namespace: &str, name: &str, data: &Value) -> Value {
    let labels = json!({ "paddock.dev/env": "true" });
    json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": data,
        "metadata": { "namespace": namespace, "name": name, "labels": labels },
    })
}
