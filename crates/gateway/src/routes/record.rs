//! What is written down about a request: one line and one count, also when its client leaves before the answer.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use paddock_runnerapi::TURN_ID_HEADER;

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
    session: Option<String>,
    turn_id: Option<Key>,
    error: &'static str,
    status: Option<StatusCode>,
}

impl Record {
    /// A request has begun.
    pub fn new(metrics: Arc<Metrics>, method: &Method, route: &'static str, request_id: RequestId) -> Self {
        Self {
            metrics,
            method: known(method),
            route,
            request_id,
            begun: Instant::now(),
            session: None,
            turn_id: None,
            error: "",
            status: None,
        }
    }

    /// It is about this session.
    pub fn session(&mut self, name: &str) {
        self.session = Some(name.to_owned());
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
        self.error = error.code.as_str();
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
            target: "paddock_gateway::access",
            method = self.method,
            route = self.route,
            status,
            error = self.error,
            session = self.session.as_deref().unwrap_or_default(),
            turn = self.turn_id.as_ref().map(Key::as_str).unwrap_or_default(),
            request_id = %self.request_id,
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
