//! What a pod is told when it is given its session.

use paddock_api::Session;
use paddock_runnerapi::{ActivateRequest, AgentBinding, EnvVar, InitialTurn, PORT, SessionRef};

use crate::catalog::ResolvedAgent;
use crate::ids::uid;
use crate::op::{Activation, Op};
use crate::pod::Pod;
use crate::session::incarnation;

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

/// The operation that gives `pod` its session.
pub(super) fn activate(session: &Session, agent: &ResolvedAgent, pod: &Pod, ip: &str, prompt: Prompt) -> Op {
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
                .map(|e| EnvVar { name: e.name.clone(), value: e.value.clone() })
                .collect(),
            turn_timeout_ms: u64::try_from(turn_timeout.as_millis()).unwrap_or(u64::MAX),
            max_queued_turns: MAX_QUEUED_TURNS,
        },
        title: session.spec.title.clone().unwrap_or_else(|| format!("Session {name}")),
        initial_turn: session
            .spec
            .prompt
            .clone()
            .filter(|_| prompt == Prompt::Now)
            .map(|text| InitialTurn { id: format!("initial-{session_uid}"), text }),
    };
    Op::Activate(Box::new(Activation { pod_uid: pod.uid.clone(), endpoint: endpoint(ip), request }))
}
