//! `POST /agents/{id}/session`: makes a Session object and waits a moment for it to become ready.

use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::agent::Agent;
use paddock_api::http::{ApiStatus, ErrorCode, is_terminal_harness};
use paddock_api::session::AgentRef;
use paddock_api::{Session, SessionSpec, labels};
use paddock_kubeio::write::WriteError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::Ask;
use super::agents;
use super::answer::Answer;
use super::record::Record;
use super::router::ObjectName;
use super::sessions;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::body::{self, Empty, Presence};
use crate::http::idempotency::Key;
use crate::http::wait::Wait;
use crate::relay::lookup;

/// How long an answer is held where the client says nothing: a session from a pool is ready within it.
const DEFAULT_WAIT: Duration = Duration::from_millis(250);
/// Longest title, in characters, as the Session kind has it.
const MAX_TITLE: usize = 500;
/// Longest initial prompt, in characters, as the Session kind has it.
const MAX_PROMPT: usize = 262_144;

/// What a session shall be like.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewSession")]
pub struct Fields<'a> {
    /// What the conversation is about.
    #[serde(borrow, default)]
    #[schemars(with = "Option<String>", length(max = MAX_TITLE))]
    title: Option<&'a RawValue>,
    /// A first message, sent once the session is ready.
    #[serde(borrow, default)]
    #[schemars(with = "Option<String>", length(max = MAX_PROMPT))]
    initial_prompt: Option<&'a RawValue>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    initial_attachments: Option<&'a RawValue>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    env_vars: Option<&'a RawValue>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    skill_ids: Option<&'a RawValue>,
}

/// Serves the route.
pub async fn create(
    gateway: &Gateway,
    ask: &Ask,
    incoming: Incoming,
    agent: &ObjectName,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let begun = Instant::now();
    let key = Key::of(&ask.head.headers)?;
    let wait = Wait::of(&ask.query, &ask.head.headers)?;
    let bytes = body::read(&ask.head.headers, incoming, gateway.body_limits(), Presence::Optional).await?;
    let mut spec = spec(&bytes)?;
    let agent = agents::find(gateway, agent).await?;
    if spec.prompt.is_some() && is_terminal_harness(&agent.spec.harness) {
        return Err(ApiError::new(
            ErrorCode::Unsupported,
            format!(
                "initial_prompt: the agent's harness {} is a terminal program and takes no messages; make the session \
                 without it, and type into its terminal",
                agent.spec.harness
            ),
        ));
    }
    spec.agent_ref = Some(AgentRef { name: agent.metadata.name.clone().unwrap_or_default() });

    let session = match key {
        None => object(Uuid::now_v7().to_string(), spec, &agent),
        Some(key) => object(derived_name(&gateway.namespace, &agent, &key), spec, &agent),
    };
    let name = store(gateway, session).await?;
    record.session(&name);

    let deadline = begun + wait.ready.unwrap_or(DEFAULT_WAIT);
    let enough = |session: Option<&Session>| {
        session.is_some_and(|session| ApiStatus::of(session) != ApiStatus::Creating)
    };
    let session =
        gateway.index.session_when(&name, deadline, enough).await.ok_or_else(|| lookup::not_found(&name))?;
    Ok(sessions::show(gateway, ask, &session).await)
}

/// Creates `session`, unless this very session is there already; returns its name.
async fn store(gateway: &Gateway, mut session: Session) -> Result<String, ApiError> {
    let name = session.metadata.name.clone().unwrap_or_default();
    match gateway.cluster.create_session(&session).await {
        Ok(written) => {
            // As the API server has it, but for what only a read would tell; the watch brings that.
            session.metadata.uid = Some(written.uid);
            session.metadata.resource_version = Some(written.resource_version);
            session.metadata.creation_timestamp = written.created.map(Time);
            gateway.index.record_session(session);
            Ok(name)
        }
        Err(WriteError::AlreadyExists) => adopt(gateway, &session, &name).await,
        Err(error) if error.outcome_unknown() => match adopt(gateway, &session, &name).await {
            Err(missing) if missing.code == ErrorCode::NotFound => {
                Err(lookup::unavailable("creating the session", &error))
            }
            adopted => adopted,
        },
        Err(WriteError::Rejected { status: 400 | 422, message, .. }) => {
            Err(ApiError::bad_request(format!("the session was refused: {message}")))
        }
        Err(error) => Err(lookup::unavailable("creating the session", &error)),
    }
}

