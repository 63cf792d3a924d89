//! A session on its way to Ready.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::session::{
    Capabilities, DesiredState, Phase, PodRef, Reason, SandboxRef, Startup, StartupPath, Step,
};
use paddock_api::{Sandbox, Session, labels};

use crate::build;
use crate::catalog::{self, Missing, ResolvedAgent, Source};
use crate::health::{self, Health};
use crate::ids::{Key, label, uid};
use crate::op::{Named, Op, Patch, Refresh, Target, merge_diff};
use crate::pod::Pod;
use crate::session::activation::{Prompt, activate, endpoint, first_prompt};
use crate::session::claim::{self, Choice, adoptable};
use crate::session::ending::{end, has_uid};
use crate::session::equipping;
use crate::session::exchange::{Exchange, exchange};
use crate::session::workspace::{self, Ground};
use crate::session::{
    Asked, Confirmed, Context, Decision, Memory, admission, assigned_sandboxes, incarnation, is_current,
    status, suspend,
};

/// Agent, pool and template may be applied in one go with the session and be seen a little later.
const MISSING_GRACE: SignedDuration = SignedDuration::from_secs(5);
/// When to look again at a pool member that is being written to.
const BUSY_PAUSE: SignedDuration = SignedDuration::from_millis(10);
/// When to look again at a pod that is ending.
const ENDING_PAUSE: SignedDuration = SignedDuration::from_secs(1);

pub(super) fn decide(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    let keep = |sandbox: &Sandbox| is_current(session, sandbox);
    let outdated = workspace::give_back(ctx, session, memory, keep).ops;
    let mut decision = start(ctx, session, memory);
    if !outdated.is_empty() {
        // A session that goes through several incarnations must not leave a pod behind with each.
        decision.ops.retain(|op| !matches!(op, Op::CreateSandbox(_)));
    }
    decision.ops.extend(outdated);
    decision
}

fn start(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    if let Some(why) = &memory.activation_failed {
        // Another pod would fail in the same way, and the next, until the pool is empty.
        return equipping::failed(ctx, session, why);
    }
    if session.spec.state == DesiredState::Suspended && may_rest(ctx, session, memory) {
        return suspend::rest(ctx, session, memory);
    }
    if let Err(decision) = admission::admitted(ctx, session) {
        return decision;
    }
    let created = incarnation::wanted_since(session, ctx.now);
    let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
    let resolved = catalog::agent(ctx.store, session)
        .and_then(|agent| catalog::source(ctx.store, namespace, &agent.spec).map(|source| (agent, source)));
    let (agent, source) = match resolved {
        Ok(found) => found,
        Err(missing) => {
            let since = *memory.missing_since.get_or_insert(ctx.now);
            return wait_for_missing(ctx, session, memory, missing, created.max(since) + MISSING_GRACE);
        }
    };
    memory.missing_since = None;
    memory.missing_asked = false;

    let timeout = agent.spec.lifecycle.startup_timeout();
    let deadline = created + SignedDuration::try_from(timeout.as_std()).unwrap_or(SignedDuration::MAX);
    if ctx.now >= deadline {
        return timed_out(ctx, session, memory, &timeout.to_string());
    }
    let after_takeover = !memory.claims_asked && created < ctx.settings.leading_since;
    if after_takeover || memory.assignment_unknown {
        // An earlier leader, or a request of ours, may have assigned a sandbox that no watch has shown yet.
        let ask = Refresh::Claims {
            namespace: namespace.to_owned(),
            session_uid: uid(&session.metadata).to_owned(),
        };
        return Decision::op(Op::Refresh(ask));
    }
    let mut decision = match bound(ctx, session, memory) {
        Some(sandbox) => match exchange(ctx, session, memory, &agent, source, sandbox) {
            Exchange::Take(decision) => decision,
            Exchange::Hope(until) => {
                let decision = with_sandbox(ctx, session, memory, &agent, sandbox).and_wake(until);
                Decision { hopes: true, ..decision }
            }
            Exchange::No => with_sandbox(ctx, session, memory, &agent, sandbox),
        },
        None => without_sandbox(ctx, session, memory, &agent, source),
    };
    decision.wake = Some(decision.wake.map_or(deadline, |wake| wake.min(deadline)));
    decision
}

/// A start can be put off while nothing was begun that would be lost: before there is a pod, or on a volume.
fn may_rest(ctx: Context<'_>, session: &Session, memory: &Memory) -> bool {
    let begun = memory.reserved.is_some() || bound(ctx, session, memory).is_some();
    !begun || workspace::kept(session).is_some()
}

