//! Which pool member a session takes.
//!
//! The agent's pool is asked first, then its fallbacks in order. In each, a member of the current revision comes
//! before a stale one, and a stale one is no choice at all while a current one is ready; members on cordoned
//! nodes come last, those on silent nodes never. A session that has just lost a pod does not try one on a cordoned node:
//! it would be driven from there as well, and again, until nothing recovers it any more.
//!
//! A session that finds no member starts cold at once; see [`super::exchange`] for what a member means to it that becomes ready
//! later.

use paddock_api::agent::WorkspaceMode;
use paddock_api::{Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};

use crate::build;
use crate::catalog::{self, ResolvedAgent, Source};
use crate::ids::{Key, controller_uid, is_deleting, label, uid};
use crate::node::{self, Standing};
use crate::pod::Pod;
use crate::session::{Context, Memory, workspace};

/// What the pools have for a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice<'a> {
    /// This member.
    Member(&'a Sandbox, &'a Pod),
    /// Only members that are being written to; that takes milliseconds.
    Busy,
    /// Nothing.
    Nothing,
}

/// The best member for `session`.
pub(super) fn choose<'a>(
    ctx: Context<'a>,
    session: &Session,
    memory: &Memory,
    agent: &ResolvedAgent,
    source: Source<'a>,
) -> Choice<'a> {
    if workspace::kept(session).is_some() {
        // A pod gets its volumes when it is made, so what an earlier incarnation has left needs a pod of its own.
        return Choice::Nothing;
    }
    let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
    // A fallback that is of no use is told in the agent's status; the session goes on to the next one.
    let fallbacks = catalog::fallbacks(ctx.store, namespace, &agent.spec).filter_map(Result::ok);
    source
        .pool
        .map(|pool| (pool, source.template))
        .into_iter()
        .chain(fallbacks.map(|fallback| (fallback.pool, fallback.template)))
        .map(|(pool, template)| choose_from(ctx, session, memory, agent, pool, template))
        .find(|choice| !matches!(choice, Choice::Nothing))
        .unwrap_or(Choice::Nothing)
}

fn choose_from<'a>(
    ctx: Context<'a>,
    session: &Session,
    memory: &Memory,
    agent: &ResolvedAgent,
    pool: &SandboxWarmPool,
    template: &SandboxTemplate,
) -> Choice<'a> {
    let current = build::template_hash(template, &ctx.settings.runner);
    let is_stale = |s: &Sandbox| label(&s.metadata, labels::TEMPLATE_HASH) != Some(current.as_str());
    let flees = session.status.as_ref().is_some_and(|status| status.recoveries > 0);
    let mut members: Vec<_> = ctx
        .store
        .sandboxes_of_pool(uid(&pool.metadata))
        .filter_map(|sandbox| adoptable(ctx, sandbox, session, agent))
        .filter(|(_, pod)| !memory.is_refused_by(pod))
        .filter(|(_, pod)| !flees || node::standing(ctx.store, pod) == Standing::Fine)
        .collect();
    if members.iter().any(|(sandbox, _)| !is_stale(sandbox)) {
        members.retain(|(sandbox, _)| !is_stale(sandbox));
    }
    let (busy, free): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|(sandbox, _)| ctx.busy.is_busy(&Key::of(&sandbox.metadata)));
    let best = free
        .into_iter()
        .min_by_key(|(sandbox, pod)| (node::standing(ctx.store, pod), pod.created, &sandbox.metadata.name));
    match best {
        Some((sandbox, pod)) => Choice::Member(sandbox, pod),
        None if busy.is_empty() => Choice::Nothing,
        None => Choice::Busy,
    }
}

/// A pool member that `session` may take, with its pod.
pub(super) fn adoptable<'a>(
    ctx: Context<'a>,
    sandbox: &'a Sandbox,
    session: &Session,
    agent: &ResolvedAgent,
) -> Option<(&'a Sandbox, &'a Pod)> {
    let key = Key::of(&sandbox.metadata);
    let held_by_other = ctx.reserved.get(&key).is_some_and(|by| *by != Key::of(&session.metadata));
    let free = !is_deleting(&sandbox.metadata)
        && label(&sandbox.metadata, labels::SESSION_UID).is_none()
        && label(&sandbox.metadata, labels::HARNESS) == Some(agent.spec.harness.as_str())
        && (agent.spec.workspace.mode == WorkspaceMode::Ephemeral
            || build::workspace_claim(sandbox).is_some())
        && sandbox.metadata.namespace == session.metadata.namespace
        && controller_uid(&sandbox.metadata).is_some()
        && !held_by_other;
    if !free {
        return None;
    }
    let pod = ctx.store.pod_of(sandbox)?;
    let silent = matches!(node::standing(ctx.store, pod), Standing::Silent { .. });
    pod.serving_ip().filter(|_| !silent).map(|_| (sandbox, pod))
}
