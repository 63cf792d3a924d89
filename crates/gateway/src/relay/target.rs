//! Where a session's messages go, from one snapshot of its status.

use std::net::SocketAddr;
use std::time::Duration;

use paddock_api::http::{ApiStatus, BASE_PATH, ErrorCode, tty_url};
use paddock_api::{Phase, Session};

use crate::error::ApiError;

/// Advice to a client that asks for a session that is coming up.
const CREATING_RETRY: Duration = Duration::from_secs(1);

/// The address of a pod, its name, and the UIDs that a token for it names. All are from the same snapshot: an
/// address of one version with the UID of another could reach a pod that serves somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the runner listens.
    pub address: SocketAddr,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// UID of the session.
    pub session_uid: String,
}

impl Target {
    /// Where messages to `session` go.
    ///
    /// # Errors
    /// It takes none now; the code says why.
    pub fn of(session: &Session) -> Result<Self, ApiError> {
        not_ready(session, &TO_SEND)?;
        terminal_only(session)?;
        Self::of_ready(session)
    }

    /// Where the terminal of `session` is.
    ///
    /// # Errors
    /// There is none now; the code says why.
    pub fn of_terminal(session: &Session) -> Result<Self, ApiError> {
        not_ready(session, &TO_ATTACH)?;
        no_terminal(session)?;
        Self::of_ready(session)
    }

    fn of_ready(session: &Session) -> Result<Self, ApiError> {
        Self::agreed(session).ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotReady,
                format!(
                    "session {} is ready, but its status does not name one pod and its address; try again",
                    name_of(session)
                ),
            )
            .retry_after(CREATING_RETRY)
        })
    }

    /// Where the runner of a session listens that has a pod, whatever it takes, and also where it shall be stopped.
    pub fn of_pod(session: &Session) -> Option<Self> {
        let is_ready = session.status.as_ref().is_some_and(|status| status.phase == Phase::Ready);
        Self::agreed(session).filter(|_| is_ready)
    }

    /// The target, if pod and endpoint are there and name the same address.
    fn agreed(session: &Session) -> Option<Self> {
        let status = session.status.as_ref()?;
        let pod = status.pod.as_ref().filter(|pod| !pod.uid.is_empty())?;
        let address: SocketAddr = status.endpoint.as_ref()?.parse().ok()?;
        let session_uid = session.metadata.uid.clone().filter(|uid| !uid.is_empty())?;
        let same = pod.ip.parse().is_ok_and(|ip: std::net::IpAddr| ip == address.ip());
        same.then(|| Self { address, pod_name: pod.name.clone(), pod_uid: pod.uid.clone(), session_uid })
    }
}

/// The error of a session whose harness is known to take no messages.
pub fn terminal_only(session: &Session) -> Result<(), ApiError> {
    if session.status.as_ref().and_then(|status| status.capabilities).is_none_or(|can| can.messages) {
        return Ok(());
    }
    let name = name_of(session);
    Err(ApiError::new(
        ErrorCode::TerminalOnly,
        format!(
            "session {name} takes no messages: its harness is a terminal program; attach to {}",
            tty_url(name)
        ),
    ))
}

fn no_terminal(session: &Session) -> Result<(), ApiError> {
    if session.status.as_ref().and_then(|status| status.capabilities).is_some_and(|can| can.terminal) {
        return Ok(());
    }
    let name = name_of(session);
    Err(ApiError::new(
        ErrorCode::NoTerminal,
        format!(
            "session {name} has no terminal; send it messages with POST {BASE_PATH}/sessions/{name}/message"
        ),
    ))
}

/// What a client may do about a session that is not ready.
struct Advice {
    creating: &'static str,
    suspended: &'static str,
}

const TO_SEND: Advice = Advice {
    creating: "try again, or send the message with ?wait=60s",
    suspended: "then send the message again",
};
const TO_ATTACH: Advice = Advice { creating: "attach again shortly", suspended: "then attach again" };

fn name_of(session: &Session) -> &str {
    session.metadata.name.as_deref().unwrap_or_default()
}

