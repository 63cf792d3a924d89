//! The harness's model endpoint: an OpenAI-compatible server on the loopback.
//!
//! The harness knows one provider and one model name, both ours, from its start. Before activation the
//! endpoint answers by itself, so warm-up turns cost nothing; after it, it passes requests on to the model
//! gateway with the session's model and the real key, which the harness never gets.
//!
//! Its token stops whoever cannot read the harness's configuration. The agent's own programs can read it
//! (same user); what protects the key is that it is not in it.

mod stub;
mod upstream;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
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
use upstream::Upstream;

pub use stub::WARM_TOOL_PROMPT;
pub use upstream::TrustError;

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
    base_url: String,
    token: Secret,
    route: RwLock<Route>,
    upstream: Upstream,
}

impl ModelProxy {
    /// Listens on a free port of the loopback and begins to serve.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn start(
        gateway: &ModelGateway,
        extra_certificates: Option<&Path>,
    ) -> Result<Arc<Self>, ProxyError> {
        let upstream = Upstream::new(gateway, extra_certificates)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let token = Secret::new(base62(TOKEN_LENGTH)?);
        let proxy = Arc::new(Self { base_url, token, route: RwLock::new(Route::Stub), upstream });
        tokio::spawn(accept(listener, Arc::clone(&proxy)));
        Ok(proxy)
    }

    /// Base URL for the harness.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What the harness must show.
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

    fn admits(&self, request: &Request<Incoming>) -> bool {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        bool::from(token.as_bytes().ct_eq(self.token.reveal().as_bytes()))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.admits(&request) {
            return failure(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token of this endpoint is missing",
            );
        }
        if request.method() != Method::POST || request.uri().path() != "/v1/chat/completions" {
            return failure(
                StatusCode::NOT_FOUND,
                "not_found",
                "only POST /v1/chat/completions is served here",
            );
        }
        let Ok(body) = Limited::new(request.into_body(), LONGEST_REQUEST).collect().await else {
            return failure(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the request broke off or is too large",
            );
        };
        let body = body.to_bytes();
        match self.route() {
            Route::Stub => stub::answer(&body),
            Route::Gateway { model } => self.upstream.pass(&body, &model).await,
        }
    }
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

/// An error in OpenAI's shape.
fn failure(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": kind}});
    answer(status, "application/json", body.to_string())
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
