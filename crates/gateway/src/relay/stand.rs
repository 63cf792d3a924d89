//! How a session stands to a message, from one snapshot of it. Pure: what follows is for `super::hold` to do.

use paddock_api::http::ApiStatus;
use paddock_api::session::{DesiredState, Reason};
use paddock_api::{Phase, Session};

use super::target::{self, Target};
use crate::error::ApiError;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It takes messages there.
    Takes(Target),
    /// Its pod takes no more of them, and the session is on its way to be suspended or to another pod.
    Leaving,
    /// It rests, and can go on.
    Suspended,
    /// A pod is coming up for it.
    Creating,
    /// Waiting does not help.
    Never(ApiError),
}

impl Stand {
    /// How `session` stands; `given_up` is a place that is known to take no more messages.
    pub fn of(session: &Session, given_up: Option<&Target>) -> Self {
        match ApiStatus::of(session) {
            ApiStatus::Creating => Self::Creating,
            ApiStatus::Suspended => match target::terminal_only(session) {
                Ok(()) => Self::Suspended,
                Err(error) => Self::Never(error),
            },
            ApiStatus::Ready | ApiStatus::Failed | ApiStatus::Dead => match Target::of(session) {
                Err(error) => Self::Never(error),
                Ok(_) if is_being_suspended(session) => Self::Leaving,
                Ok(target) if Some(&target) == given_up => Self::Leaving,
                Ok(target) => Self::Takes(target),
            },
        }
    }

    /// Whether both are of the same kind.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Whether a Ready session shall be suspended, and the controller has not said that it cannot be.
pub fn is_being_suspended(session: &Session) -> bool {
    session.spec.state == DesiredState::Suspended && !was_refused(session)
}

/// Whether the controller has said that a Ready session cannot be suspended. What a session is made from does not
/// change, so the answer holds however old it is.
pub fn was_refused(session: &Session) -> bool {
    session.status.as_ref().is_some_and(|status| status.reason == Some(Reason::WorkspaceNotPersistent))
}

/// Whether a session that is not Ready has been in use before, so that its clients are in the middle of something.
pub fn is_coming_back(session: &Session) -> bool {
    session.status.as_ref().is_some_and(|status| status.phase != Phase::Creating || status.incarnation > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_api::http::ErrorCode;
    use serde_json::{Value, json};

    fn session(spec: Value, status: Value) -> Session {
        let mut whole = json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
            "metadata": {"name": "s", "uid": "ses-1"}, "spec": {"agentRef": {"name": "a"}}, "status": status,
        });
        whole["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn ready() -> Value {
        json!({"phase": "Ready", "endpoint": "10.0.0.1:7070", "incarnation": 1,
            "pod": {"name": "p", "uid": "pod-1", "ip": "10.0.0.1"}, "capabilities": {"messages": true}})
    }

    fn takes(stand: &Stand) -> bool {
        matches!(stand, Stand::Takes(_))
    }

    #[test]
    fn a_session_that_shall_be_suspended_takes_no_more_messages_unless_it_cannot_be() {
        assert!(takes(&Stand::of(&session(json!({}), ready()), None)));
        let told = json!({"state": "Suspended"});
        assert_eq!(Stand::of(&session(told.clone(), ready()), None), Stand::Leaving);
        let mut refused = ready();
        refused["reason"] = json!("WorkspaceNotPersistent");
        assert!(takes(&Stand::of(&session(told.clone(), refused), None)));
        assert_eq!(Stand::of(&session(told, json!({"phase": "Suspended"})), None), Stand::Suspended);
        assert_eq!(Stand::of(&session(json!({}), json!({"phase": "Suspended"})), None), Stand::Creating);
    }

    #[test]
    fn a_pod_that_has_refused_is_left_and_the_next_one_is_not() {
        let session_now = session(json!({}), ready());
        let target = Target::of(&session_now).unwrap();
        assert_eq!(Stand::of(&session_now, Some(&target)), Stand::Leaving);
        let mut next = ready();
        next["pod"]["uid"] = json!("pod-2");
        assert!(takes(&Stand::of(&session(json!({}), next), Some(&target))));
    }

    #[test]
    fn a_terminal_is_not_woken_by_a_message() {
        let status = json!({"phase": "Suspended", "capabilities": {"messages": false, "terminal": true}});
        let stand = Stand::of(&session(json!({"state": "Suspended"}), status), None);
        assert!(matches!(stand, Stand::Never(error) if error.code == ErrorCode::TerminalOnly));
    }

    #[test]
    fn only_a_session_s_first_pod_is_not_waited_for_unasked() {
        assert!(!is_coming_back(&session(json!({}), Value::Null)));
        assert!(!is_coming_back(&session(json!({}), json!({"phase": "Creating", "incarnation": 1}))));
        for status in [json!({"phase": "Creating", "incarnation": 2}), json!({"phase": "Suspended"}), ready()]
        {
            assert!(is_coming_back(&session(json!({}), status.clone())), "{status}");
        }
    }
}
