//! Servers of the Model Context Protocol with one tool each.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const MCP_TOKEN: &str = "Bearer mcp-secret";

/// A program whose tool's name tells its environment, `whoami_<TOKEN>_<COLOUR>`, and `_leak` where it has secrets of opencode.
pub fn program(dir: &Path) -> PathBuf {
    let path = dir.join("mcp.py");
    let script = r#"
import json, os, sys
env = os.environ
name = "whoami_%s_%s" % (env.get("TOKEN"), env.get("COLOUR"))
if env.get("OPENCODE_SERVER_PASSWORD") or env.get("OPENCODE_CONFIG_CONTENT"):
    name += "_leak"
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {}
    if asked["method"] == "initialize":
        result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "test", "version": "1"}}
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": name, "description": "", "inputSchema": {"type": "object", "properties": {}}}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"#;
    std::fs::write(&path, script).unwrap();
    path
}

/// A server over HTTP that wants [`MCP_TOKEN`]; its tool is `lookup`. Returns its URL.
pub async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request).await) });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status| Response::builder().status(status).body(Full::default()).unwrap();
    if request.headers().get("authorization").is_none_or(|shown| shown != MCP_TOKEN) {
        return plain(StatusCode::UNAUTHORIZED);
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let result = match asked["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "test", "version": "1"},
        }),
        "tools/list" => {
            let schema = json!({"type": "object", "properties": {}});
            json!({"tools": [{"name": "lookup", "description": "", "inputSchema": schema}]})
        }
        _ => json!({}),
    };
    if asked.get("id").is_none() {
        return plain(StatusCode::ACCEPTED);
    }
    let body = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
    Response::builder().header("content-type", "application/json").body(Full::new(body.into())).unwrap()
}
