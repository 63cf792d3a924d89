//! Which route a path and method mean.
//!
//! Names in paths are object names, checked here once: what is no object name can name no object, so it is an
//! unknown path. Templates, never paths, get into metrics and logs.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use paddock_api::http::BASE_PATH;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use strum::{EnumDiscriminants, EnumIter, IntoStaticStr};

const API_PREFIX: &str = "/api";
const CLUSTER_HEALTH: &str = "/api/v1/health/k8s";
/// Longest name of a Session or an Agent: it becomes a label value.
const MAX_NAME: usize = 63;

/// The name of an object: a DNS-1123 subdomain of at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

impl ObjectName {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_NAME && text.split('.').all(is_label)).then(|| Self(text.to_owned()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for ObjectName {
    fn schema_name() -> Cow<'static, str> {
        "ObjectName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const LABEL: &str = "[a-z0-9]([a-z0-9-]*[a-z0-9])?";
        json_schema!({
            "description": "The name of an object: a DNS-1123 subdomain.",
            "type": "string", "maxLength": MAX_NAME, "pattern": format!(r"^{LABEL}(\.{LABEL})*$"),
        })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is a DNS-1123 label, its length apart.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, EnumDiscriminants)]
#[strum_discriminants(
    name(RouteKind),
    doc = "A route whatever it is asked about; its word is its name in the OpenAPI document.",
    derive(EnumIter, Hash, IntoStaticStr),
    strum(serialize_all = "camelCase"),
    allow(missing_docs)
)]
pub enum Route {
    /// `GET /sessions`
    ListSessions,
    /// `GET /sessions/{id}`
    GetSession(ObjectName),
    /// `DELETE /sessions/{id}`
    DeleteSession(ObjectName),
    /// `POST /sessions/{id}/stop`
    StopSession(ObjectName),
    /// `POST /sessions/{id}/suspend`
    SuspendSession(ObjectName),
    /// `POST /sessions/{id}/resume`
    ResumeSession(ObjectName),
    /// `POST /sessions/{id}/restart`
    RestartSession(ObjectName),
    /// `POST /sessions/{id}/abort`
    AbortSession(ObjectName),
    /// `POST /sessions/{id}/message`
    SendMessage(ObjectName),
    /// `POST /sessions/{id}/message_stream`
    StreamMessage(ObjectName),
    /// `GET /sessions/{id}/events`
    FollowEvents(ObjectName),
    /// `GET /sessions/{id}/stream`
    FollowHarness(ObjectName),
    /// `GET /sessions/{id}/tty`
    AttachTerminal(ObjectName),
    /// `GET /sessions/{id}/messages`
    ListMessages(ObjectName),
    /// `GET /sessions/{id}/turns/{turn}`, the turn's id as it stands in the path
    GetTurn(ObjectName, String),
    /// `ANY /sessions/{id}/opencode/{path}`, the path with its slash
    HarnessApi(ObjectName, String),
    /// `GET /sessions/{id}/log`
    SessionLog(ObjectName),
    /// `GET /sessions/{id}/sandbox_logs`
    SandboxLogs(ObjectName),
    /// `GET /sessions/{id}/diagnose`
    Diagnose(ObjectName),
    /// `POST /agents/{id}/session`
    CreateSession(ObjectName),
    /// `GET /agents`
    ListAgents,
    /// `POST /agents`
    CreateAgent,
    /// `GET /agents/{id}`
    GetAgent(ObjectName),
    /// `PATCH /agents/{id}`
    UpdateAgent(ObjectName),
    /// `DELETE /agents/{id}`
    DeleteAgent(ObjectName),
    /// `GET /api/v1/health/k8s`
    ClusterHealth,
    /// `GET /openapi.json`
    OpenApi,
}