fn wait_for_missing(
    ctx: Context<'_>,
    session: &Session,
    memory: &Memory,
    missing: Missing,
    until: Timestamp,
) -> Decision {
    if ctx.now >= until {
        if let Some(ask) = missing.ask.filter(|_| !memory.missing_asked) {
            // Not in the cache only proves that the cache does not have it.
            return Decision::op(Op::Refresh(ask));
        }
        return end(ctx, session, Phase::Failed, missing.reason, missing.message);
    }
    // No write yet: what is missing usually arrives within milliseconds.
    Decision { wake: Some(until), ..Decision::default() }
}

fn timed_out(ctx: Context<'_>, session: &Session, memory: &Memory, timeout: &str) -> Decision {
    let told = session.status.as_ref().map(|s| s.message.clone()).filter(|told| !told.is_empty());
    let waited_for =
        memory.runner_trouble.clone().or(told).unwrap_or_else(|| "waiting for a sandbox".to_owned());
    let message = format!(
        "not Ready within the startup timeout of {timeout}; last: {waited_for}; raise lifecycle.startupTimeout if the start only needs longer"
    );
    end(ctx, session, Phase::Failed, Reason::StartupTimeout, message)
}

/// The sandbox that is assigned to the session; of several the activated one, else the first by name.
fn bound<'a>(ctx: Context<'a>, session: &Session, memory: &Memory) -> Option<&'a Sandbox> {
    let activated = memory.activation.as_ref().map(|a| a.pod_uid.as_str());
    assigned_sandboxes(ctx, session).filter(|sandbox| is_current(session, sandbox)).max_by_key(|sandbox| {
        let pod = ctx.store.pod_of(sandbox).map(|pod| pod.uid.as_str());
        (pod.is_some() && pod == activated, std::cmp::Reverse(sandbox.metadata.name.clone()))
    })
}

fn without_sandbox(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    agent: &ResolvedAgent,
    source: Source<'_>,
) -> Decision {
    if let Some(key) = memory.reserved.clone() {
        match ctx.store.sandboxes.get(&key).and_then(|s| adoptable(ctx, s, session, agent)) {
            Some((sandbox, pod)) if !memory.is_refused_by(pod) => {
                return adopt(ctx, session, memory, agent, sandbox, pod);
            }
            // It serves another session, whose assignment is on its way.
            Some(_) => {}
            // It broke or is not wanted any more. If it was activated for nothing, nobody else may have it.
            None => {
                if let Some(delete) = super::spoilt(ctx, memory) {
                    return Decision::op(delete);
                }
            }
        }
        memory.reserved = None;
        memory.activation = None;
        memory.progress = None;
    }
    match claim::choose(ctx, session, memory, agent, source) {
        Choice::Member(sandbox, pod) => adopt(ctx, session, memory, agent, sandbox, pod),
        // A cold start takes seconds.
        Choice::Busy => Decision { wake: Some(ctx.now + BUSY_PAUSE), ..Decision::default() },
        Choice::Nothing => cold_start(ctx, session, memory, agent, source),
    }
}

/// The durable assignment and the activation, side by side. Both must succeed.
fn adopt(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    agent: &ResolvedAgent,
    sandbox: &Sandbox,
    pod: &Pod,
) -> Decision {
    let key = Key::of(&sandbox.metadata);
    memory.reserved = Some(key.clone());
    let after = build::adopted(sandbox, session, &agent.frozen.name, incarnation::current(session));
    let patch = merge_diff(sandbox, &after);
    let mut ops = vec![Op::PatchSandbox(Patch {
        target: Target::of(&sandbox.metadata),
        patch,
        after: Box::new(after),
    })];
    if memory.activation.as_ref().is_none_or(|a| a.pod_uid != pod.uid)
        && let Some(ip) = pod.serving_ip()
    {
        memory.frozen = Some(agent.frozen.clone());
        ops.push(activate(ctx, session, agent, pod, ip, Prompt::Later));
    }
    Decision { ops, reserve: Some(key), ..Decision::default() }
}

fn cold_start(
    ctx: Context<'_>,
    session: &Session,
    memory: &Memory,
    agent: &ResolvedAgent,
    source: Source<'_>,
) -> Decision {
    if let Some(why) = &memory.sandbox_rejected {
        let message = format!("the API server refuses the session's Sandbox: {why}");
        return end(ctx, session, Phase::Failed, Reason::PodRejected, message);
    }
    let ground = match workspace::ground(ctx, session, memory, agent) {
        Ground::Use(ground) => ground,
        Ground::Ask(ask) => return Decision::op(Op::Refresh(ask)),
        Ground::InUse(pod) => {
            let message = format!("waiting for pod {pod} to end, which still has the session's volume");
            return progress(ctx, session, agent, None, Step::EndingPod, Reason::PodStarting, &message)
                .and_wake(Some(ctx.now + ENDING_PAUSE));
        }
        Ground::Lost(claim) => {
            let message =
                format!("the volume claim {claim} with the session's files is gone; make a new session");
            return end(ctx, session, Phase::Failed, Reason::WorkspaceLost, message);
        }
    };
    let make = |attempt| {
        let incarnation = incarnation::current(session);
        let (template, runner) = (source.template, &ctx.settings.runner);
        build::for_session(session, &agent.frozen.name, template, runner, incarnation, ground, attempt)
    };
    // A name that is taken is an earlier attempt's, on its way out.
    let sandbox = (0..).map(make).find(|sandbox| !ctx.name_taken(sandbox));
    sandbox.map(|s| Decision::op(Op::CreateSandbox(Box::new(s)))).unwrap_or_default()
}

