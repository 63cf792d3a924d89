//! Passing model requests on: the session's model, the real key, and the answer as it comes, unbuffered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::value::{RawValue, to_raw_value};

use super::Body;
use super::dialect::Reason;
use super::endpoint::Endpoint;
use crate::config::{ModelGateway, Secret};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);
/// A dead gateway is noticed after about 10 + 3 × 5 s, however long an answer may take.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// What the gateway must know beside the body: which of its API's forms is spoken.
const PASSED_THERE: [HeaderName; 2] =
    [HeaderName::from_static("anthropic-version"), HeaderName::from_static("anthropic-beta")];

/// What a client may want to know of the gateway's answer; all else stays behind.
const PASSED_BACK: [HeaderName; 6] = [
    CONTENT_TYPE,
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
];

/// The certificates to trust could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The extra file.
    #[error("reading the certificates of SSL_CERT_FILE ({path}): {what}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The TLS library.
    #[error("setting up TLS for the model gateway: {0}")]
    Tls(#[from] rustls::Error),
    /// The key.
    #[error("the model gateway's key has characters that no HTTP header can carry")]
    Key,
}

pub(super) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl Upstream {
    pub(super) fn new(gateway: &ModelGateway, extra: Option<&Path>) -> Result<Self, TrustError> {
        let authorization = gateway.api_key.as_ref().map(bearer).transpose()?;
        let base = gateway.base_url.to_string().trim_end_matches('/').to_owned();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(&gateway.base_url, extra)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .build(connector);
        Ok(Self { client, base, authorization })
    }

    /// Asks the gateway for this model and passes its answer through.
    pub(super) async fn pass(
        &self,
        endpoint: &Endpoint,
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
        model: &str,
    ) -> Response<Body> {
        let dialect = endpoint.dialect;
        let Some(body) = with_model(body, model) else {
            return dialect.failure(Reason::BadRequest, "the request is not a JSON object");
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = Request::builder()
            .method(endpoint.method.clone())
            .uri(format!("{}{}{query}", self.base, endpoint.path))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        for name in PASSED_THERE {
            for value in headers.get_all(&name) {
                request = request.header(&name, value.clone());
            }
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let answered = match request.body(Full::new(Bytes::from(body))) {
            Ok(request) => self.client.request(request).await,
            Err(_) => return dialect.failure(Reason::BadGateway, "the request cannot be passed on"),
        };
        match answered {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let mut response = Response::new(body.map_err(Into::into).boxed());
                *response.status_mut() = head.status;
                for name in PASSED_BACK {
                    if let Some(value) = head.headers.get(&name) {
                        response.headers_mut().insert(name, value.clone());
                    }
                }
                response
            }
            Err(error) => {
                let stage = if error.is_connect() { "it cannot be reached" } else { "it broke off" };
                tracing::warn!(%error, stage, "a model request failed");
                dialect.failure(Reason::BadGateway, &format!("asking the model gateway: {stage}"))
            }
        }
    }
}

fn bearer(key: &Secret) -> Result<HeaderValue, TrustError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal())).map_err(|_| TrustError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The same request for another model; everything else stays byte for byte.
fn with_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let mut fields: BTreeMap<&str, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    fields.insert("model", to_raw_value(model).ok()?);
    serde_json::to_vec(&fields).ok()
}

fn tls(base_url: &Uri, extra: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    // Without TLS the certificates would only take memory.
    if base_url.scheme_str() == Some("https") {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = extra {
            let failed = |what: String| TrustError::File { path: path.to_owned(), what };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder =
        ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_is_replaced() {
        let body = br#"{"model":"agent","messages":[{"role":"user","content":"\u00e4"}],"n":1.0}"#;
        let changed = String::from_utf8(with_model(body, "gpt \"x\"").unwrap()).unwrap();
        assert_eq!(
            changed,
            r#"{"messages":[{"role":"user","content":"\u00e4"}],"model":"gpt \"x\"","n":1.0}"#
        );
        assert!(with_model(b"[]", "m").is_none());
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let uri = Uri::from_static("https://gateway.example/v1");
        let error = tls(&uri, Some(Path::new("/dev/null/none"))).err().unwrap();
        assert!(error.to_string().contains("/dev/null/none"), "{error}");
        assert!(tls(&uri, None).is_ok());
    }
}
