//! One of the two on its cluster: its objects, its controllers, what it wrote.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// More are no measurement any more.
const MAX_RESTARTS: usize = 30;

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
    controllers: Mutex<Controllers>,
}

#[derive(Default)]
struct Controllers {
    /// The first one leads.
    running: Vec<Process>,
    started: usize,
    restarts: usize,
}

impl Controllers {
    fn start(&mut self, product: Product, files: &Files) -> Result<()> {
        let name = match product {
            Product::Paddock => "paddock",
            Product::Peer => "peer",
        };
        let identity = format!("bench-{}", self.started);
        let args = product.controller_args(&identity, [free_port()?, free_port()?], &files.signing_key);
        let kubeconfig = files.cluster.join("controller.kubeconfig");
        let log = files.logs.join(format!("bench-{name}-controller.log"));
        self.running.push(Process::start(&files.controller, &args, Some(&kubeconfig), &log)?);
        self.started += 1;
        Ok(())
    }
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
        let side = Self { product, client, requests, pools, files, controllers: Mutex::default() };
        let (kind, template) = product.template();
        side.create(&kind, template).await?;
        side.start_controller()?;
        Ok(side)
    }

    /// Starts one more controller; the first leads, the others stand by.
    pub fn start_controller(&self) -> Result<()> {
        self.lock().start(self.product, &self.files)
    }

    /// Processor time that the leader has used, in milliseconds.
    pub fn cpu_ms(&self) -> Result<f64> {
        self.tend()?;
        self.lock().running.first().ok_or("no controller runs")?.cpu_ms()
    }

    /// Resident memory of the leader, in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        self.tend()?;
        self.lock().running.first().ok_or("no controller runs")?.rss_mib()
    }

    /// Starts a controller again that has ended by itself, as they do when they lose the lease: a Deployment would, too.
    pub fn tend(&self) -> Result<()> {
        let mut controllers = self.lock();
        let before = controllers.running.len();
        controllers.running.retain(Process::runs);
        for _ in controllers.running.len()..before {
            eprintln!("    {}'s controller ended by itself and is started again", self.product.name());
            controllers.restarts += 1;
            if controllers.restarts > MAX_RESTARTS {
                return Err("a controller ends again and again; see its log".into());
            }
            controllers.start(self.product, &self.files)?;
        }
        Ok(())
    }

    /// How often a controller ended by itself.
    pub fn restarts(&self) -> usize {
        self.lock().restarts
    }

    /// Takes the leader out of the list: the next one is to lead.
    pub fn take_leader(&self) -> Process {
        self.lock().running.remove(0)
    }

    /// Stops all controllers.
    pub async fn stop(self) -> Result<()> {
        let running = std::mem::take(&mut self.lock().running);
        for controller in running {
            controller.end(Signal::TERM).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Controllers> {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.tend()?;
        }
        let status = self.pools.get(name).map(|entry| entry.object.data["status"].clone());
        let (who, within) = (self.product.name(), within.as_secs());
        Err(format!("{who}: pool {name} is not full after {within} s: {status:?}").into())
    }

    /// Asks for a sandbox and waits until it is there.
    pub async fn ask(&self, name: &str, pool: &str, within: Duration) -> Result<Given> {
        let (began, asked) = (Instant::now(), Timestamp::now());
        self.create(&self.product.request_kind(), self.product.request(name, pool)).await?;
        let deadline = Instant::now() + within;
        let is_ready = |journal: &Journal| journal.get(name).is_some_and(|entry| entry.ready.is_some());
        while Instant::now() < deadline && !self.requests.wait(LOOK_AFTER, is_ready).await {
            self.tend()?;
        }
        let entry = self.requests.ready(name, Duration::ZERO).await?;
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
            self.tend()?;
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
            self.tend()?;
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
