//! One of the two on its cluster: its objects, its controllers, what it wrote.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::audit::AuditLog;
use crate::journal::Journal;
use crate::process::{Process, free_port};
use crate::product::{Product, pool_kind, sandbox_kind};
use crate::{NAMESPACE, Result};

/// How long anything of a real cluster may take that normally takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Nothing was written for so long: it is at rest.
const QUIET: Duration = Duration::from_millis(700);

/// The files of one side.
#[derive(Clone, Debug)]
pub struct Files {
    /// Folder of the cluster.
    pub cluster: PathBuf,
    /// The product's controller.
    pub controller: PathBuf,
    /// Private key for Paddock's tokens.
    pub signing_key: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
}

/// How often a long wait looks whether there is anything left to wait for.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// One of the two, on a cluster of its own.
pub struct Side {
    /// Which.
    pub product: Product,
    /// As the cluster's admin.
    pub client: Client,
    /// Sessions or claims.
    pub requests: Journal,
    /// Pools.
    pub pools: Journal,
    files: Files,
    /// The first one leads.
    controllers: Vec<Process>,
    started: usize,
}

/// A sandbox that was asked for and given.
#[derive(Clone, Debug)]
pub struct Given {
    /// The pod that was given.
    pub pod: String,
    /// From before the request was sent until a watcher saw that it is ready.
    pub took: Duration,
    /// The same from when the watcher saw the request.
    pub from_seen: Duration,
    /// By the clock, when it was asked for and when it was ready.
    pub asked: Timestamp,
    /// By the clock, when a watcher saw that it is ready.
    pub ready: Timestamp,
    /// By the monotonic clock.
    pub ready_instant: Instant,
}

impl Side {
    /// Connects to the cluster, puts the template there and starts the controller.
    pub async fn start(product: Product, files: Files) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(files.cluster.join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // A repeated request would be measured as a slow one.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let requests =
            Journal::start(api(&client, &product.request_kind()), move |o| product.is_ready(o)).await?;
        let pools = Journal::start(api(&client, &pool_kind()), |_| false).await?;
        let mut side = Self { product, client, requests, pools, files, controllers: Vec::new(), started: 0 };
        let (kind, template) = product.template();
        side.create(&kind, template).await?;
        side.start_controller()?;
        Ok(side)
    }

    /// Starts one more controller; the first leads, the others stand by.
    pub fn start_controller(&mut self) -> Result<()> {
        let name = match self.product {
            Product::Paddock => "paddock",
            Product::Peer => "peer",
        };
        let args = self.product.controller_args(
            &format!("bench-{}", self.started),
            [free_port()?, free_port()?],
            &self.files.signing_key,
        );
        let kubeconfig = self.files.cluster.join("controller.kubeconfig");
        let log = self.files.logs.join(format!("bench-{name}-controller.log"));
        self.controllers.push(Process::start(&self.files.controller, &args, Some(&kubeconfig), &log)?);
        self.started += 1;
        Ok(())
    }

    /// The controller that leads.
    pub fn leader(&self) -> Result<&Process> {
        let leader = self.controllers.first().ok_or("no controller runs")?;
        leader.check()?;
        Ok(leader)
    }

    /// An error when a controller has ended by itself, as they do when they lose the lease: the machine is too busy to
    /// measure anything.
    fn check(&self) -> Result<()> {
        self.controllers.iter().try_for_each(Process::check)
    }

    /// Takes the leader out of the list: the next one is to lead.
    pub fn take_leader(&mut self) -> Process {
        self.controllers.remove(0)
    }

    /// Stops all controllers.
    pub async fn stop(self) -> Result<()> {
        for controller in self.controllers {
            controller.end(Signal::TERM).await?;
        }
        Ok(())
    }

    /// A place in the cluster's audit log.
    pub fn audit(&self) -> Result<AuditLog> {
        AuditLog::open(&self.files.cluster)
    }

    /// Makes a pool.
    pub async fn create_pool(&self, name: &str, replicas: usize) -> Result<()> {
        for (kind, object) in self.product.pool(name, replicas) {
            self.create(&kind, object).await?;
        }
        Ok(())
    }

