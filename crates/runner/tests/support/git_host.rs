//! A git host: `git http-backend` behind a small HTTP server that asks for a token.

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const TOKEN: &str = "glpat-very-secret-token";

/// Runs git as nobody's particular agent.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=trunk"];
    let ran = Command::new("git").args(identity).args(args).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

/// A bare repository `<dir>/app.git` with some history, a second branch and a tag.
pub fn repository(dir: &Path) -> PathBuf {
    let work = dir.join("work");
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet"]);
    for number in ["one", "two", "three"] {
        std::fs::write(work.join("README.md"), number).unwrap();
        git(&work, &["add", "."]);
        git(&work, &["commit", "--quiet", "-m", number]);
    }
    git(&work, &["tag", "-a", "v1", "-m", "v1", "HEAD~1"]);
    git(&work, &["branch", "other/branch", "HEAD~2"]);
    git(dir, &["clone", "--quiet", "--bare", "work", "app.git"]);
    dir.join("app.git")
}

#[derive(Clone)]
struct Shared {
    root: PathBuf,
    requests: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
    held: watch::Receiver<bool>,
}

pub struct GitHost {
    pub url: String,
    shared: Shared,
    hold: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for GitHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitHost {
    pub async fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hold, held) = watch::channel(false);
        let shared =
            Shared { root: root.to_owned(), requests: Arc::default(), refusals: Arc::default(), held };
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(shared.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, shared, hold, task }
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// It answers 503 to so many.
    pub fn refuses(&self, count: usize) {
        self.shared.refusals.store(count, Ordering::SeqCst);
    }

    /// Whether repositories' contents are kept back.
    pub fn holds(&self, holds: bool) {
        self.hold.send_replace(holds);
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

impl Shared {
    async fn answer(mut self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let fewer = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
            return plain(StatusCode::SERVICE_UNAVAILABLE);
        }
        let wanted = format!("Basic {}", STANDARD.encode(format!("agent:{TOKEN}")));
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if shown != Some(wanted.as_str()) {
            let mut refused = plain(StatusCode::UNAUTHORIZED);
            refused.headers_mut().insert("www-authenticate", "Basic realm=\"git\"".parse().unwrap());
            return refused;
        }
        if request.uri().path().ends_with("git-upload-pack") {
            self.held.wait_for(|held| !held).await.unwrap();
        }
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "agent")
            .env("PATH_INFO", request.uri().path())
            .env("QUERY_STRING", request.uri().query().unwrap_or_default())
            .env("REQUEST_METHOD", request.method().as_str())
            .env("CONTENT_TYPE", header("content-type"))
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        command.env("CONTENT_LENGTH", body.len().to_string());
        let answered = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let writing = std::thread::spawn(move || stdin.write_all(&body));
            let answered = child.wait_with_output().unwrap().stdout;
            let _ = writing.join().unwrap();
            answered
        });
        let answered = answered.await.unwrap();
        let end = answered.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answered[..end].to_vec()).unwrap();
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(&answered[end + 4..])));
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            match name {
                "Status" => *response.status_mut() = value[..3].parse().unwrap(),
                _ => {
                    let name: http::HeaderName = name.parse().unwrap();
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
            }
        }
        response
    }
}