/// Whether a route changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It only shows something.
    Read,
    /// It makes, changes or ends something, or lets a client steer an agent.
    Change,
}

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Nothing of what agents and sessions there are.
    Gateway,
    /// All agents: a route that lists them leaves out those that `Ask::access` does not see.
    Agents,
    /// This agent.
    Agent(&'a ObjectName),
    /// All sessions: as with agents.
    Sessions,
    /// This session.
    Session(&'a ObjectName),
    /// A session of this agent that is to be made.
    NewSession(&'a ObjectName),
}

impl Route {
    /// What it does, and to what. `routes::access` judges every request by this before the route sees it.
    pub fn demand(&self) -> (Use, Subject<'_>) {
        match self {
            Self::ClusterHealth | Self::OpenApi => (Use::Read, Subject::Gateway),
            Self::ListAgents => (Use::Read, Subject::Agents),
            Self::CreateAgent => (Use::Change, Subject::Agents),
            Self::GetAgent(id) => (Use::Read, Subject::Agent(id)),
            Self::UpdateAgent(id) | Self::DeleteAgent(id) => (Use::Change, Subject::Agent(id)),
            Self::CreateSession(agent) => (Use::Change, Subject::NewSession(agent)),
            Self::ListSessions => (Use::Read, Subject::Sessions),
            Self::GetSession(id)
            | Self::ListMessages(id)
            | Self::GetTurn(id, _)
            | Self::SessionLog(id)
            | Self::SandboxLogs(id)
            | Self::Diagnose(id)
            | Self::FollowEvents(id)
            | Self::FollowHarness(id) => (Use::Read, Subject::Session(id)),
            Self::DeleteSession(id)
            | Self::StopSession(id)
            | Self::SuspendSession(id)
            | Self::ResumeSession(id)
            | Self::RestartSession(id)
            | Self::AbortSession(id)
            | Self::SendMessage(id)
            | Self::StreamMessage(id)
            | Self::AttachTerminal(id)
            // Reading there may show any file of the pod.
            | Self::HarnessApi(id, _) => (Use::Change, Subject::Session(id)),
        }
    }
}

/// What a path and method mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A route.
    Route(Route),
    /// The path takes other methods.
    WrongMethod {
        /// Those.
        allow: &'static str,
        /// The path's template.
        template: &'static str,
    },
    /// No such path.
    Unknown,
}

impl Resolved {
    /// The path's template, for metrics and logs.
    pub fn template(&self) -> &'static str {
        match self {
            Self::Route(Route::ListSessions) => SESSIONS,
            Self::Route(Route::GetSession(_) | Route::DeleteSession(_)) => SESSION,
            Self::Route(Route::StopSession(_)) => STOP,
            Self::Route(Route::SuspendSession(_)) => SUSPEND,
            Self::Route(Route::ResumeSession(_)) => RESUME,
            Self::Route(Route::RestartSession(_)) => RESTART,
            Self::Route(Route::AbortSession(_)) => ABORT,
            Self::Route(Route::SendMessage(_)) => MESSAGE,
            Self::Route(Route::StreamMessage(_)) => MESSAGE_STREAM,
            Self::Route(Route::FollowEvents(_)) => EVENTS,
            Self::Route(Route::FollowHarness(_)) => STREAM,
            Self::Route(Route::AttachTerminal(_)) => TTY,
            Self::Route(Route::ListMessages(_)) => MESSAGES,
            Self::Route(Route::GetTurn(..)) => TURN,
            Self::Route(Route::HarnessApi(..)) => HARNESS_API,
            Self::Route(Route::SessionLog(_)) => LOG,
            Self::Route(Route::SandboxLogs(_)) => SANDBOX_LOGS,
            Self::Route(Route::Diagnose(_)) => DIAGNOSE,
            Self::Route(Route::CreateSession(_)) => AGENT_SESSION,
            Self::Route(Route::ListAgents | Route::CreateAgent) => AGENTS,
            Self::Route(Route::GetAgent(_) | Route::UpdateAgent(_) | Route::DeleteAgent(_)) => AGENT,
            Self::Route(Route::ClusterHealth) => HEALTH,
            Self::Route(Route::OpenApi) => OPENAPI,
            Self::WrongMethod { template, .. } => template,
            Self::Unknown => "unknown",
        }
    }
}

