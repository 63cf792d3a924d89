//! Saves what no request waits for: transcripts of pods that are about to be given back, and turns whose clients have left.
//!
//! The controller asks for the first in a session's status; the answer is an annotation. A session is saved here too when its
//! status tells of turns that it did not tell of before, which is how a first prompt gets into the store that nobody waits for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use paddock_api::{Phase, Session, labels};
use paddock_kubeio::write::{Precondition, WriteError};
use paddock_runnerapi::{Position, Saved};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::keeper::{Keeper, SaveError};
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::relay::target::Target;

/// How many sessions are saved at once.
const AT_ONCE: usize = 8;
/// How long changes are gathered before sessions are looked at.
const GATHER: Duration = Duration::from_millis(20);
/// How often sessions are looked at although nothing has changed: for those whose saving failed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause before a session is tried again whose saving failed.
const RETRY: Duration = Duration::from_secs(2);
/// So many sessions that are gone are remembered.
const SPARE: usize = 64;
/// How often an annotation is tried while others change the session.
const ATTEMPTS: usize = 5;

/// What is to be saved of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    /// All up to there, and its session is told so.
    Asked(Position),
    /// What is new since this was told.
    News(u64),
}

/// What this replica has done about a session.
#[derive(Debug, Default)]
struct Done {
    /// The turns that its status told of when it was last saved.
    turns: u64,
    in_progress: bool,
    not_before: Option<Instant>,
}

/// Looks after all sessions, for ever.
pub async fn run(gateway: Arc<Gateway>, keeper: Arc<Keeper>) {
    let mut done: HashMap<String, Done> = HashMap::new();
    let mut running: JoinSet<(String, Task, Result<(), SaveError>)> = JoinSet::new();
    let mut changes = gateway.index.changes();
    loop {
        changes.mark_unchanged();
        let sessions = gateway.index.sessions();
        let now = Instant::now();
        let mut retry_at = now + LOOK_EVERY;
        for session in &sessions {
            let Some((uid, task)) = task_of(session, &done) else { continue };
            let state = done.entry(uid.clone()).or_default();
            if state.in_progress || running.len() >= AT_ONCE {
                continue;
            }
            if let Some(at) = state.not_before.filter(|at| *at > now) {
                retry_at = retry_at.min(at);
                continue;
            }
            state.in_progress = true;
            let (gateway, keeper, session) = (gateway.clone(), keeper.clone(), session.clone());
            running.spawn(async move {
                let result = perform(&gateway, &keeper, &session, &task).await;
                (uid, task, result)
            });
        }
        forget_the_gone(&mut done, &sessions);
        tokio::select! {
            // Its sender lives as long as the gateway.
            _ = changes.changed() => tokio::time::sleep(GATHER).await,
            Some(ended) = running.join_next() => note(ended, &mut done),
            () = tokio::time::sleep_until(retry_at) => {}
        }
    }
}

/// Now and then: there may be thousands of sessions, and one of them changes all the time.
fn forget_the_gone(done: &mut HashMap<String, Done>, sessions: &[Arc<Session>]) {
    if done.len() > 2 * sessions.len() + SPARE {
        let there: HashSet<&str> =
            sessions.iter().filter_map(|session| session.metadata.uid.as_deref()).collect();
        done.retain(|uid, state| state.in_progress || there.contains(uid.as_str()));
    }
}

fn note(
    ended: Result<(String, Task, Result<(), SaveError>), tokio::task::JoinError>,
    done: &mut HashMap<String, Done>,
) {
    let (uid, task, result) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            // Which one is not known: all may be tried again.
            tracing::error!(%error, "saving a transcript crashed; please report this");
            done.values_mut().for_each(|state| state.in_progress = false);
            return;
        }
    };
    let Some(state) = done.get_mut(&uid) else { return };
    state.in_progress = false;
    state.not_before = None;
    match (result, task) {
        (Ok(()), Task::News(turns)) => state.turns = turns,
        // The watch tells of the annotation a moment later; and where nothing could be done, a moment later is soon enough.
        (Ok(()), Task::Asked(_)) => state.not_before = Some(Instant::now() + RETRY),
        (Err(error), task) => {
            tracing::warn!(session_uid = uid, ?task, reason = error.reason(), %error, "a transcript is not saved yet");
            state.not_before = Some(Instant::now() + RETRY);
        }
    }
}

/// What is to be saved of a session, if anything.
fn task_of(session: &Session, done: &HashMap<String, Done>) -> Option<(String, Task)> {
    let status = session.status.as_ref().filter(|status| status.phase == Phase::Ready)?;
    let uid = session.metadata.uid.clone()?;
    let pod = status.pod.as_ref()?;
    if let Some(wanted) = status.transcript_wanted.as_ref().and_then(|wanted| wanted.parse().ok()) {
        let saved = annotated(session).filter(|saved| saved.pod_uid == pod.uid);
        let is_told = saved.is_some_and(|saved| saved.through >= wanted);
        return (!is_told).then_some((uid, Task::Asked(wanted)));
    }
    let turns = status.turns.map_or(0, |turns| turns.total);
    let known = done.get(&uid).map_or(0, |done| done.turns);
    (turns > known).then_some((uid, Task::News(turns)))
}

fn annotated(session: &Session) -> Option<Saved> {
    session.metadata.annotations.as_ref()?.get(labels::TRANSCRIPT_SAVED)?.parse().ok()
}