fn not_ready(session: &Session, advice: &Advice) -> Result<(), ApiError> {
    let name = name_of(session);
    let detail =
        session.status.as_ref().map(|status| status.message.as_str()).filter(|text| !text.is_empty());
    let because = detail.map(|text| format!(": {text}")).unwrap_or_default();
    match ApiStatus::of(session) {
        ApiStatus::Ready => Ok(()),
        ApiStatus::Creating => Err(ApiError::new(
            ErrorCode::Creating,
            format!("session {name} is not ready yet{because}; {}", advice.creating),
        )
        .retry_after(CREATING_RETRY)),
        ApiStatus::Suspended => Err(ApiError::new(
            ErrorCode::Suspended,
            format!(
                "session {name} is suspended{because}; resume it with POST {BASE_PATH}/sessions/{name}/resume (or \
                 spec.state: Running), {}",
                advice.suspended
            ),
        )),
        ApiStatus::Failed => Err(ApiError::new(
            ErrorCode::Failed,
            format!("session {name} could not be made{because}; {}", restart_it(name)),
        )),
        ApiStatus::Dead => Err(ApiError::new(
            ErrorCode::Dead,
            format!("session {name} has ended{because}; {}", restart_it(name)),
        )),
    }
}

/// The way back for a session that has ended.
pub fn restart_it(name: &str) -> String {
    format!(
        "restart it with POST {BASE_PATH}/sessions/{name}/restart (or a new spec.restartedAt), or make a new session"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn session(status: Value) -> Session {
        serde_json::from_value(json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
            "metadata": {"name": "s", "uid": "ses-1"}, "spec": {"agentRef": {"name": "a"}}, "status": status,
        }))
        .unwrap()
    }

    fn ready() -> Value {
        json!({"phase": "Ready", "endpoint": "10.0.0.1:7070",
            "pod": {"name": "p", "uid": "pod-1", "ip": "10.0.0.1"}, "capabilities": {"messages": true}})
    }

    fn code(status: Value) -> ErrorCode {
        Target::of(&session(status)).unwrap_err().code
    }

    #[test]
    fn a_ready_session_has_a_target() {
        let target = Target {
            address: "10.0.0.1:7070".parse().unwrap(),
            pod_name: "p".into(),
            pod_uid: "pod-1".into(),
            session_uid: "ses-1".into(),
        };
        assert_eq!(Target::of(&session(ready())), Ok(target));
    }

    #[test]
    fn a_session_that_is_not_ready_says_why() {
        assert_eq!(code(Value::Null), ErrorCode::Creating);
        assert_eq!(code(json!({"phase": "Creating"})), ErrorCode::Creating);
        assert_eq!(code(json!({"phase": "Failed"})), ErrorCode::Failed);
        assert_eq!(code(json!({"phase": "Dead"})), ErrorCode::Dead);
        let mut terminal = ready();
        terminal["capabilities"] = json!({"messages": false, "terminal": true});
        let error = Target::of(&session(terminal)).unwrap_err();
        assert_eq!(error.code, ErrorCode::TerminalOnly);
    }

    #[test]
    fn a_terminal_is_where_there_is_one() {
        let mut terminal = ready();
        terminal["capabilities"] = json!({"messages": false, "terminal": true});
        assert!(Target::of_terminal(&session(terminal)).is_ok());
        for (status, code) in [
            (ready(), ErrorCode::NoTerminal),
            (json!({"phase": "Creating"}), ErrorCode::Creating),
            (json!({"phase": "Dead"}), ErrorCode::Dead),
        ] {
            let error = Target::of_terminal(&session(status)).unwrap_err();
            assert_eq!(error.code, code);
            assert!(code == ErrorCode::NoTerminal || !error.message.contains("message"), "{}", error.message);
        }
    }

    #[test]
    fn pod_and_address_that_do_not_agree_are_no_target() {
        for (field, value) in
            [("endpoint", json!("10.0.0.2:7070")), ("endpoint", Value::Null), ("pod", Value::Null)]
        {
            let mut status = ready();
            status[field] = value;
            assert_eq!(code(status), ErrorCode::NotReady, "{field}");
        }
    }
}
