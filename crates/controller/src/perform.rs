//! Performs operations. Decides nothing: every outcome goes back to the engine.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use paddock_api::{Agent, Sandbox, SandboxWarmPool, Session, labels};
use paddock_core::RunnerFailure;
use paddock_core::op::{Activation, Named, Op, Outcome, Patch, Refresh, Refreshed, Target, WriteFailure};
use paddock_kubeio::slim::{SlimPod, SlimVolumeClaim};
use paddock_kubeio::write::{self, Precondition, WriteError, Written};
use paddock_runnerapi::Activity;
use serde::de::DeserializeOwned;

use crate::equipment;
use crate::manifest::Manifest;
use crate::pods;
use crate::runners::{Activated, Runners};

/// What operations need.
pub(crate) struct Performer {
    pub(crate) client: kube::Client,
    pub(crate) runners: Runners,
}

impl Performer {
    /// Performs one operation.
    pub(crate) async fn perform(&self, op: &Op) -> Outcome {
        let client = &self.client;
        match op {
            Op::CreateSandbox(sandbox) => {
                let namespace = sandbox.metadata.namespace.as_deref().unwrap_or_default();
                written(write::create(client, namespace, &**sandbox).await)
            }
            Op::CreatePod(pod) => {
                let manifest = Manifest::<Pod>::new(pod.manifest.clone());
                written(write::create(client, &pod.after.namespace, &manifest).await)
            }
            Op::CreateVolumeClaim(claim) => {
                let manifest = Manifest::<PersistentVolumeClaim>::new(claim.manifest.clone());
                written(write::create(client, &claim.after.namespace, &manifest).await)
            }
            Op::PatchSandbox(patch) => self.patch::<Sandbox, _>(patch).await,
            Op::PatchSession(patch) => self.patch::<Session, _>(patch).await,
            Op::PatchVolumeClaim(patch) => self.patch::<PersistentVolumeClaim, _>(patch).await,
            Op::PatchPod(patch) => self.patch::<Pod, _>(patch).await,
            Op::PatchSandboxStatus(patch) => self.patch_status::<Sandbox, _>(patch).await,
            Op::PatchSessionStatus(patch) => self.patch_status::<Session, _>(patch).await,
            Op::PatchPoolStatus(patch) => self.patch_status::<SandboxWarmPool, _>(patch).await,
            Op::PatchAgentStatus(patch) => self.patch_status::<Agent, _>(patch).await,
            Op::DeleteSandbox(target) => self.delete::<Sandbox>(target).await,
            Op::DeletePod(target) => self.delete::<Pod>(target).await,
            Op::DeleteSession(target) => self.delete::<Session>(target).await,
            Op::Activate(activation) => match self.activate(activation).await {
                Ok(Activated::Serves(response)) => Outcome::Activated(response),
                Ok(Activated::GoesOn(progress)) => Outcome::Activating(progress),
                Err(failure) => Outcome::Refused(failure),
            },
            Op::ReadActivity(runner) => answered(self.runners.activity(runner).await),
            Op::Quiesce(runner, if_idle_ms) => answered(self.runners.quiesce(runner, *if_idle_ms).await),
            Op::Refresh(refresh) => match self.refresh(refresh).await {
                Ok(found) => Outcome::Refreshed(found),
                Err(error) => Outcome::Failed(failure(error)),
            },
        }
    }

    async fn activate(&self, activation: &Activation) -> Result<Activated, RunnerFailure> {
        if activation.secret_env.is_empty() && activation.equipment.is_none() {
            return self.runners.activate(activation, &activation.request).await;
        }
        let request = equipment::request(&self.client, activation).await;
        self.runners.activate(activation, &request.map_err(RunnerFailure::Unavailable)?).await
    }