fn with_sandbox(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    agent: &ResolvedAgent,
    sandbox: &Sandbox,
) -> Decision {
    memory.reserved = None;
    memory.claimed_at.get_or_insert(ctx.now);
    let discard = |memory: &mut Memory| discard(ctx, session, memory, sandbox);
    let Some(pod) = ctx.store.pod_of(sandbox) else {
        if pod_was_made(sandbox) {
            // Lost before it served: nothing is owed to it, take another sandbox.
            return discard(memory);
        }
        return pod_missing(ctx, session, agent, sandbox);
    };
    if let Some(confirmed) = memory.activation.clone().filter(|a| a.pod_uid == pod.uid)
        && let Some(ip) = pod.ip.as_deref()
        && !pod.deleting
    {
        if first_prompt(session).is_some() && !confirmed.has_prompt {
            return Decision::op(activate(ctx, session, agent, pod, ip, Prompt::Now));
        }
        return ready(ctx, session, memory, agent, sandbox, pod, ip, &confirmed);
    }
    if let Some(refused) = memory.refused.as_ref().filter(|r| r.pod_uid == pod.uid) {
        return match &refused.rejected {
            Some(why) => {
                let message = format!("the runner in pod {} refused the session: {why}", pod.name);
                end(ctx, session, Phase::Failed, Reason::ActivationRejected, message)
            }
            None => discard(memory),
        };
    }
    let cold = label(&sandbox.metadata, labels::LAUNCH_TYPE) == Some("cold");
    match health::of(pod, ctx.now) {
        Health::Serving(ip) => {
            memory.frozen = Some(agent.frozen.clone());
            let mut decision = match equipping::told(memory, pod) {
                Some((step, message)) => {
                    progress(ctx, session, agent, Some(sandbox), step, Reason::Activating, message)
                }
                None => Decision::default(),
            };
            match equipping::asked_again_at(ctx, memory, pod) {
                Some(at) => decision.wake = Some(at),
                None => decision.ops.push(activate(ctx, session, agent, pod, &ip, Prompt::Now)),
            }
            decision
        }
        Health::Starting(reason, message) => {
            progress(ctx, session, agent, Some(sandbox), Step::StartingPod, reason, &message)
        }
        Health::Doubtful(reason, message, until) => {
            let mut decision =
                progress(ctx, session, agent, Some(sandbox), Step::StartingPod, reason, &message);
            decision.wake = Some(until);
            decision
        }
        Health::Hopeless(reason, message) | Health::Ended(reason, message) if cold => {
            end(ctx, session, Phase::Failed, reason, message)
        }
        // Most likely what the agent asks for was too much for it, as it would be for the next member.
        Health::Hopeless(reason, message) | Health::Ended(reason, message)
            if let Some(doing) = equipping::doing(session, memory, sandbox, pod) =>
        {
            end(ctx, session, Phase::Failed, reason, format!("{message}, while {doing}"))
        }
        Health::Hopeless(..) | Health::Ended(..) | Health::Gone(..) => discard(memory),
    }
}

/// Gives a sandbox back that will not serve, so that the session takes another one.
fn discard(ctx: Context<'_>, session: &Session, memory: &mut Memory, sandbox: &Sandbox) -> Decision {
    if let Some(ask) = ask_before_giving_up(ctx, session, memory, sandbox) {
        return ask;
    }
    memory.progress = None;
    workspace::give_back(ctx, session, memory, |s| !has_uid(s, uid(&sandbox.metadata)))
}

/// The question that comes before another sandbox is taken in place of `sandbox`; nothing once it was answered. A rival leader
/// may have made the session Ready with it meanwhile, and a pod may be there that no watch has shown: the API server itself is
/// asked.
pub(super) fn ask_before_giving_up(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    sandbox: &Sandbox,
) -> Option<Decision> {
    if memory.asked_to_discard.is_answered_for(uid(&sandbox.metadata)) {
        memory.asked_to_discard = Asked::Nothing;
        return None;
    }
    let named = |object: &ObjectMeta| Named { key: Key::of(object), uid: object.uid.clone() };
    let pod =
        Named { key: Key::of(&sandbox.metadata), uid: ctx.store.pod_of(sandbox).map(|p| p.uid.clone()) };
    memory.asked_to_discard = Asked::About(uid(&sandbox.metadata).to_owned(), 2);
    Some(Decision::ops(vec![
        Op::Refresh(Refresh::Session(named(&session.metadata))),
        Op::Refresh(Refresh::Pod(pod)),
    ]))
}

