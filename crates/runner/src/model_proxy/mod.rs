//! The harness's model endpoint: a server on the loopback that speaks what harnesses speak: OpenAI chat completions and responses,
//! and Anthropic messages.
//!
//! The harness knows one provider and one model name, both ours, from its start. Before activation the
//! endpoint answers by itself, so warm-up turns cost nothing; after it, it passes requests on to the model
//! gateway with the session's model and the real key, which the harness never gets.
//!
//! Its token stops whoever cannot read the harness's configuration. The agent's own programs can read it
//! (same user); what protects the key is that it is not in it.

mod dialect;
mod endpoint;
mod upstream;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::config::{ModelGateway, Secret};
use crate::random::base62;
use dialect::{Dialect, Reason};
use endpoint::Work;
use upstream::Upstream;

pub use upstream::TrustError;

/// The prompt of a warm-up turn.
pub const WARM_TOOL_PROMPT: &str = "warm-up";

/// The longest request taken: a conversation with many images.
const LONGEST_REQUEST: usize = 64 << 20;
const TOKEN_LENGTH: usize = 43;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, BoxError>;

/// The endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No port.
    #[error("listening on the loopback for the harness's model requests: {0}")]
    Listen(#[from] io::Error),
    /// No token.
    #[error(transparent)]
    Random(#[from] crate::random::RandomError),
    /// No certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// We do: nobody has a session yet.
    Stub,
    /// The model gateway, with this model.
    Gateway { model: String },
}

/// The endpoint.
pub struct ModelProxy {
    root: String,
    base_url: String,
    token: Secret,
    route: RwLock<Route>,
    upstream: Upstream,
}

impl ModelProxy {
    /// Listens on a free port of the loopback, with a token of its own, and begins to serve.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn start(
        gateway: &ModelGateway,
        extra_certificates: Option<&Path>,
    ) -> Result<Arc<Self>, ProxyError> {
        Self::start_at(gateway, extra_certificates, 0, Secret::new(base62(TOKEN_LENGTH)?)).await
    }

    /// As [`Self::start`], on this port and with this token, which others were told already.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn start_at(
        gateway: &ModelGateway,
        extra_certificates: Option<&Path>,
        port: u16,
        token: Secret,
    ) -> Result<Arc<Self>, ProxyError> {
        let upstream = Upstream::new(gateway, extra_certificates)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let root = format!("http://{}", listener.local_addr()?);
        let base_url = format!("{root}{}", endpoint::BASE);
        let proxy = Arc::new(Self { root, base_url, token, route: RwLock::new(Route::Stub), upstream });
        tokio::spawn(accept(listener, Arc::clone(&proxy)));
        Ok(proxy)
    }

    /// Base URL for OpenAI clients, which put `/chat/completions` behind it.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Base URL for Anthropic clients, which put `/v1/messages` behind it.
    pub fn anthropic_base_url(&self) -> &str {
        &self.root
    }

    /// What the harness must show: as bearer token or as `x-api-key`.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// From now on requests go to the model gateway, for this model.
    pub fn bind(&self, model: &str) {
        let route = Route::Gateway { model: model.to_owned() };
        *self.route.write().unwrap_or_else(PoisonError::into_inner) = route;
    }

    /// Whether requests go to the model gateway.
    pub fn is_bound(&self) -> bool {
        self.route() != Route::Stub
    }

    fn route(&self) -> Route {
        self.route.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let expected = self.token.reveal().as_bytes();
        let mut shown = [bearer, text("x-api-key")].into_iter().flatten();
        shown.any(|token| bool::from(token.as_bytes().ct_eq(expected)))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let found = endpoint::find(&head.method, head.uri.path());
        let dialect = found.map_or_else(|| Dialect::guess(&head.headers), |endpoint| endpoint.dialect);
        if !self.admits(&head.headers) {
            return dialect.failure(Reason::Unauthorized, "the token of this endpoint is missing");
        }
        let Some(endpoint) = found else {
            let message = format!("only this is served here: {}", endpoint::listed());
            return dialect.failure(Reason::NotFound, &message);
        };
        let Ok(body) = Limited::new(body, LONGEST_REQUEST).collect().await else {
            return dialect.failure(Reason::TooLarge, "the request broke off or is too large");
        };
        let body = body.to_bytes();
        match (endpoint.work, self.route()) {
            (Work::ListModels, route) => models(&route),
            (Work::Complete, Route::Stub) => dialect.warm_up(&body),
            (Work::CountTokens, Route::Stub) => {
                respond(StatusCode::OK, "application/json", json!({"input_tokens": 1}).to_string())
            }
            (Work::Complete | Work::CountTokens, Route::Gateway { model }) => {
                let query = head.uri.query();
                self.upstream.pass(endpoint, query, &head.headers, &body, &model).await
            }
        }
    }
}

/// The session's model and no other, in a document that clients of both APIs read.
fn models(route: &Route) -> Response<Body> {
    let bound = match route {
        Route::Stub => None,
        Route::Gateway { model } => Some(json!({
            "id": model,
            "object": "model",
            "created": 0,
            "owned_by": "paddock",
            "type": "model",
            "display_name": model,
            "created_at": "1970-01-01T00:00:00Z",
        })),
    };
    let id = bound.as_ref().map(|model| &model["id"]);
    let document = json!({
        "object": "list",
        "data": Vec::from_iter(&bound),
        "has_more": false,
        "first_id": id,
        "last_id": id,
    });
    respond(StatusCode::OK, "application/json", document.to_string())
}

async fn accept(listener: TcpListener, proxy: Arc<ModelProxy>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for example: give those that are open time to close.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        // Tokens must leave one by one.
        let _ = stream.set_nodelay(true);
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a model request broke off");
            }
        });
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
