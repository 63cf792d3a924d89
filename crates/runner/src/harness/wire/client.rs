//! Requests to a harness that speaks the wire.
//!
//! Every request has its own connection: on a kept one the harness may hang up just as a turn is written,
//! and then nobody could tell whether it was seen. A connection on the loopback costs less than that doubt.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::HarnessError;

/// The longest answer taken; a history with many images is large.
const LONGEST_ANSWER: usize = 64 << 20;
/// How much of an error's text is passed on.
const LONGEST_QUOTE: usize = 600;

#[derive(Clone)]
pub(in crate::harness) struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// `base` is where it listens, for example `http://127.0.0.1:4096`. `authorization` is shown with each request, where it
    /// asks for one.
    ///
    /// # Errors
    /// Where that is no header value.
    pub(in crate::harness) fn new(base: &str, authorization: Option<&str>) -> Result<Self, HarnessError> {
        let unusable =
            |_| HarnessError::Unusable { attempt: "log in", what: "the credential is no header value" };
        let mut authorization = authorization.map(HeaderValue::try_from).transpose().map_err(unusable)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = HyperClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), authorization })
    }

    /// Sends a request and returns its JSON answer as it came.
    pub(in crate::harness) async fn call(
        &self,
        attempt: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, HarnessError> {
        let response = self.send(attempt, method, path, body).await?;
        let status = response.status();
        // Unknown paths are answered 200 with a web page.
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
        let bytes = whole(attempt, response).await?;
        if !status.is_success() {
            return Err(HarnessError::Refused { attempt, status: status.as_u16(), said: quote(&bytes) });
        }
        if !is_json && status != StatusCode::NO_CONTENT {
            return Err(HarnessError::Unusable { attempt, what: "it is not JSON" });
        }
        Ok(bytes)
    }

    /// The status of an answer, whatever is in it.
    pub(in crate::harness) async fn status_of(
        &self,
        attempt: &'static str,
        path: &str,
    ) -> Result<StatusCode, HarnessError> {
        Ok(self.send(attempt, Method::GET, path, None).await?.status())
    }

    /// Sends a request and returns its answer, a stream of server-sent events, as it comes.
    pub(in crate::harness) async fn stream(
        &self,
        attempt: &'static str,
        path: &str,
    ) -> Result<Response<Incoming>, HarnessError> {
        let response = self.send(attempt, Method::GET, path, None).await?;
        let status = response.status();
        if !status.is_success() {
            let bytes = whole(attempt, response).await?;
            return Err(HarnessError::Refused { attempt, status: status.as_u16(), said: quote(&bytes) });
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(HarnessError::Unusable { attempt, what: "it is no stream of events" });
        }
        Ok(response)
    }

    /// Passes a client's own request on. What opencode does not know it answers with a web page, which no client of an API
    /// wants.
    pub(in crate::harness) async fn pass(
        &self,
        mut request: Request<Bytes>,
    ) -> Result<Response<Incoming>, HarnessError> {
        let attempt = "answer a client's own request";
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("{}{path}", self.base).parse();
        *request.uri_mut() =
            uri.map_err(|_| HarnessError::Unusable { attempt, what: "it has no address" })?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let response = self.http.request(request.map(Full::new)).await;
        let response =
            response.map_err(|error| HarnessError::Unreachable { attempt, source: error.into() })?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            return Err(HarnessError::NotThere { what: "such path in its API".to_owned() });
        }
        Ok(response)
    }

    async fn send(
        &self,
        attempt: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, HarnessError> {
        let payload = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let request = request
            .body(Full::new(payload))
            .map_err(|error| HarnessError::Unreachable { attempt, source: error.into() })?;
        let response = self.http.request(request).await;
        response.map_err(|error| HarnessError::Unreachable { attempt, source: error.into() })
    }

    /// As [`Self::call`], and reads the answer.
    pub(in crate::harness) async fn ask<T: DeserializeOwned>(
        &self,
        attempt: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, HarnessError> {
        let bytes = self.call(attempt, method, path, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| HarnessError::Unusable { attempt, what: "it lacks what was asked for" })
    }
}

async fn whole(attempt: &'static str, response: Response<Incoming>) -> Result<Bytes, HarnessError> {
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| match source.is::<LengthLimitError>() {
        true => HarnessError::Unusable { attempt, what: "it is longer than the runner takes" },
        false => HarnessError::Unreachable { attempt, source },
    };
    Ok(body.map_err(broken)?.to_bytes())
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_QUOTE)]);
    text.trim().to_owned()
}