    async fn patch<K, T>(&self, patch: &Patch<T>) -> Outcome
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let Target { key, .. } = &patch.target;
        let precondition = precondition(&patch.target);
        let answer = write::merge_patch::<K>(
            &self.client,
            &key.namespace,
            &key.name,
            precondition,
            patch.patch.clone(),
        );
        written(answer.await)
    }

    async fn patch_status<K, T>(&self, patch: &Patch<T>) -> Outcome
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let Target { key, .. } = &patch.target;
        let answer = write::merge_patch_status::<K>(
            &self.client,
            &key.namespace,
            &key.name,
            precondition(&patch.target),
            patch.patch.clone(),
        );
        written(answer.await)
    }

    async fn delete<K>(&self, target: &Target) -> Outcome
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let Target { key, .. } = target;
        let answer = write::delete::<K>(&self.client, &key.namespace, &key.name, precondition(target), None);
        match answer.await {
            Ok(()) => Outcome::Deleted,
            Err(error) => Outcome::Failed(failure(error)),
        }
    }

    async fn refresh(&self, refresh: &Refresh) -> Result<Refreshed, WriteError> {
        Ok(match refresh {
            Refresh::Session(named) => Refreshed::Session(self.read(named).await?),
            Refresh::Sandbox(named) => Refreshed::Sandbox(self.read(named).await?),
            Refresh::Pool(named) => Refreshed::Pool(self.read(named).await?),
            Refresh::Agent(named) => Refreshed::Agent(self.read(named).await?),
            Refresh::Template(named) => Refreshed::Template(self.read(named).await?),
            Refresh::Pod(named) => {
                let pod: Option<Box<SlimPod>> = self.read(named).await?;
                Refreshed::Pod(pod.map(|pod| Box::new(pods::to_core(*pod))))
            }
            Refresh::VolumeClaim(named) => {
                let claim: Option<Box<SlimVolumeClaim>> = self.read(named).await?;
                Refreshed::VolumeClaim(claim.map(|claim| Box::new(pods::volume_claim(*claim))))
            }
            Refresh::Claims { namespace, session_uid } => {
                let selector = format!("{}={session_uid}", labels::SESSION_UID);
                Refreshed::Claims(write::list(&self.client, namespace, &selector).await?)
            }
        })
    }

    async fn read<K>(&self, named: &Named) -> Result<Option<Box<K>>, WriteError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let found = write::get(&self.client, &named.key.namespace, &named.key.name).await?;
        Ok(found.map(Box::new))
    }
}

fn precondition(target: &Target) -> Precondition {
    Precondition { uid: target.uid.clone(), resource_version: Some(target.resource_version.clone()) }
}

fn answered(answer: Result<Activity, RunnerFailure>) -> Outcome {
    match answer {
        Ok(activity) => Outcome::Activity(activity),
        Err(failure) => Outcome::Refused(failure),
    }
}

fn written(answer: Result<Written, WriteError>) -> Outcome {
    match answer {
        Ok(Written { uid, resource_version, .. }) => Outcome::Written { uid, resource_version },
        Err(error) => Outcome::Failed(failure(error)),
    }
}

fn failure(error: WriteError) -> WriteFailure {
    match error {
        WriteError::NotFound => WriteFailure::NotFound,
        WriteError::AlreadyExists => WriteFailure::AlreadyExists,
        WriteError::Conflict => WriteFailure::Conflict,
        WriteError::Rejected { status, message, .. } => WriteFailure::Rejected { status, message },
        WriteError::Throttled { retry_after } => {
            WriteFailure::Throttled(retry_after.and_then(|d| u64::try_from(d.as_millis()).ok()))
        }
        WriteError::Unavailable(message) => WriteFailure::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_core::Key;

    #[test]
    fn every_write_is_for_one_version_of_one_object() {
        let target =
            Target { key: Key::new("ns", "name"), uid: "uid-1".into(), resource_version: "7".into() };
        let Precondition { uid, resource_version } = precondition(&target);
        assert_eq!((uid.as_str(), resource_version.as_deref()), ("uid-1", Some("7")));
    }
}
