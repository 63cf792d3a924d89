//! A proxy in front of the real API server that makes trouble as a test tells it.
//!
//! Every controller has a proxy of its own. It speaks plain HTTP to the controller and adds the test's certificate
//! towards the server. Each request gets an id that the server notes in its audit log, so that both logs can be laid
//! side by side; the audit log knows what was done, this one knows the bodies. Requests for a kind in all namespaces are
//! narrowed to the test's own, so that tests can run beside each other without seeing the others' objects.

mod call;
mod rules;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use kube::client::ConfigExt;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::{BoxError, Service, ServiceExt};

pub use self::call::{Call, Verb};
pub use self::rules::{Fault, Refusal, Rule, When};
pub use self::stream::Order;

use self::rules::Rules;

type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;
type Reply = Response<ReplyBody>;
type Upstream = tower::util::BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, BoxError>;

/// Kinds without a namespace.
const CLUSTER_SCOPED: [&str; 3] = ["namespaces", "nodes", "customresourcedefinitions"];

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Of the controller, in the audit log.
    user_agent: HeaderValue,
    namespace: String,
    server: Uri,
    upstream: Upstream,
    rules: Rules,
    orders: watch::Sender<Order>,
    log: Mutex<Vec<Call>>,
}

impl Proxy {
    pub async fn start(config: &kube::Config, namespace: &str, identity: &str) -> Self {
        let connector = config.rustls_https_connector().unwrap();
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        let upstream = client.map_err(BoxError::from);
        let shared = Arc::new(Shared {
            user_agent: HeaderValue::from_str(&format!("{}/{identity}", crate::CONTROLLER)).unwrap(),
            namespace: namespace.to_owned(),
            server: config.cluster_url.clone(),
            upstream: Upstream::new(upstream),
            rules: Rules::default(),
            orders: watch::Sender::new(Order::None),
            log: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared }
    }

    /// From now on these rules hold, and no others.
    pub fn rules(&self, rules: Vec<Rule>) {
        self.shared.rules.replace(rules);
    }

    /// No more faults. Returns when that was.
    pub fn calm(&self) -> Timestamp {
        self.shared.rules.replace(Vec::new());
        Timestamp::now()
    }

    /// Does something to all watches that are open.
    pub fn order(&self, order: Order) {
        self.shared.orders.send_replace(order);
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Call> {
        self.shared.log.lock().clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| serve(shared.clone(), request));
            // Broken connections are what this is for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection without an answer.
async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let audit_id = uuid::Uuid::new_v4().to_string();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let call = Call::parse(&parts.method, path, query, json, audit_id);
    let fault = shared.rules.decide(&call);
    let place = shared.note(&call, fault);

    match fault {
        Some(Fault::Refuse(refusal)) => {
            shared.answered(place, refusal.status);
            return Ok(refused(refusal));
        }
        Some(Fault::ExpireInBand) => {
            shared.answered(place, 200);
            return Ok(expired_in_band());
        }
        Some(Fault::KillBefore(pid)) => {
            kill(pid);
            return Err("killed".into());
        }
        Some(Fault::Delay(pause)) => tokio::time::sleep(pause).await,
        Some(Fault::LoseAnswer | Fault::CutAnswer | Fault::KillAfter(_)) | None => {}
    }
    let watch = call.is_watch();
    let forwarded = shared.forwarded(parts, body, &call)?;
    let answer = shared.upstream.clone().ready().await?.call(forwarded).await?;
    shared.answered(place, answer.status().as_u16());
    let (head, body) = answer.into_parts();
    if watch && head.status == StatusCode::OK {
        return Ok(Response::from_parts(head, stream::relay(body, shared.orders.subscribe())));
    }
    let body = body.collect().await?.to_bytes();
    match fault {
        Some(Fault::LoseAnswer) => Err("the answer is lost".into()),
        Some(Fault::KillAfter(pid)) => {
            kill(pid);
            Err("killed".into())
        }
        Some(Fault::CutAnswer) => {
            let half = body.slice(..body.len() / 2);
            let cut = [Ok(http_body::Frame::data(half)), Err("cut".into())];
            Ok(Response::from_parts(head, StreamBody::new(futures::stream::iter(cut)).boxed_unsync()))
        }
        _ => Ok(Response::from_parts(head, full(body))),
    }
}

impl Shared {
    fn note(&self, call: &Call, fault: Option<Fault>) -> usize {
        let mut call = call.clone();
        call.disturbed = fault.is_some();
        if let Some(Fault::Refuse(Refusal { retry_after: Some(seconds), .. })) = fault {
            call.retry_after = Some(Duration::from_secs(seconds.into()));
        }
        let mut log = self.log.lock();
        log.push(call);
        log.len() - 1
    }

    fn answered(&self, place: usize, status: u16) {
        self.log.lock()[place].answer = Some((Timestamp::now(), status));
    }

    fn forwarded(
        &self,
        parts: http::request::Parts,
        body: Bytes,
        call: &Call,
    ) -> Result<Request<Full<Bytes>>, BoxError> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if call.namespace.is_none() && !CLUSTER_SCOPED.contains(&call.resource.as_str()) {
            let (before, after) = path.split_at(path.find(&call.resource).unwrap_or_default());
            format!("{before}namespaces/{}/{after}", self.namespace)
        } else {
            path.to_owned()
        };
        let uri = Uri::builder()
            .scheme(self.server.scheme().cloned().ok_or("no scheme")?)
            .authority(self.server.authority().cloned().ok_or("no authority")?)
            .path_and_query(path)
            .build()?;
        let mut request = Request::builder().method(parts.method).uri(uri).body(Full::new(body))?;
        for name in [header::ACCEPT, header::CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        request.headers_mut().insert(header::USER_AGENT, self.user_agent.clone());
        request.headers_mut().insert("audit-id", HeaderValue::from_str(&call.audit_id)?);
        Ok(request)
    }
}

fn kill(pid: Pid) {
    // It may be gone already.
    let _ = kill_process(pid, Signal::KILL);
}

fn full(body: Bytes) -> ReplyBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn status(refusal: Refusal) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": refusal.status,
        "reason": refusal.reason, "message": "made up by the proxy"})
}

fn refused(refusal: Refusal) -> Reply {
    let mut reply = Response::new(full(Bytes::from(status(refusal).to_string())));
    *reply.status_mut() = StatusCode::from_u16(refusal.status).unwrap();
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = refusal.retry_after {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

fn expired_in_band() -> Reply {
    let event = json!({"type": "ERROR", "object": status(Refusal::EXPIRED)});
    Response::new(full(Bytes::from(format!("{event}\n"))))
}