/// The session of this name is the one asked for, from an earlier try, or the key was used for another.
async fn adopt(gateway: &Gateway, wanted: &Session, name: &str) -> Result<String, ApiError> {
    let there = lookup::read(gateway, name).await?;
    let same = there.spec.agent_ref == wanted.spec.agent_ref
        && there.spec.title == wanted.spec.title
        && there.spec.prompt == wanted.spec.prompt;
    if same {
        return Ok(name.to_owned());
    }
    Err(ApiError::new(
        ErrorCode::SessionMismatch,
        "Idempotency-Key: was used for a session with another title or initial_prompt; use a new key",
    ))
}

fn object(name: String, spec: SessionSpec, agent: &Agent) -> Session {
    let mut session = Session::new(&name, spec);
    if let Some(agent) = &session.spec.agent_ref {
        session.metadata.labels = Some([(labels::AGENT.to_owned(), agent.name.clone())].into());
    }
    if let (Some(uid), Some(version)) = (&agent.metadata.uid, &agent.metadata.resource_version) {
        let seen = format!("{uid}/{version}");
        session.metadata.annotations = Some([(labels::AGENT_SEEN.to_owned(), seen)].into());
    }
    session
}

/// The same key for the same agent is the same session, on every replica.
fn derived_name(namespace: &str, agent: &Agent, key: &Key) -> String {
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("paddock session\0{namespace}\0{uid}\0{key}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn spec(bytes: &[u8]) -> Result<SessionSpec, ApiError> {
    let fields: Fields<'_> = body::fields(bytes)?;
    for (name, raw, instead) in [
        (
            "env_vars",
            fields.env_vars,
            "give them to the agent, or set them in spec.env of a Session with kubectl",
        ),
        ("skill_ids", fields.skill_ids, "put the instructions into the agent's prompt"),
        ("initial_attachments", fields.initial_attachments, "send them with a first message instead"),
    ] {
        if raw.is_some_and(|raw| !body::is_empty(raw)) {
            return Err(ApiError::new(
                ErrorCode::Unsupported,
                format!("{name}: this version does not take this field when a session is created; {instead}"),
            ));
        }
    }
    Ok(SessionSpec {
        title: text("title", fields.title, MAX_TITLE)?,
        prompt: text("initial_prompt", fields.initial_prompt, MAX_PROMPT)?,
        ..SessionSpec::default()
    })
}

/// A text field; an empty one counts as absent, as clients send it for "none".
fn text(name: &str, raw: Option<&RawValue>, max: usize) -> Result<Option<String>, ApiError> {
    let Some(text) = raw.map(|raw| body::string(name, raw)).transpose()?.filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if text.chars().count() > max {
        return Err(ApiError::bad_request(format!("{name}: must have at most {max} characters")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> ApiError {
        spec(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn known_fields_are_taken_and_unknown_ones_ignored() {
        let spec =
            spec(br#"{"title":"t","initial_prompt":"p","env_vars":{ },"skill_ids":[],"x":1}"#).unwrap();
        assert_eq!((spec.title.as_deref(), spec.prompt.as_deref()), (Some("t"), Some("p")));
        assert_eq!(super::spec(br#"{"title":null,"initial_prompt":""}"#).unwrap(), SessionSpec::default());
    }

    #[test]
    fn what_would_be_dropped_silently_is_refused() {
        for body in [r#"{"env_vars":{"A":"b"}}"#, r#"{"skill_ids":["x"]}"#, r#"{"initial_attachments":[{}]}"#]
        {
            let error = refusal(body);
            assert_eq!(error.code, ErrorCode::Unsupported);
            assert!(!error.message.contains("\"b\""));
        }
        assert!(refusal(r#"{"title":1}"#).message.starts_with("title: must be a string"));
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(501));
        assert!(refusal(&long).message.starts_with("title: must have at most 500"));
    }

    #[test]
    fn a_key_names_one_session_of_one_agent() {
        let agent = |uid: &str| {
            let mut agent = Agent::new("a", paddock_api::AgentSpec::default());
            agent.metadata.uid = Some(uid.to_owned());
            agent
        };
        let key = |text| Key::parse(text, "key").unwrap();
        let name = derived_name("ns", &agent("1"), &key("k"));
        assert_eq!(name, derived_name("ns", &agent("1"), &key("k")));
        assert_ne!(name, derived_name("ns", &agent("2"), &key("k")));
        assert_ne!(name, derived_name("ns", &agent("1"), &key("k2")));
        assert!(Uuid::parse_str(&name).is_ok() && ObjectName::parse(&name).is_some());
    }
}
