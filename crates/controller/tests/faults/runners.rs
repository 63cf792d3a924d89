//! Runners without pods: each has the pod's loopback address for itself, and the lock that a runner is.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateRequest, ActivateResponse, Activity, Capabilities, ErrorBody, ErrorCode,
    PORT, Position, QUIESCE, Scope, SigningKey, VerifyingKeys,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A test key: the one of RFC 8037, appendix A.
pub const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

/// Addresses given out by this process.
static NEXT: AtomicU16 = AtomicU16::new(1);

/// All runners of a test.
#[derive(Clone)]
pub struct Runners {
    keys: Arc<VerifyingKeys>,
    /// Which session UID each pod UID serves. Never shrinks.
    locks: Arc<Mutex<BTreeMap<String, String>>>,
    serving: Arc<Mutex<HashMap<String, AbortHandle>>>,
    /// Something is said in every pod.
    talk: bool,
}

impl Runners {
    pub fn new() -> Self {
        let key = SigningKey::from_pem(PEM.as_bytes()).unwrap();
        Self {
            keys: Arc::new(VerifyingKeys::parse(key.public_key()).unwrap()),
            locks: Arc::default(),
            serving: Arc::default(),
            talk: false,
        }
    }

    /// In whose pods something is said, which has to be saved before they go.
    pub fn that_talk() -> Self {
        Self { talk: true, ..Self::new() }
    }

    /// Something is said in every pod.
    pub fn talk(&self) -> bool {
        self.talk
    }

    /// Which session UID each pod UID serves, or has served.
    pub fn served(&self) -> BTreeMap<String, String> {
        self.locks.lock().clone()
    }

    /// Boots the runner of a pod. Returns its address.
    pub async fn boot(&self, pod_uid: &str) -> Ipv4Addr {
        let (address, listener) = free_address().await;
        let (runners, pod) = (self.clone(), pod_uid.to_owned());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (runners, pod) = (runners.clone(), pod.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| runners.serve(&pod, request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        self.serving.lock().insert(pod_uid.to_owned(), serving.abort_handle());
        address
    }

    /// Ends the runner of a pod.
    pub fn end(&self, pod_uid: &str) {
        if let Some(serving) = self.serving.lock().remove(pod_uid) {
            serving.abort();
        }
    }

    async fn serve(
        &self,
        pod: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned))
            .unwrap_or_default();
        let Ok(session) = self.keys.verify(&token, pod, Scope::Control) else {
            return Ok(failed(ErrorCode::Unauthorized));
        };
        Ok(match path.as_str() {
            ACTIVATE => {
                let body =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                match serde_json::from_slice::<ActivateRequest>(&body) {
                    Ok(request) if request.session.uid == session => self.activate(pod, &request),
                    _ => failed(ErrorCode::BadRequest),
                }
            }
            ACTIVITY | QUIESCE => answer(StatusCode::OK, &self.activity(path == QUIESCE)),
            _ => failed(ErrorCode::NotFound),
        })
    }

    fn activity(&self, quiesced: bool) -> Activity {
        let transcript = if self.talk { Position { journal: 1, seq: 3 } } else { Position::default() };
        Activity { quiesced, transcript, ..Activity::default() }
    }

    /// The first session UID has the pod for ever.
    fn activate(&self, pod: &str, request: &ActivateRequest) -> Response<Full<Bytes>> {
        let mut locks = self.locks.lock();
        let holder = locks.entry(pod.to_owned()).or_insert_with(|| request.session.uid.clone());
        if *holder != request.session.uid {
            return failed(ErrorCode::BoundToOther);
        }
        answer(
            StatusCode::OK,
            &ActivateResponse {
                session_uid: request.session.uid.clone(),
                incarnation: request.incarnation,
                harness_session_id: format!("ses_{pod}"),
                capabilities: Capabilities { messages: true, terminal: false },
                took_ms: 0,
                steps: Vec::new(),
            },
        )
    }
}

/// An address of 127.0.0.0/8 on which nobody listens at the runner's port.
async fn free_address() -> (Ipv4Addr, TcpListener) {
    // Apart for each process, so that two test runs rarely meet.
    let process = u8::try_from(std::process::id() % 200).unwrap() + 20;
    for _ in 0..1000 {
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let address = Ipv4Addr::new(127, process, high, low);
        if let Ok(listener) = TcpListener::bind(SocketAddr::from((address, PORT))).await {
            return (address, listener);
        }
    }
    panic!("no loopback address has port {PORT} free; does something listen there on all addresses?");
}

fn failed(code: ErrorCode) -> Response<Full<Bytes>> {
    let body = ErrorBody { code, error: format!("the runner says {code:?}") };
    answer(StatusCode::from_u16(code.status()).unwrap(), &body)
}

fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(serde_json::to_vec(body).unwrap())));
    *response.status_mut() = status;
    response
}
