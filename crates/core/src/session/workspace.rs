//! A persistent workspace is safe once the session owns its volume claim.
//!
//! The claim is made with the Sandbox and would go with it. The session takes it over while it is Ready; and where a
//! Sandbox is to be given back before that has happened, the take-over comes first. The Sandbox is kept for as long as
//! nobody knows whether its claim exists.

use paddock_api::agent::WorkspaceMode;
use paddock_api::session::{SessionStatus, WorkspaceRef};
use paddock_api::{Sandbox, Session, labels};
use serde_json::json;

use crate::build::{self, WorkspaceSource};
use crate::catalog::{self, ResolvedAgent};
use crate::ids::{Key, uid};
use crate::op::{Named, Op, Patch, Refresh, Target};
use crate::pod::Pod;
use crate::session::{Context, Decision, Memory, assigned_sandboxes};

/// Whether the session's files outlive its pods.
pub(super) fn is_persistent(ctx: Context<'_>, session: &Session) -> bool {
    catalog::workspace(ctx.store, session)
        .is_some_and(|workspace| workspace.mode == WorkspaceMode::Persistent)
}

/// The volume claim that earlier incarnations have left.
pub(super) fn kept(session: &Session) -> Option<&str> {
    session.status.as_ref()?.workspace.as_ref().map(|workspace| workspace.claim_name.as_str())
}

/// Puts into the status where the files of `sandbox`, the session's own, are kept. Of two sandboxes that rival leaders have
/// made, the files are with the one that serves.
pub(super) fn note(
    ctx: Context<'_>,
    session: &Session,
    sandbox: Option<&Sandbox>,
    status: &mut SessionStatus,
) {
    if let Some(claim_name) = sandbox.and_then(|sandbox| claim_of(ctx, session, sandbox)) {
        status.workspace = Some(WorkspaceRef { claim_name });
    }
}

fn claim_of(ctx: Context<'_>, session: &Session, sandbox: &Sandbox) -> Option<String> {
    build::workspace_claim(sandbox).filter(|_| is_persistent(ctx, session))
}

/// The write by which the session takes over the claim of `sandbox`; nothing when it has it, or there is none.
pub(super) fn take_over(ctx: Context<'_>, session: &Session, sandbox: &Sandbox) -> Option<Op> {
    let key = key_of_claim(ctx, session, sandbox)?;
    let claim = ctx.store.volume_claims.get(&key)?;
    let session_uid = uid(&session.metadata);
    if claim.deleting || claim.owner_uid.as_deref() == Some(session_uid) {
        return None;
    }
    let mut after = claim.clone();
    after.owner_uid = Some(session_uid.to_owned());
    let name = session.metadata.name.clone().unwrap_or_default();
    after.labels.insert(labels::SESSION.to_owned(), name.clone());
    let owner = build::owner("paddock.dev/v1alpha1", "Session", &session.metadata);
    let patch = json!({"metadata": {"ownerReferences": [owner], "labels": {labels::SESSION: name}}});
    Some(Op::PatchVolumeClaim(Patch {
        target: Target::of_volume_claim(claim),
        patch,
        after: Box::new(after),
    }))
}

/// Deletes the session's sandboxes, all but those that `keep` names. A persistent workspace is taken over first.
pub(super) fn give_back(
    ctx: Context<'_>,
    session: &Session,
    memory: &Memory,
    keep: impl Fn(&Sandbox) -> bool,
) -> Decision {
    let given = assigned_sandboxes(ctx, session).filter(|sandbox| !keep(sandbox));
    Decision::ops(given.map(|sandbox| give_back_one(ctx, session, memory, sandbox)).collect())
}

fn give_back_one(ctx: Context<'_>, session: &Session, memory: &Memory, sandbox: &Sandbox) -> Op {
    if let Some(key) = key_of_claim(ctx, session, sandbox) {
        if let Some(first) = take_over(ctx, session, sandbox) {
            return first;
        }
        if ctx.store.volume_claims.get(&key).is_none() && !memory.workspace_asked {
            // Not in the cache only proves that the cache does not have it.
            return Op::Refresh(Refresh::VolumeClaim(Named { key, uid: None }));
        }
    }
    Op::DeleteSandbox(Target::of(&sandbox.metadata))
}

/// The claim of `sandbox` that the session shall keep: that of the workspace its status names, and no other.
fn key_of_claim(ctx: Context<'_>, session: &Session, sandbox: &Sandbox) -> Option<Key> {
    let claim_name = claim_of(ctx, session, sandbox)?;
    (kept(session) == Some(claim_name.as_str()))
        .then(|| Key::new(session.metadata.namespace.clone().unwrap_or_default(), claim_name))
}

/// What an incarnation that is made from scratch works on.
pub(super) enum Ground<'a> {
    /// This.
    Use(WorkspaceSource<'a>),
    /// Whether the volume claim still exists is not known.
    Ask(Refresh),
    /// The pod of this name still mounts the volume.
    InUse(String),
    /// The volume claim of this name is gone, and with it all that the session had.
    Lost(String),
}

/// What the next sandbox of the session works on. Two pods never share a workspace: each would write the other's journal.
pub(super) fn ground<'a>(
    ctx: Context<'_>,
    session: &'a Session,
    memory: &Memory,
    agent: &'a ResolvedAgent,
) -> Ground<'a> {
    if agent.spec.workspace.mode != WorkspaceMode::Persistent {
        return Ground::Use(WorkspaceSource::AsTemplate);
    }
    let Some(claim) = kept(session) else {
        return Ground::Use(WorkspaceSource::New(&agent.spec.workspace));
    };
    let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
    let key = Key::new(namespace, claim);
    if ctx.store.volume_claims.get(&key).is_none() {
        if !memory.workspace_asked {
            return Ground::Ask(Refresh::VolumeClaim(Named { key, uid: None }));
        }
        let was_used = session.status.as_ref().is_some_and(|status| status.harness_session_id.is_some());
        return if was_used {
            Ground::Lost(claim.to_owned())
        } else {
            Ground::Use(WorkspaceSource::New(&agent.spec.workspace))
        };
    }
    let mounts = |pod: &&Pod| pod.volume_claims.iter().any(|mounted| mounted == claim);
    match ctx.store.pods.in_namespace(namespace).find(mounts) {
        Some(pod) => Ground::InUse(pod.name.clone()),
        None => Ground::Use(WorkspaceSource::Kept(claim)),
    }
}