/// The sandbox is there and its pod is not: either it is about to be made, or it cannot be.
fn pod_missing(ctx: Context<'_>, session: &Session, agent: &ResolvedAgent, sandbox: &Sandbox) -> Decision {
    let ready = sandbox.status.as_ref().and_then(|s| s.conditions.iter().find(|c| c.kind == "Ready"));
    match ready.map(|c| (c.reason.as_str(), c.message.as_str())) {
        Some(("InvalidConfiguration", message)) => {
            let message = format!("the SandboxTemplate cannot be made into a pod: {message}");
            end(ctx, session, Phase::Failed, Reason::PodRejected, message)
        }
        Some(("ReconcilerError", message)) => {
            let quota = message.contains("exceeded quota") || message.contains("forbidden: maximum");
            let reason = if quota { Reason::QuotaExceeded } else { Reason::PodRejected };
            progress(ctx, session, agent, Some(sandbox), Step::StartingPod, reason, message)
        }
        _ => {
            let message = "waiting for the pod to be created";
            progress(ctx, session, agent, Some(sandbox), Step::StartingPod, Reason::PodStarting, message)
        }
    }
}

/// Durable trace that the sandbox's pod existed: the sandbox came from a pool, or has reported on its pod.
pub(crate) fn pod_was_made(sandbox: &Sandbox) -> bool {
    label(&sandbox.metadata, labels::LAUNCH_TYPE) == Some("warm")
        || sandbox.status.as_ref().is_some_and(|s| s.selector.is_some())
}

/// Tells how far a start is that takes its time.
fn progress(
    ctx: Context<'_>,
    session: &Session,
    agent: &ResolvedAgent,
    sandbox: Option<&Sandbox>,
    step: Step,
    reason: Reason,
    message: &str,
) -> Decision {
    status::write(ctx, session, |status| {
        status.phase = Phase::Creating;
        status.step = Some(step);
        status.reason = Some(reason);
        status.message = message.to_owned();
        status.incarnation = incarnation::current(session);
        status.agent = Some(agent.frozen.clone());
        status.sandbox = sandbox.map(sandbox_ref);
        workspace::note(ctx, session, sandbox, status);
    })
    .map(Decision::op)
    .unwrap_or_default()
}

#[allow(clippy::too_many_arguments, reason = "everything a Ready status is made of, gathered in one place")]
fn ready(
    ctx: Context<'_>,
    session: &Session,
    memory: &Memory,
    agent: &ResolvedAgent,
    sandbox: &Sandbox,
    pod: &Pod,
    ip: &str,
    confirmed: &Confirmed,
) -> Decision {
    let seen = memory.first_seen.unwrap_or(ctx.now);
    let millis = |at: Timestamp| u64::try_from(at.duration_since(seen).as_millis()).unwrap_or(0);
    let cold = label(&sandbox.metadata, labels::LAUNCH_TYPE) == Some("cold");
    let startup = Startup {
        path: if cold { StartupPath::Cold } else { StartupPath::Warm },
        claimed_ms: millis(memory.claimed_at.unwrap_or(ctx.now)),
        activated_ms: millis(confirmed.at),
        steps: equipping::took(&confirmed.response.steps),
        ready_at: ctx.now,
    };
    let write = status::write(ctx, session, |status| {
        status.phase = Phase::Ready;
        status.step = None;
        status.reason = Some(Reason::Activated);
        status.message = String::new();
        status.incarnation = incarnation::current(session);
        // The agent may have been edited since; this is the one that the pod was given.
        status.agent = Some(memory.frozen.clone().unwrap_or_else(|| agent.frozen.clone()));
        status.sandbox = Some(sandbox_ref(sandbox));
        status.pod = Some(PodRef {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ip: ip.to_owned(),
            node: pod.node.clone().unwrap_or_default(),
        });
        status.endpoint = Some(endpoint(ip));
        status.harness_session_id = Some(confirmed.response.harness_session_id.clone());
        status.capabilities = Some(Capabilities {
            messages: confirmed.response.capabilities.messages,
            terminal: confirmed.response.capabilities.terminal,
        });
        status.startup = Some(startup);
        workspace::note(ctx, session, Some(sandbox), status);
    });
    write.map(Decision::op).unwrap_or_default()
}

fn sandbox_ref(sandbox: &Sandbox) -> SandboxRef {
    SandboxRef {
        name: sandbox.metadata.name.clone().unwrap_or_default(),
        uid: uid(&sandbox.metadata).to_owned(),
    }
}