    /// Changes a pool's size.
    pub async fn scale_pool(&self, name: &str, replicas: usize) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        api(&self.client, &pool_kind()).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Deletes a pool, and waits until nothing of it is left.
    pub async fn delete_pool(&self, name: &str) -> Result<()> {
        for (kind, object) in self.product.pool(name, 0).into_iter().rev() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            api(&self.client, &kind).delete(name, &DeleteParams::default()).await?;
        }
        self.settled(0).await
    }

    /// Whether the pool says that all its members are ready.
    pub fn pool_full(&self, name: &str, replicas: usize) -> bool {
        self.pools.get(name).is_some_and(|entry| {
            let ready = entry.object.data["status"]["readyReplicas"].as_u64().unwrap_or(0);
            ready == replicas as u64
        })
    }

    /// Waits for [`Self::pool_full`].
    pub async fn wait_pool_full(&self, name: &str, replicas: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if self.pools.wait(LOOK_AFTER, |_| self.pool_full(name, replicas)).await {
                return Ok(());
            }
            self.check()?;
        }
        let status = self.pools.get(name).map(|entry| entry.object.data["status"].clone());
        let (who, within) = (self.product.name(), within.as_secs());
        Err(format!("{who}: pool {name} is not full after {within} s: {status:?}").into())
    }

    /// Asks for a sandbox and waits until it is there.
    pub async fn ask(&self, name: &str, pool: &str, within: Duration) -> Result<Given> {
        let (began, asked) = (Instant::now(), Timestamp::now());
        self.create(&self.product.request_kind(), self.product.request(name, pool)).await?;
        let ready = self.requests.ready(name, within).await;
        if ready.is_err() {
            self.check()?;
        }
        let entry = ready?;
        let (ready_instant, ready) = entry.ready.ok_or("not ready")?;
        Ok(Given {
            pod: self.product.pod_of(&entry.object).unwrap_or_default().to_owned(),
            took: ready_instant - began,
            from_seen: ready_instant - entry.seen,
            asked,
            ready,
            ready_instant,
        })
    }

    /// Sends requests and does not wait; for load.
    pub fn sender(&self) -> Sender {
        Sender { product: self.product, client: self.client.clone() }
    }

    /// Gives a sandbox back.
    pub async fn give_back(&self, name: &str) -> Result<()> {
        api(&self.client, &self.product.request_kind()).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Gives all back.
    pub async fn give_back_all(&self) -> Result<()> {
        let requests = api(&self.client, &self.product.request_kind());
        requests.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        Ok(())
    }

    /// Waits until there is no request any more, exactly `pods` pods are there, all ready, and the controller has
    /// nothing left to write.
    pub async fn settled(&self, pods: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut quiet_since = Instant::now();
        let log = self.audit()?;
        loop {
            let writes = log.writes()?.objects.len();
            if writes != seen {
                (seen, quiet_since) = (writes, Instant::now());
            }
            let there = self.count_ready().await?;
            let settled = there == Some(pods) && self.requests.present() == 0;
            if settled && quiet_since.elapsed() > QUIET {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > deadline {
                let what = format!("{there:?} ready pods, {} requests", self.requests.present());
                return Err(
                    format!("{} did not come to rest: {what}, wanted {pods}", self.product.name()).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many pods there are; none when one of them is not ready, or there are other Sandboxes than pods.
    async fn count_ready(&self) -> Result<Option<usize>> {
        let pods =
            Api::<Pod>::namespaced(self.client.clone(), NAMESPACE).list(&ListParams::default()).await?;
        let sandboxes = api(&self.client, &sandbox_kind()).list_metadata(&ListParams::default()).await?;
        let ready = pods.items.iter().filter(|pod| is_ready(pod)).count();
        Ok((ready == pods.items.len() && ready == sandboxes.items.len()).then_some(ready))
    }

    /// Waits until the pool has said for two seconds that it is full: a status may be older than what it is about.
    pub async fn steady(&self, name: &str, replicas: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_secs(2) {
            self.check()?;
            if !self.pool_full(name, replicas) {
                since = Instant::now();
            }
            if Instant::now() > deadline {
                return Err(format!("{}: pool {name} does not stay full", self.product.name()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.files.cluster.join("kubeconfig")
    }

    async fn create(&self, kind: &ApiResource, object: Value) -> Result<()> {
        create(&self.client, kind, object).await
    }
}

/// Sends requests.
pub struct Sender {
    product: Product,
    client: Client,
}

impl Sender {
    /// Asks for a sandbox.
    pub async fn send(&self, name: &str, pool: &str) -> Result<()> {
        create(&self.client, &self.product.request_kind(), self.product.request(name, pool)).await
    }
}

async fn create(client: &Client, kind: &ApiResource, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api(client, kind).create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Whether a pod serves and stays.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Objects of the benchmark's namespace.
pub fn api(client: &Client, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, kind)
}
