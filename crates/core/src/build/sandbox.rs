//! Sandboxes from templates, for a pool or for one session.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use paddock_api::agent::Workspace;
use paddock_api::labels::{self, name_hash};
use paddock_api::sandbox::{OperatingMode, SandboxSpec, ShutdownPolicy, VolumeClaimTemplate};
use paddock_api::{Sandbox, SandboxTemplate, SandboxWarmPool, Session};

use crate::build::RunnerSettings;
use crate::build::volume::workspace_template;
use crate::ids::{annotation, derived_name, uid};

/// Hash of everything that shapes the pods of a template: members with another hash are stale.
pub fn template_hash(template: &SandboxTemplate, runner: &RunnerSettings) -> String {
    let harness = annotation(&template.metadata, labels::HARNESS);
    let shape = serde_json::json!([
        template.spec.pod_template,
        template.spec.service,
        template.spec.volume_claim_templates,
        harness,
        settings(template).collect::<BTreeMap<_, _>>(),
        harness.map(|_| runner),
    ]);
    name_hash(&shape.to_string())
}

/// A member of `pool`, named after its ordinal.
pub fn for_pool(
    pool: &SandboxWarmPool,
    template: &SandboxTemplate,
    runner: &RunnerSettings,
    ordinal: u64,
) -> Sandbox {
    let pool_name = pool.metadata.name.clone().unwrap_or_default();
    let mut sandbox = from_template(template, runner);
    let meta = &mut sandbox.metadata;
    meta.namespace = pool.metadata.namespace.clone();
    meta.name = Some(derived_name(&pool_name, uid(&pool.metadata), ordinal));
    meta.owner_references =
        Some(vec![owner("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", &pool.metadata)]);
    insert(&mut meta.labels, labels::WARM_POOL_SANDBOX, name_hash(&pool_name));
    insert(&mut meta.annotations, labels::POOL_ORDINAL, ordinal.to_string());
    sandbox
}

/// What a session's own sandbox shall hold.
#[derive(Clone, Copy, Debug)]
pub enum WorkspaceSource<'a> {
    /// Files that go with the pod, or whatever the template says.
    AsTemplate,
    /// A volume of its own; made as the template says, or else like this.
    New(&'a Workspace),
    /// The volume claim that an earlier incarnation left.
    Kept(&'a str),
}

/// A sandbox made for `session` alone.
pub fn for_session(
    session: &Session,
    agent_name: &str,
    template: &SandboxTemplate,
    runner: &RunnerSettings,
    incarnation: u32,
    workspace: WorkspaceSource<'_>,
    attempt: u64,
) -> Sandbox {
    let stem = session.metadata.name.clone().unwrap_or_default();
    let ordinal = u64::from(incarnation) << 32 | attempt;
    let mut sandbox = from_template(template, runner);
    sandbox.metadata.namespace = session.metadata.namespace.clone();
    sandbox.metadata.name = Some(derived_name(&stem, uid(&session.metadata), ordinal));
    insert(&mut sandbox.metadata.labels, labels::LAUNCH_TYPE, "cold");
    if let Some(class) = annotation(&template.metadata, labels::SESSION_PRIORITY_CLASS)
        && let Some(spec) = Arc::make_mut(&mut sandbox.spec.pod_template.spec).as_object_mut()
    {
        spec.insert("priorityClassName".to_owned(), class.into());
        // Worked out from the class by the API server; that of another class would be refused.
        spec.remove("priority");
    }
    let claims = &mut sandbox.spec.volume_claim_templates;
    let is_workspace =
        |claim: &VolumeClaimTemplate| claim.metadata.name.as_deref() == Some(labels::WORKSPACE_VOLUME);
    match workspace {
        WorkspaceSource::AsTemplate => {}
        WorkspaceSource::New(workspace) => {
            if !claims.iter().any(is_workspace) {
                claims.push(workspace_template(workspace));
            }
        }
        WorkspaceSource::Kept(claim) => {
            claims.retain(|claim| !is_workspace(claim));
            insert(&mut sandbox.metadata.annotations, labels::WORKSPACE_CLAIM, claim);
        }
    }
    assign(&mut sandbox, session, agent_name, incarnation);
    sandbox
}

/// `sandbox` after `session` has adopted it from its pool.
pub fn adopted(sandbox: &Sandbox, session: &Session, agent_name: &str, incarnation: u32) -> Sandbox {
    let mut after = sandbox.clone();
    if let Some(labels) = &mut after.metadata.labels {
        labels.remove(labels::WARM_POOL_SANDBOX);
    }
    insert(&mut after.metadata.labels, labels::LAUNCH_TYPE, "warm");
    assign(&mut after, session, agent_name, incarnation);
    after
}

fn assign(sandbox: &mut Sandbox, session: &Session, agent_name: &str, incarnation: u32) {
    let meta = &mut sandbox.metadata;
    meta.owner_references = Some(vec![owner("paddock.dev/v1alpha1", "Session", &session.metadata)]);
    insert(&mut meta.labels, labels::SESSION, session.metadata.name.clone().unwrap_or_default());
    insert(&mut meta.labels, labels::SESSION_UID, uid(&session.metadata));
    insert(&mut meta.labels, labels::INCARNATION, incarnation.to_string());
    if !agent_name.is_empty() {
        insert(&mut meta.labels, labels::AGENT, agent_name);
    }
}

fn from_template(template: &SandboxTemplate, runner: &RunnerSettings) -> Sandbox {
    let template_name = template.metadata.name.clone().unwrap_or_default();
    let mut sandbox = Sandbox {
        metadata: ObjectMeta::default(),
        spec: SandboxSpec {
            operating_mode: OperatingMode::Running,
            pod_template: template.spec.pod_template.clone(),
            service: template.spec.service,
            shutdown_policy: ShutdownPolicy::Retain,
            shutdown_time: None,
            volume_claim_templates: template.spec.volume_claim_templates.clone(),
        },
        status: None,
    };
    let meta = &mut sandbox.metadata;
    insert(&mut meta.labels, labels::TEMPLATE_HASH, template_hash(template, runner));
    insert(&mut meta.labels, labels::TEMPLATE_REF_HASH, name_hash(&template_name));
    insert(&mut meta.annotations, labels::TEMPLATE_REF, template_name);
    if let Some(harness) = annotation(&template.metadata, labels::HARNESS) {
        insert(&mut meta.labels, labels::HARNESS, harness);
    }
    for (key, value) in settings(template) {
        insert(&mut meta.annotations, key, value);
    }
    sandbox
}

/// What a template says of how its harness is run.
fn settings(template: &SandboxTemplate) -> impl Iterator<Item = (&'static str, &str)> {
    let said = |key: &'static str| Some((key, annotation(&template.metadata, key)?));
    labels::HARNESS_SETTINGS.into_iter().filter_map(said)
}

fn insert(map: &mut Option<BTreeMap<String, String>>, key: &str, value: impl Into<String>) {
    map.get_or_insert_default().insert(key.to_owned(), value.into());
}

/// A controller reference. It does not block the owner's deletion, so no right to update finalizers of
/// the owner is needed where OwnerReferencesPermissionEnforcement is on.
fn owner(api_version: &str, kind: &str, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
