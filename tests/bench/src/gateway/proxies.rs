//! What stands before the upstream: nothing, nginx, nginx told to keep its connections, haproxy, and the gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use paddock_runnerapi::{EVENTS, PORT, TERMINAL, TURNS};
use serde_json::json;

use super::{Run, TERMINALS, load, put};
use crate::process::{Process, free_port};
use crate::{NAMESPACE, Result};

/// The key that all of them ask for.
pub const KEY: &str = "bench-key";
/// How long one may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of them.
pub struct Proxy {
    /// As people call it.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The sessions that it knows; requests take turns with them. The others know none.
    pub sessions: Vec<String>,
    /// A message that is answered at once.
    pub message: Bytes,
    /// A message that is never answered.
    pub wait: Bytes,
    /// The program, where there is one.
    pub process: Option<Process>,
}

impl Proxy {
    /// Where the n-th message goes.
    pub fn message_path(&self, n: usize) -> String {
        self.path(n, "message", TURNS)
    }

    /// Where the n-th reader finds its events.
    pub fn events_path(&self, n: usize) -> String {
        self.path(n, "events", EVENTS)
    }

    /// Where the n-th terminal is.
    pub fn terminal_path(&self, n: usize) -> String {
        self.path(n, "tty", TERMINAL)
    }

    fn path(&self, n: usize, route: &str, upstream: &str) -> String {
        match self.sessions.len() {
            0 => upstream.to_owned(),
            count => format!("/api/v1/managed_agents/sessions/{}/{route}", self.sessions[n % count]),
        }
    }
}

/// Starts all of them.
pub async fn start(run: &Run, sessions: &[String]) -> Result<Vec<Proxy>> {
    let turn = |text: &str| {
        Bytes::from(json!({"id": "bench", "parts": [{"type": "text", "text": text}]}).to_string())
    };
    let plain = |name, address, process| Proxy {
        name,
        address,
        sessions: Vec::new(),
        message: turn("hello"),
        wait: turn("wait"),
        process,
    };
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ports = [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
    let proxies = vec![
        plain("direct", at(PORT), None),
        plain("nginx", at(ports[0]), Some(nginx(&run.work, ports[0], "nginx", "")?)),
        plain(
            "nginx, keepalive",
            at(ports[4]),
            Some(nginx(&run.work, ports[4], "nginx-keepalive", "keepalive 128;")?),
        ),
        plain("haproxy", at(ports[1]), Some(haproxy(&run.work, ports[1], run.held)?)),
        Proxy {
            name: "Paddock",
            address: at(ports[2]),
            sessions: sessions.to_vec(),
            message: Bytes::from_static(br#"{"text":"hello"}"#),
            wait: Bytes::from_static(br#"{"text":"wait"}"#),
            process: Some(gateway(run, ports[2], ports[3])?),
        },
    ];
    for proxy in &proxies {
        let begun = tokio::time::Instant::now();
        while let Err(error) = load::once(proxy).await {
            proxy.process.as_ref().map_or(Ok(()), Process::check)?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not answer: {error}", proxy.name).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(proxies)
}

/// As its packages set it up, but for the key, the time-outs, HTTP/1.1, and what is to be said of the upstream's connections.
fn nginx(work: &Path, port: u16, name: &str, connections: &str) -> Result<Process> {
    let work = work.join(name);
    std::fs::create_dir_all(&work)?;
    let settings = format!(
        "daemon off; worker_processes auto; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 32768; }}
http {{
  access_log off; client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;
  fastcgi_temp_path {work}/nginx-f; uwsgi_temp_path {work}/nginx-u; scgi_temp_path {work}/nginx-s;
  upstream runner {{ server 127.0.0.1:{PORT}; {connections} }}
  server {{
    listen 127.0.0.1:{port} backlog=16384;
    location / {{
      if ($http_authorization != \"Bearer {KEY}\") {{ return 401; }}
      proxy_pass http://runner; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout 1h;
    }}
    location {TERMINAL} {{
      if ($http_authorization != \"Bearer {KEY}\") {{ return 401; }}
      proxy_pass http://runner; proxy_http_version 1.1; proxy_read_timeout 1h;
      proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade;
    }}
  }}
}}
",
        work = work.display()
    );
    let file = put(&work, "nginx.conf", &settings)?;
    let args = ["-c".to_owned(), file.display().to_string(), "-p".to_owned(), work.display().to_string()];
    Process::start(&program("nginx"), &args, None, &work.join("nginx.out"))
}

fn haproxy(work: &Path, port: u16, held: usize) -> Result<Process> {
    // It wants files for twice as many before it starts.
    let most = held.max(TERMINALS) + 50;
    let settings = format!(
        "global
  maxconn {most}
defaults
  mode http
  option abortonclose
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend in
  bind 127.0.0.1:{port} backlog 16384
  http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str \"Bearer {KEY}\" }}
  default_backend out
backend out
  server upstream 127.0.0.1:{PORT}
"
    );
    let file = put(work, "haproxy.cfg", &settings)?;
    let args = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
    Process::start(&program("haproxy"), &args, None, &work.join("haproxy.log"))
}

/// Without a transcript store, for nginx and haproxy have none either.
fn gateway(run: &Run, port: u16, admin: u16) -> Result<Process> {
    let key = put(&run.work, "master-key", KEY)?;
    let args = [
        format!("--listen=127.0.0.1:{port}"),
        format!("--admin-listen=127.0.0.1:{admin}"),
        format!("--namespace={NAMESPACE}"),
        format!("--master-key-file={}", key.display()),
        format!("--signing-key-file={}", run.signing_key.display()),
        "--max-connections=30000".to_owned(),
    ];
    let kubeconfig = run.cluster.join("kubeconfig");
    Process::start(&run.gateway, &args, Some(&kubeconfig), &run.work.join("gateway.log"))
}

/// Debian keeps servers where only root looks.
fn program(name: &str) -> PathBuf {
    Path::new("/usr/sbin").join(name)
}
