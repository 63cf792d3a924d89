//! One watch per kind, each with its own task: one that fails does not hold up the others.

use kube::Resource;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};
use paddock_core::{Change, Engine};
use paddock_kubeio::slim::{SlimNode, SlimPod, SlimVolumeClaim};
use paddock_kubeio::watch::{self, Closed, Event, Freshness, Scope, WatchOptions};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::driver::{Message, Seen};
use crate::{nodes, pods};

/// A change of any kind, ready for the engine.
pub(crate) type Apply = Box<dyn FnOnce(&mut Engine, jiff::Timestamp) + Send>;

/// A watch's name and how fresh it is.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) kind: &'static str,
    pub(crate) freshness: Freshness,
}

/// Starts all watches. Each sends what it sees to `messages`.
pub(crate) fn spawn_all(
    client: &kube::Client,
    messages: &UnboundedSender<Message>,
    tasks: &mut JoinSet<&'static str>,
) -> Vec<Watched> {
    let mut starter = Starter { client, messages, tasks, started: Vec::new() };
    starter.watch::<Session, _>("Session", None, |engine, change, now| engine.sessions_changed(change, now));
    starter.watch::<Agent, _>("Agent", None, |engine, change, now| engine.agents_changed(change, now));
    starter.watch::<SandboxTemplate, _>("SandboxTemplate", None, |engine, change, now| {
        engine.templates_changed(change, now);
    });
    starter.watch::<SandboxWarmPool, _>("SandboxWarmPool", None, |engine, change, now| {
        engine.pools_changed(change, now);
    });
    starter.watch::<Sandbox, _>("Sandbox", None, |engine, change, now| engine.sandboxes_changed(change, now));
    // Only pods that Sandboxes own: a cluster has many others.
    starter.watch::<SlimPod, _>("Pod", Some(labels::SANDBOX_NAME_HASH), |engine, change, now| {
        engine.pods_changed(change.map(pods::to_core), now);
    });
    let claims_of_ours = Some(labels::SANDBOX_NAME_HASH);
    starter.watch::<SlimVolumeClaim, _>("PersistentVolumeClaim", claims_of_ours, |engine, change, now| {
        engine.volume_claims_changed(change.map(pods::volume_claim), now);
    });
    starter.watch::<SlimNode, _>("Node", None, |engine, change, now| {
        engine.nodes_changed(change.map(nodes::to_core), now);
    });
    starter.started
}

struct Starter<'a> {
    client: &'a kube::Client,
    messages: &'a UnboundedSender<Message>,
    tasks: &'a mut JoinSet<&'static str>,
    started: Vec<Watched>,
}

impl Starter<'_> {
    fn watch<K, F>(&mut self, kind: &'static str, label_selector: Option<&str>, apply: F)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
        F: Fn(&mut Engine, Change<K>, jiff::Timestamp) + Copy + Send + 'static,
    {
        let freshness = Freshness::new();
        self.started.push(Watched { kind, freshness: freshness.clone() });
        let options = WatchOptions {
            scope: Scope::Cluster,
            label_selector: label_selector.map(str::to_owned),
            field_selector: None,
        };
        let (client, messages) = (self.client.clone(), self.messages.clone());
        self.tasks.spawn(async move {
            watch::run::<K, _>(client, options, freshness, move |event| {
                let complete = matches!(event, Event::Synced(_));
                let change = match event {
                    Event::Synced(objects) => Change::Synced(objects),
                    Event::Applied(object) => Change::Applied(object),
                    Event::Deleted(object) => Change::Deleted(object),
                };
                let apply: Apply = Box::new(move |engine, now| apply(engine, change, now));
                messages.send(Message::Seen(Seen { kind, complete, apply })).map_err(|_| Closed)
            })
            .await;
            kind
        });
    }
}