async fn perform(
    gateway: &Gateway,
    keeper: &Keeper,
    session: &Session,
    task: &Task,
) -> Result<(), SaveError> {
    let request_id = RequestId::fresh();
    // Whatever it is that is not there any more, a change of the session will say so.
    let Some(target) = Target::of_pod(session) else { return Ok(()) };
    match task {
        Task::News(_) => {
            let end = keeper.end(gateway, &target, &request_id).await?;
            keeper.save(gateway, session, &target, end, &request_id).await.map(drop)
        }
        Task::Asked(wanted) => {
            let through = keeper.save(gateway, session, &target, *wanted, &request_id).await?;
            let saved = Saved { pod_uid: target.pod_uid.clone(), through };
            if let Err(error) = tell(gateway, session, &saved).await {
                // It is tried again with the next look.
                tracing::warn!(session = session.metadata.name, %error, "cannot tell that a transcript is saved");
            }
            Ok(())
        }
    }
}

/// Writes to the session that its transcript is saved, unless it is told already or another pod's turn.
async fn tell(gateway: &Gateway, session: &Session, saved: &Saved) -> Result<(), WriteError> {
    let name = session.metadata.name.clone().unwrap_or_default();
    let mut session = session.clone();
    for _ in 0..ATTEMPTS {
        let Some(precondition) = Precondition::of(&session) else { return Ok(()) };
        let patch = json!({"metadata": {"annotations": {labels::TRANSCRIPT_SAVED: saved.to_string()}}});
        match gateway.cluster.patch_session(&name, precondition, patch).await {
            Ok(_) => {
                tracing::info!(session = name, %saved, "a transcript is saved, and its pod may go");
                return Ok(());
            }
            Err(WriteError::Conflict) => {}
            Err(WriteError::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        }
        let Some(now) = gateway.cluster.read_session(&name).await? else { return Ok(()) };
        let is_wanted = now.metadata.uid == session.metadata.uid
            && now.status.as_ref().is_some_and(|status| status.transcript_wanted.is_some());
        if !is_wanted || annotated(&now).is_some_and(|told| told == *saved) {
            return Ok(());
        }
        session = now;
    }
    Err(WriteError::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn session(status: Value, annotation: Option<&str>) -> Session {
        let annotations = annotation.map(|value| json!({labels::TRANSCRIPT_SAVED: value}));
        serde_json::from_value(json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
            "metadata": {"name": "s", "uid": "ses-1", "annotations": annotations},
            "spec": {"agentRef": {"name": "a"}}, "status": status,
        }))
        .unwrap()
    }

    fn ready(more: Value) -> Value {
        let mut status = json!({"phase": "Ready", "pod": {"name": "p", "uid": "pod-1", "ip": "10.0.0.1"}});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    }

    fn task(status: Value, annotation: Option<&str>) -> Option<Task> {
        task_of(&session(status, annotation), &HashMap::new()).map(|(_, task)| task)
    }

    #[test]
    fn what_is_asked_for_is_saved_until_it_is_told() {
        let asked = || ready(json!({"transcriptWanted": "1.500"}));
        let wanted = Some(Task::Asked(Position { journal: 1, seq: 500 }));
        assert_eq!(task(asked(), None), wanted);
        assert_eq!(task(asked(), Some("pod-1/1.499")), wanted);
        assert_eq!(task(asked(), Some("pod-0/9.999")), wanted, "that was another pod");
        assert_eq!(task(asked(), Some("nonsense")), wanted);
        assert_eq!(task(asked(), Some("pod-1/1.500")), None);
        assert_eq!(
            task(json!({"phase": "Dead", "transcriptWanted": "1.500"}), None),
            None,
            "there is no pod to ask"
        );
    }

    #[test]
    fn sessions_that_are_gone_are_forgotten_and_others_are_not() {
        let mut done: HashMap<String, Done> =
            (0..100).map(|number| (format!("gone-{number}"), Done::default())).collect();
        done.insert("ses-1".to_owned(), Done { turns: 7, ..Done::default() });
        done.insert("saving".to_owned(), Done { in_progress: true, ..Done::default() });
        forget_the_gone(&mut done, &[Arc::new(session(ready(json!({})), None))]);
        assert_eq!((done.len(), done["ses-1"].turns), (2, 7));
    }

    #[test]
    fn what_was_done_is_not_done_again_at_once() {
        let asked = Task::Asked(Position { journal: 1, seq: 500 });
        for result in [Ok(()), Err(SaveError::Restless)] {
            let state = Done { in_progress: true, ..Done::default() };
            let mut done = HashMap::from([("ses-1".to_owned(), state)]);
            note(Ok(("ses-1".to_owned(), asked.clone(), result)), &mut done);
            let state = &done["ses-1"];
            assert!(!state.in_progress && state.not_before.is_some_and(|at| at > Instant::now()));
        }
    }

    #[test]
    fn turns_that_are_new_are_saved_though_nobody_asks() {
        let status = ready(json!({"turns": {"total": 2, "running": 0, "queued": 0}}));
        assert_eq!(task(status.clone(), None), Some(Task::News(2)));
        assert_eq!(task(ready(json!({})), None), None);
        let done = |turns| HashMap::from([("ses-1".to_owned(), Done { turns, ..Done::default() })]);
        assert!(task_of(&session(status.clone(), None), &done(2)).is_none());
        assert!(task_of(&session(status, None), &done(1)).is_some());
    }
}