// Templates of paths, below the base path unless something else is said.
/// All sessions.
pub const SESSIONS: &str = "/sessions";
/// One session.
pub const SESSION: &str = "/sessions/{id}";
/// Its end.
pub const STOP: &str = "/sessions/{id}/stop";
/// Its rest.
pub const SUSPEND: &str = "/sessions/{id}/suspend";
/// Its going on.
pub const RESUME: &str = "/sessions/{id}/resume";
/// Its next pod.
pub const RESTART: &str = "/sessions/{id}/restart";
/// The end of its turn.
pub const ABORT: &str = "/sessions/{id}/abort";
/// A message to it.
pub const MESSAGE: &str = "/sessions/{id}/message";
/// A message whose turn is told.
pub const MESSAGE_STREAM: &str = "/sessions/{id}/message_stream";
/// What happens in it.
pub const EVENTS: &str = "/sessions/{id}/events";
/// The same in its harness's own events.
pub const STREAM: &str = "/sessions/{id}/stream";
/// Its terminal.
pub const TTY: &str = "/sessions/{id}/tty";
/// Its conversation.
pub const MESSAGES: &str = "/sessions/{id}/messages";
/// One of its turns.
pub const TURN: &str = "/sessions/{id}/turns/{turn}";
/// Its harness's own API.
pub const HARNESS_API: &str = "/sessions/{id}/opencode/{path}";
/// Its time line.
pub const LOG: &str = "/sessions/{id}/log";
/// Its container's output.
pub const SANDBOX_LOGS: &str = "/sessions/{id}/sandbox_logs";
/// All that is known about it.
pub const DIAGNOSE: &str = "/sessions/{id}/diagnose";
/// All agents.
pub const AGENTS: &str = "/agents";
/// One agent.
pub const AGENT: &str = "/agents/{id}";
/// Its sessions.
pub const AGENT_SESSION: &str = "/agents/{id}/session";
/// Whether the API server answers.
pub const HEALTH: &str = "/health/k8s";
/// The description of all this. It is the only path outside of the API.
pub const OPENAPI: &str = "/openapi.json";

/// The whole path of a template.
pub fn path_of(template: &str) -> String {
    match template {
        OPENAPI => OPENAPI.to_owned(),
        HEALTH => CLUSTER_HEALTH.to_owned(),
        below_base => format!("{BASE_PATH}{below_base}"),
    }
}

