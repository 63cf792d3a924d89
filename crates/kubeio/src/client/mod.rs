//! The client that both programs use.
//!
//! It is kube's client on a stack of our own, because kube's default stack repeats writes, never times out a silent
//! server, waits 30 s for a connection and sets no limit on concurrency. What this stack promises: an answer or an error
//! within the time-out, at most `max_in_flight` requests at once (watches apart), reads repeated a few times, writes
//! never, and at most five requests a second to a server that says it is in trouble.

mod body;
mod guard;
mod pace;
mod retry;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{Body, ConfigExt};
use tower::{BoxError, Service, ServiceBuilder};

use self::guard::Guard;
pub(crate) use self::guard::NotSent;
pub(crate) use self::retry::{NoRetry, retry_after};

/// Idle connections are probed, so that a lost node or load balancer is noticed within 25 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// A connection that carries requests is asked whether it still leads anywhere.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(60);

/// How the client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Sent as `User-Agent`. The API server also derives the field manager from the part before the slash.
    pub user_agent: String,
    /// Time for one attempt until the response headers; watches included, since their headers come at once. The body
    /// of anything but a watch may not pause for longer than this either.
    pub request_timeout: Duration,
    /// Time for a new connection, TLS included.
    pub connect_timeout: Duration,
    /// Requests that may be under way at once. Watches and leases are not counted.
    pub max_in_flight: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("paddock/", env!("CARGO_PKG_VERSION")).to_owned(),
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            max_in_flight: 64,
        }
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a service account was found, or it is broken.
    #[error(
        "cannot find out how to reach the API server: {0}; run in a pod with a service account, or set KUBECONFIG"
    )]
    Configuration(#[source] Box<kube::config::InferConfigError>),
    /// The kubeconfig or the environment asks for a proxy.
    #[error(
        "the API server is configured to be reached through the proxy {0}, which is not supported; list the server in NO_PROXY"
    )]
    Proxy(http::Uri),
    /// The kubeconfig has a `tls-server-name` that is none.
    #[error("tls-server-name {0:?} in the kubeconfig is no host name")]
    ServerName(String),
    /// The user agent cannot be sent.
    #[error("the user agent {0:?} is not a valid header value")]
    UserAgent(String),
    /// Certificates or credentials cannot be used.
    #[error("cannot use the certificates or credentials for the API server: {0}")]
    Credentials(#[source] Box<kube::Error>),
}

impl ConnectError {
    /// One word out of a bounded set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "Configuration",
            Self::Proxy(_) => "Proxy",
            Self::ServerName(_) => "ServerName",
            Self::UserAgent(_) => "UserAgent",
            Self::Credentials(_) => "Credentials",
        }
    }
}

/// Makes a client from `KUBECONFIG`, or from the pod's service account.
///
/// Nothing is sent yet: a server that cannot be reached shows at the first request. Must be called within tokio.
pub async fn connect(options: ClientOptions) -> Result<kube::Client, ConnectError> {
    let config = Config::infer().await.map_err(|error| ConnectError::Configuration(Box::new(error)))?;
    from_config(config, options)
}

/// The same from a given configuration. `default_retry` and the time-outs in `config` are not used.
pub fn from_config(mut config: Config, options: ClientOptions) -> Result<kube::Client, ConnectError> {
    if let Some(proxy) = config.proxy_url.take() {
        return Err(ConnectError::Proxy(proxy));
    }
    let user_agent = HeaderValue::from_str(&options.user_agent)
        .map_err(|_| ConnectError::UserAgent(options.user_agent.clone()))?;
    config.headers.push((USER_AGENT, user_agent));
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(options.connect_timeout));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let credentials = |error| ConnectError::Credentials(Box::new(error));
    let tls = https(&config, tcp)?;
    let connector = ServiceBuilder::new().map_future(Box::pin).timeout(options.connect_timeout).service(tls);
    let http = HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(options.max_in_flight)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build::<_, Body>(connector);

    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(over(stack, &config.default_namespace, &options))
}

/// HTTP/2 where the server speaks it, as every API server does: a burst of requests shares one connection, where HTTP/1.1 would
/// open, and encrypt, one for each. kube's own connector offers HTTP/1.1 only.
fn https(
    config: &Config,
    tcp: HttpConnector,
) -> Result<hyper_rustls::HttpsConnector<HttpConnector>, ConnectError> {
    let tls = config.rustls_client_config().map_err(|error| ConnectError::Credentials(Box::new(error)))?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match &config.tls_server_name {
        Some(name) => {
            let name = name.clone().try_into().map_err(|_| ConnectError::ServerName(name.clone()))?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}

/// Makes a client with the same rules (time-outs, limits, pacing, retries) over any HTTP service, for tests above all.
pub fn over<S, B>(service: S, default_namespace: &str, options: &ClientOptions) -> kube::Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(Guard::new(service, options), default_namespace)
}
