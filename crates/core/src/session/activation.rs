//! What a pod is told when it is given its session.

use paddock_api::Session;
use paddock_api::agent::WorkspaceMode;
use paddock_runnerapi::{ActivateRequest, AgentBinding, EnvVar, Equipment, InitialTurn, PORT, SessionRef};

use crate::catalog::ResolvedAgent;
use crate::ids::uid;
use crate::op::{AbsentValue, Activation, Op, SecretEnv};
use crate::pod::Pod;
use crate::session::{Context, incarnation};

/// Turns that may wait behind the running one.
const MAX_QUEUED_TURNS: u32 = 8;

/// `ip:port` of a pod's runner; IPv6 addresses in brackets.
pub(super) fn endpoint(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{PORT}") } else { format!("{ip}:{PORT}") }
}

/// Whether an activation brings the session's first turn. That waits until the assignment is written: a pod
/// that is only promised may yet be taken back, and another one would then be given the turn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// It brings it.
    Now,
    /// It does not.
    Later,
}

/// The session's own first turn; nothing for a session that has been Ready before, in whatever pod: there it has run.
pub(super) fn first_prompt(session: &Session) -> Option<&str> {
    session.spec.prompt.as_deref().filter(|_| !was_ready(session))
}

/// Whether the session has been Ready before, in whatever pod.
pub(super) fn was_ready(session: &Session) -> bool {
    session.status.as_ref().is_some_and(|status| status.harness_session_id.is_some())
}

/// Whether the pod must be given the conversation: the session had others, nothing of them is on a volume, and gateways keep what
/// was said.
fn continues(ctx: Context<'_>, session: &Session, agent: &ResolvedAgent) -> bool {
    was_ready(session)
        && agent.spec.workspace.mode == WorkspaceMode::Ephemeral
        && ctx.keeps_transcript(session)
}

/// The operation that gives `pod` its session.
pub(super) fn activate(
    ctx: Context<'_>,
    session: &Session,
    agent: &ResolvedAgent,
    pod: &Pod,
    ip: &str,
    prompt: Prompt,
) -> Op {
    let session_uid = uid(&session.metadata).to_owned();
    let name = session.metadata.name.clone().unwrap_or_default();
    let turn_timeout = agent.spec.lifecycle.turn_timeout().as_std();
    let request = ActivateRequest {
        session: SessionRef {
            namespace: session.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            uid: session_uid.clone(),
        },
        incarnation: incarnation::current(session),
        agent: AgentBinding {
            model: agent.spec.model.clone(),
            prompt: agent.spec.prompt.clone(),
            env: agent
                .spec
                .env
                .iter()
                .filter(|e| e.secret().is_none())
                .map(|e| EnvVar { name: e.name.clone(), value: e.value.clone() })
                .collect(),
            turn_timeout_ms: u64::try_from(turn_timeout.as_millis()).unwrap_or(u64::MAX),
            // The runner's own words for it are found where what it refers to is read.
            equipment: Equipment::default(),
            max_queued_turns: MAX_QUEUED_TURNS,
        },
        title: session.spec.title.clone().unwrap_or_else(|| format!("Session {name}")),
        continues: continues(ctx, session, agent),
        initial_turn: first_prompt(session)
            .filter(|_| prompt == Prompt::Now)
            .map(|text| InitialTurn { id: format!("initial-{session_uid}"), text: text.to_owned() }),
    };
    let secret_env = agent.spec.env.iter().filter_map(|e| {
        let at = e.secret()?;
        Some(SecretEnv { name: e.name.clone(), secret: at.name.clone(), key: at.key.clone() })
    });
    Op::Activate(Box::new(Activation {
        pod_uid: pod.uid.clone(),
        endpoint: endpoint(ip),
        request,
        equipment: Some(agent.spec.equipment()).filter(|all| !all.is_empty()).map(Box::new),
        secret_env: secret_env.collect(),
        absent: if was_ready(session) { AbsentValue::LeftOut } else { AbsentValue::Awaited },
    }))
}