/// Whether a path needs the key, known or not.
pub fn is_api(path: &str) -> bool {
    path.strip_prefix(API_PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// See the module.
pub fn resolve(method: &Method, path: &str) -> Resolved {
    if path == CLUSTER_HEALTH {
        return choose(method, HEALTH, "GET", [(Method::GET, Route::ClusterHealth)]);
    }
    if path == OPENAPI {
        return choose(method, OPENAPI, "GET", [(Method::GET, Route::OpenApi)]);
    }
    let Some(rest) = path.strip_prefix(BASE_PATH).and_then(|rest| rest.strip_prefix('/')) else {
        return Resolved::Unknown;
    };
    if let Some((id, path)) = harness_path_in(rest) {
        return match HARNESS_METHODS.contains(method) {
            true => Resolved::Route(Route::HarnessApi(id, path)),
            false => Resolved::WrongMethod { allow: "GET, POST, PUT, PATCH, DELETE", template: HARNESS_API },
        };
    }
    if let Some((id, turn)) = turn_in(rest) {
        return choose(method, TURN, "GET", [(Method::GET, Route::GetTurn(id, turn.to_owned()))]);
    }
    let mut segments = rest.split('/');
    let parts = [segments.next(), segments.next(), segments.next(), segments.next()];
    let [Some(kind), name, action, None] = parts else { return Resolved::Unknown };
    let name = match name.map(ObjectName::parse) {
        None => None,
        Some(Some(name)) => Some(name),
        Some(None) => return Resolved::Unknown,
    };
    match (kind, name, action) {
        ("sessions", None, None) => choose(method, SESSIONS, "GET", [(Method::GET, Route::ListSessions)]),
        ("sessions", Some(id), None) => choose(
            method,
            SESSION,
            "GET, DELETE",
            [(Method::GET, Route::GetSession(id.clone())), (Method::DELETE, Route::DeleteSession(id))],
        ),
        ("sessions", Some(id), Some("messages")) => {
            choose(method, MESSAGES, "GET", [(Method::GET, Route::ListMessages(id))])
        }
        ("sessions", Some(id), Some("tty")) => {
            choose(method, TTY, "GET", [(Method::GET, Route::AttachTerminal(id))])
        }
        ("sessions", Some(id), Some("log")) => {
            choose(method, LOG, "GET", [(Method::GET, Route::SessionLog(id))])
        }
        ("sessions", Some(id), Some("sandbox_logs")) => {
            choose(method, SANDBOX_LOGS, "GET", [(Method::GET, Route::SandboxLogs(id))])
        }
        ("sessions", Some(id), Some("diagnose")) => {
            choose(method, DIAGNOSE, "GET", [(Method::GET, Route::Diagnose(id))])
        }
        ("sessions", Some(id), Some("events")) => {
            choose(method, EVENTS, "GET", [(Method::GET, Route::FollowEvents(id))])
        }
        ("sessions", Some(id), Some("stream")) => {
            choose(method, STREAM, "GET", [(Method::GET, Route::FollowHarness(id))])
        }
        ("sessions", Some(id), Some(action)) => {
            let (template, route) = match action {
                "message" => (MESSAGE, Route::SendMessage(id)),
                "message_stream" => (MESSAGE_STREAM, Route::StreamMessage(id)),
                "abort" => (ABORT, Route::AbortSession(id)),
                "stop" => (STOP, Route::StopSession(id)),
                "suspend" => (SUSPEND, Route::SuspendSession(id)),
                "resume" => (RESUME, Route::ResumeSession(id)),
                "restart" => (RESTART, Route::RestartSession(id)),
                _ => return Resolved::Unknown,
            };
            choose(method, template, "POST", [(Method::POST, route)])
        }
        ("agents", None, None) => choose(
            method,
            AGENTS,
            "GET, POST",
            [(Method::GET, Route::ListAgents), (Method::POST, Route::CreateAgent)],
        ),
        ("agents", Some(id), None) => choose(
            method,
            AGENT,
            "GET, PATCH, DELETE",
            [
                (Method::GET, Route::GetAgent(id.clone())),
                (Method::PATCH, Route::UpdateAgent(id.clone())),
                (Method::DELETE, Route::DeleteAgent(id)),
            ],
        ),
        ("agents", Some(id), Some("session")) => {
            choose(method, AGENT_SESSION, "POST", [(Method::POST, Route::CreateSession(id))])
        }
        _ => Resolved::Unknown,
    }
}

const HARNESS_METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Session and path, with its slash, of `sessions/{id}/opencode/{path}`.
fn harness_path_in(rest: &str) -> Option<(ObjectName, String)> {
    let (id, path) = rest.strip_prefix("sessions/")?.split_once("/opencode/")?;
    ObjectName::parse(id).map(|id| (id, format!("/{path}")))
}

/// Session and turn of `sessions/{id}/turns/{turn}`.
fn turn_in(rest: &str) -> Option<(ObjectName, &str)> {
    let (id, turn) = rest.strip_prefix("sessions/")?.split_once("/turns/")?;
    let one_segment = !turn.is_empty() && !turn.contains('/');
    one_segment.then(|| ObjectName::parse(id).map(|id| (id, turn)))?
}

fn choose<const N: usize>(
    method: &Method,
    template: &'static str,
    allow: &'static str,
    routes: [(Method, Route); N],
) -> Resolved {
    routes
        .into_iter()
        .find(|(takes, _)| takes == method)
        .map_or(Resolved::WrongMethod { allow, template }, |(_, route)| Resolved::Route(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(method: Method, path: &str) -> Resolved {
        resolve(&method, &format!("{BASE_PATH}{path}"))
    }

    #[test]
    fn every_route_is_found() {
        let name = |text| ObjectName::parse(text).unwrap();
        for (method, path, route) in [
            (Method::GET, "/sessions", Route::ListSessions),
            (Method::GET, "/sessions/a.b", Route::GetSession(name("a.b"))),
            (Method::DELETE, "/sessions/a", Route::DeleteSession(name("a"))),
            (Method::POST, "/sessions/a/message", Route::SendMessage(name("a"))),
            (Method::POST, "/sessions/a/message_stream", Route::StreamMessage(name("a"))),
            (Method::GET, "/sessions/a/events", Route::FollowEvents(name("a"))),
            (Method::GET, "/sessions/a/stream", Route::FollowHarness(name("a"))),
            (Method::GET, "/sessions/a/messages", Route::ListMessages(name("a"))),
            (Method::GET, "/sessions/a/turns/x%2Fy", Route::GetTurn(name("a"), "x%2Fy".into())),
            (Method::GET, "/sessions/a/opencode/", Route::HarnessApi(name("a"), "/".into())),
            (Method::PUT, "/sessions/a/opencode/x/y/", Route::HarnessApi(name("a"), "/x/y/".into())),
            (
                Method::POST,
                "/sessions/a/opencode/a/turns/b",
                Route::HarnessApi(name("a"), "/a/turns/b".into()),
            ),
            (Method::GET, "/sessions/a/tty", Route::AttachTerminal(name("a"))),
            (Method::GET, "/sessions/a/log", Route::SessionLog(name("a"))),
            (Method::GET, "/sessions/a/sandbox_logs", Route::SandboxLogs(name("a"))),
            (Method::GET, "/sessions/a/diagnose", Route::Diagnose(name("a"))),
            (Method::POST, "/sessions/a/stop", Route::StopSession(name("a"))),
            (Method::POST, "/sessions/a/abort", Route::AbortSession(name("a"))),
            (Method::POST, "/sessions/a/suspend", Route::SuspendSession(name("a"))),
            (Method::POST, "/sessions/a/resume", Route::ResumeSession(name("a"))),
            (Method::POST, "/sessions/a/restart", Route::RestartSession(name("a"))),
            (Method::POST, "/agents/x/session", Route::CreateSession(name("x"))),
            (Method::GET, "/agents", Route::ListAgents),
            (Method::POST, "/agents", Route::CreateAgent),
            (Method::GET, "/agents/x", Route::GetAgent(name("x"))),
            (Method::PATCH, "/agents/x", Route::UpdateAgent(name("x"))),
            (Method::DELETE, "/agents/x", Route::DeleteAgent(name("x"))),
        ] {
            assert_eq!(at(method, path), Resolved::Route(route));
        }
        assert_eq!(resolve(&Method::GET, CLUSTER_HEALTH), Resolved::Route(Route::ClusterHealth));
        assert_eq!(resolve(&Method::GET, OPENAPI), Resolved::Route(Route::OpenApi));
    }

    #[test]
    fn other_methods_are_told_apart_from_other_paths() {
        assert!(matches!(at(Method::PUT, "/sessions/a"), Resolved::WrongMethod { allow: "GET, DELETE", .. }));
        assert!(matches!(
            at(Method::GET, "/sessions/a/restart"),
            Resolved::WrongMethod { allow: "POST", .. }
        ));
        assert!(matches!(
            at(Method::POST, "/sessions/a/turns/b"),
            Resolved::WrongMethod { allow: "GET", .. }
        ));
        assert!(matches!(at(Method::HEAD, "/agents"), Resolved::WrongMethod { allow: "GET, POST", .. }));
        for path in [
            "",
            "/",
            "/sessions/",
            "/sessions/a/",
            "/sessions/a/message/",
            "/sessions/a/b",
            "/sessions/a/turns",
            "/sessions/a/turns/",
            "/sessions/a/turns/b/c",
            "/sessions/A/turns/b",
            "/other",
            "x/sessions",
        ] {
            assert_eq!(at(Method::GET, path), Resolved::Unknown, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_object_name_is_no_session() {
        let long = "a".repeat(64);
        for name in ["A", "-a", "a-", "a..b", ".a", "a_b", "%2e%2e", "a%20b", long.as_str()] {
            assert_eq!(at(Method::GET, &format!("/sessions/{name}")), Resolved::Unknown, "{name}");
        }
        assert!(ObjectName::parse(&"a".repeat(63)).is_some());
        assert!(ObjectName::parse("0197a1b2-0000-7000-8000-000000000000").is_some());
    }

    #[test]
    fn what_is_sent_with_get_only_reads_and_all_else_changes_something() {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::PATCH] {
            for path in ["/sessions", "/sessions/a", "/agents", "/agents/a", "/agents/a/session"]
                .into_iter()
                .map(str::to_owned)
                .chain(SESSION_ACTIONS.map(|action| format!("/sessions/a/{action}")))
            {
                let Resolved::Route(route) = at(method.clone(), &path) else { continue };
                let expected = if method == Method::GET { Use::Read } else { Use::Change };
                assert_eq!(route.demand().0, expected, "{method} {path}");
            }
        }
        // But for one: a WebSocket is opened with GET, and whoever is attached types.
        let Resolved::Route(attach) = at(Method::GET, "/sessions/a/tty") else { panic!("no route") };
        assert_eq!(attach.demand().0, Use::Change);
    }

    const SESSION_ACTIONS: [&str; 7] =
        ["message", "messages", "stop", "abort", "suspend", "resume", "restart"];

    #[test]
    fn the_key_is_needed_for_all_of_the_api() {
        assert!(is_api("/api") && is_api("/api/v1/x") && is_api("/api/"));
        assert!(!is_api("/apis") && !is_api("/") && !is_api("/metrics"));
    }
}
