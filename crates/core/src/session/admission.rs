//! An agent's `maxSessions`, never exceeded.
//!
//! Who may live is written into the Agent's status, under its precondition, before a session gets a sandbox. So the limit
//! holds in a burst and with two leaders, for the price of a write that agents without a limit do not pay.

use paddock_api::session::{Phase, Reason};
use paddock_api::{Agent, Session};

use crate::ids::{Key, is_deleting, uid};
use crate::session::{Context, Decision, ending};
use crate::store::Store;

/// Whether the session may have a sandbox; otherwise what becomes of it.
pub(super) fn admitted(ctx: Context<'_>, session: &Session) -> Result<(), Decision> {
    let Some(agent) = agent_of(ctx.store, session) else { return Ok(()) };
    let Some(limit) = agent.spec.max_sessions else { return Ok(()) };
    let status = agent.status.clone().unwrap_or_default();
    if status.admitted_sessions.iter().any(|admitted| admitted == uid(&session.metadata)) {
        return Ok(());
    }
    let places = usize::try_from(limit).unwrap_or(usize::MAX);
    let up_to_date = status.observed_generation == agent.metadata.generation.unwrap_or_default();
    let living = living(ctx.store, agent);
    let taken =
        living.iter().filter(|s| status.admitted_sessions.iter().any(|a| a == uid(&s.metadata))).count();
    if !up_to_date || taken < places {
        // The agent's turn to decide; the session is looked at again when it has.
        return Err(Decision::default());
    }
    let name = agent.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "agent {name} allows {limit} sessions at once (maxSessions), and has them; stop one, then restart this one, or raise the limit"
    );
    Err(ending::end(ctx, session, Phase::Failed, Reason::MaxSessionsReached, message))
}

/// UIDs of the sessions that may live, oldest first: those that were admitted or have come further already, then others
/// while there are places. Empty where there is no limit.
pub(crate) fn admit(store: &Store, agent: &Agent) -> Vec<String> {
    let Some(limit) = agent.spec.max_sessions else { return Vec::new() };
    let places = usize::try_from(limit).unwrap_or(usize::MAX);
    let before = agent.status.as_ref().map(|status| status.admitted_sessions.as_slice()).unwrap_or_default();
    let (inside, waiting): (Vec<&Session>, Vec<&Session>) =
        living(store, agent).into_iter().partition(|session| {
            // A limit that is set later does not end sessions.
            let has_pod = session.status.as_ref().is_some_and(|status| status.sandbox.is_some());
            let rests = session.status.as_ref().is_some_and(|status| status.phase == Phase::Suspended);
            has_pod || rests || before.iter().any(|admitted| admitted == uid(&session.metadata))
        });
    let free = places.saturating_sub(inside.len());
    inside.into_iter().chain(waiting.into_iter().take(free)).map(|s| uid(&s.metadata).to_owned()).collect()
}

/// The Agent that `session` names.
pub(crate) fn agent_of<'a>(store: &'a Store, session: &Session) -> Option<&'a Agent> {
    let name = &session.spec.agent_ref.as_ref()?.name;
    store.agents.get(&Key::new(session.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// The agent's sessions that live or want to, oldest first.
fn living<'a>(store: &'a Store, agent: &Agent) -> Vec<&'a Session> {
    let name = agent.metadata.name.as_deref();
    let mut living: Vec<&Session> = store
        .sessions
        .in_namespace(agent.metadata.namespace.as_deref().unwrap_or_default())
        .filter(|session| session.spec.agent_ref.as_ref().map(|agent| agent.name.as_str()) == name)
        .filter(|session| !is_deleting(&session.metadata))
        .filter(|session| {
            let ended = session.status.as_ref().is_some_and(|status| status.phase.is_final());
            !ended
        })
        .collect();
    living.sort_by_key(|s| (s.metadata.creation_timestamp.as_ref().map(|t| t.0), s.metadata.uid.clone()));
    living
}
