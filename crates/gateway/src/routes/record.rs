//! What is written down about a request: one line, which is the audit log's, and one count, also when its client leaves
//! before the answer.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use paddock_runnerapi::TURN_ID_HEADER;

use super::router::{Resolved, Subject};
use crate::auth::Access;
use crate::error::ApiError;
use crate::http::idempotency::Key;
use crate::http::request_id::RequestId;
use crate::metrics::Metrics;

/// Stands for "the client closed the connection", as nginx writes it.
const CLIENT_LEFT: u16 = 499;

/// See the module. No body, query, header or key of a client gets in.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: &'static str,
    request_id: RequestId,
    begun: Instant,
    access: Option<Access>,
    agent: Option<String>,
    session: Option<String>,
    turn_id: Option<Key>,
    code: &'static str,
    status: Option<StatusCode>,
}

impl Record {
    /// A request has begun.
    pub fn new(metrics: Arc<Metrics>, method: &Method, resolved: &Resolved, request_id: RequestId) -> Self {
        let subject = match resolved {
            Resolved::Route(route) => route.demand().1,
            Resolved::WrongMethod { .. } | Resolved::Unknown => Subject::Gateway,
        };
        let (agent, session) = match subject {
            Subject::Agent(id) | Subject::NewSession(id) => (Some(id), None),
            Subject::Session(id) => (None, Some(id)),
            Subject::Gateway | Subject::Agents | Subject::Sessions => (None, None),
        };
        Self {
            metrics,
            method: known(method),
            route: resolved.template(),
            request_id,
            begun: Instant::now(),
            access: None,
            agent: agent.map(ToString::to_string),
            session: session.map(ToString::to_string),
            turn_id: None,
            code: "",
            status: None,
        }
    }

    /// It is made with this key.
    pub fn access(&mut self, access: &Access) {
        self.access = Some(access.clone());
    }

    /// It is about this session, which its path does not name.
    pub fn session(&mut self, name: &str) {
        self.session = Some(name.to_owned());
    }

    /// The session it is about, if it is about one.
    pub fn session_name(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// It is about this turn, which every answer from here on names.
    pub fn turn(&mut self, id: Key) {
        self.turn_id = Some(id);
    }

    /// The turn's id; made here where the client gave none.
    pub fn turn_id(&mut self) -> Key {
        self.turn_id.get_or_insert_with(Key::fresh).clone()
    }

    /// Names the turn in an answer.
    pub fn turn_id_into(&self, headers: &mut HeaderMap) {
        let value = self.turn_id.as_ref().and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        if let Some(value) = value {
            headers.insert(TURN_ID_HEADER, value);
        }
    }

    /// It is answered with an error.
    pub fn failed(&mut self, error: &ApiError) {
        self.code = error.code.as_str();
        self.metrics.refused(error.code);
    }

    /// Its answer begins.
    pub fn done(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        self.metrics.request_done(self.route, self.method, status);
        tracing::info!(
            target: "audit",
            key = self.access.as_ref().map_or("-", Access::name),
            method = self.method,
            route = self.route,
            status,
            code = self.code,
            agent = self.agent.as_deref().unwrap_or_default(),
            session = self.session.as_deref().unwrap_or_default(),
            turn = self.turn_id.as_ref().map(Key::as_str).unwrap_or_default(),
            request_id = %self.request_id,
            trace_id = self.request_id.trace().trace_id(),
            took_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

/// A bounded set: clients may send any word as a method.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}
