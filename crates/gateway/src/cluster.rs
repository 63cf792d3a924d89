//! The gateway's few requests to the API server, as a port: the server takes any implementation, so that its
//! tests need no cluster. Every write carries a precondition or derives its object's name.

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session};
use paddock_kubeio::look::{self, LogQuery, SlimEvent};
use paddock_kubeio::slim::{SlimPod, SlimSecret};
use paddock_kubeio::write::{self, Precondition, WriteError, Written};
use serde_json::Value;

/// What the gateway asks of the API server, all in one namespace.
pub trait Cluster: Send + Sync + 'static {
    /// Creates a Session.
    fn create_session<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Reads a Session, not from a cache.
    fn read_session<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Session>, WriteError>>;
    /// Reads an Agent, not from a cache.
    fn read_agent<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Agent>, WriteError>>;
    /// Reads a Pod, not from a cache.
    fn read_pod<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimPod>, WriteError>>;
    /// Reads a Sandbox, not from a cache.
    fn read_sandbox<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, WriteError>>;
    /// Reads a SandboxWarmPool, not from a cache.
    fn read_pool<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SandboxWarmPool>, WriteError>>;
    /// Reads all SandboxWarmPools, not from a cache.
    fn list_pools(&self) -> BoxFuture<'_, Result<Vec<SandboxWarmPool>, WriteError>>;
    /// Reads all SandboxTemplates, not from a cache.
    fn list_templates(&self) -> BoxFuture<'_, Result<Vec<SandboxTemplate>, WriteError>>;
    /// Reads what a container of a pod has written; nothing where there is no such pod.
    fn read_log<'a>(
        &'a self,
        pod: &'a str,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<Option<Bytes>, WriteError>>;
    /// Reads the Events about objects of this name, `most` of them.
    fn read_events<'a>(
        &'a self,
        name: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<SlimEvent>, WriteError>>;
    /// Changes a Session's spec.
    fn patch_session<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Changes a Session's status.
    fn patch_session_status<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Creates an Agent.
    fn create_agent<'a>(&'a self, agent: &'a Agent) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Changes an Agent's spec and annotations.
    fn patch_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Deletes an Agent; its Secret goes with it.
    fn delete_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
    ) -> BoxFuture<'a, Result<(), WriteError>>;
    /// Creates a Secret.
    fn create_secret<'a>(&'a self, secret: &'a Secret) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// Reads what is not secret about a Secret.
    fn read_secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimSecret>, WriteError>>;
    /// Changes a Secret's values.
    fn patch_secret<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
}

/// The real one.
pub struct KubeCluster {
    client: kube::Client,
    namespace: String,
}

impl KubeCluster {
    /// Serves the objects of `namespace`.
    pub fn new(client: kube::Client, namespace: String) -> Self {
        Self { client, namespace }
    }
}

impl Cluster for KubeCluster {
    fn create_session<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::create(&self.client, &self.namespace, session))
    }

    fn read_session<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Session>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn read_agent<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Agent>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn read_pod<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimPod>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn read_sandbox<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn read_pool<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SandboxWarmPool>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn list_pools(&self) -> BoxFuture<'_, Result<Vec<SandboxWarmPool>, WriteError>> {
        Box::pin(write::list(&self.client, &self.namespace, ""))
    }

    fn list_templates(&self) -> BoxFuture<'_, Result<Vec<SandboxTemplate>, WriteError>> {
        Box::pin(write::list(&self.client, &self.namespace, ""))
    }

    fn read_log<'a>(
        &'a self,
        pod: &'a str,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<Option<Bytes>, WriteError>> {
        Box::pin(look::log(&self.client, &self.namespace, pod, query))
    }

    fn read_events<'a>(
        &'a self,
        name: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<SlimEvent>, WriteError>> {
        Box::pin(look::events(&self.client, &self.namespace, name, most))
    }

    fn patch_session<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::merge_patch::<Session>(&self.client, &self.namespace, name, precondition, patch))
    }

    fn patch_session_status<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::merge_patch_status::<Session>(
            &self.client,
            &self.namespace,
            name,
            precondition,
            patch,
        ))
    }

    fn create_agent<'a>(&'a self, agent: &'a Agent) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::create(&self.client, &self.namespace, agent))
    }

    fn patch_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::merge_patch::<Agent>(&self.client, &self.namespace, name, precondition, patch))
    }

    fn delete_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(write::delete::<Agent>(&self.client, &self.namespace, name, precondition, None))
    }

    fn create_secret<'a>(&'a self, secret: &'a Secret) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::create(&self.client, &self.namespace, secret))
    }

    fn read_secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimSecret>, WriteError>> {
        Box::pin(write::get(&self.client, &self.namespace, name))
    }

    fn patch_secret<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(write::merge_patch::<Secret>(&self.client, &self.namespace, name, precondition, patch))
    }
}
