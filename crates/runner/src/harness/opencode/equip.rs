//! What opencode is equipped with after its boot: files that it has to load again, and MCP servers.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use paddock_runnerapi::{EnvVar, McpServer, McpTransport};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::harness::HarnessError;
use crate::harness::wire::client::Client;
use crate::harness::wire::sse::{Decoder, Message};

const RELOAD: &str = "load the workspace again";
/// How long opencode may take to let go of what it has loaded, and how often it is asked to.
const RELOAD_LIMIT: Duration = Duration::from_secs(5);
const RELOADS: usize = 4;
/// How long it may take until something that it tells everybody is heard, before it is asked to tell that again.
const HEARING: Duration = Duration::from_millis(50);
/// How long one MCP server may take to begin.
const MCP_LIMIT: Duration = Duration::from_secs(60);
/// Shorter values are hidden nowhere: they are no secrets, and texts could not be read without them.
const SHORTEST_SECRET: usize = 6;
/// How much of what opencode says of a server is told.
const LONGEST_QUOTE: usize = 300;
/// The largest event that is looked at.
const LARGEST_EVENT: usize = 64 << 10;

/// Types of the events that are looked for.
const CONNECTED: &[u8] = b"\"server.connected\"";
const TOAST: &[u8] = b"\"tui.toast.show\"";
const DISPOSED: &[u8] = b"\"server.instance.disposed\"";

/// What opencode reads when it first looks at a folder, and not again. Its `AGENTS.md` it sees as it is.
const LOADED_ONCE: [&str; 5] =
    ["opencode.json", "opencode.jsonc", ".opencode", ".claude/skills", ".agents/skills"];

/// Whether the workspace brings something that opencode has to load.
pub(super) fn must_reload(workspace: &Path) -> bool {
    LOADED_ONCE.iter().any(|name| workspace.join(name).exists())
}

/// Makes opencode load the workspace again with its next request.
pub(super) async fn reload(client: &Client) -> Result<(), HarnessError> {
    // Whoever missed that it let go asks again: it loads and lets go once more.
    for _ in 1..RELOADS {
        if let Ok(ended) = timeout(RELOAD_LIMIT, let_go(client)).await {
            return ended;
        }
        tracing::warn!("opencode did not say that it let go of the workspace; it is asked again");
    }
    let late =
        |_| HarnessError::Unusable { attempt: RELOAD, what: "it did not let go of what it had loaded" };
    timeout(RELOAD_LIMIT, let_go(client)).await.map_err(late)?
}

/// It says that it has let go before it has: the event tells when.
async fn let_go(client: &Client) -> Result<(), HarnessError> {
    let mut events = client.stream(RELOAD, "/global/event").await?.into_body();
    let mut decoder = Decoder::new(LARGEST_EVENT);
    wait_for(&mut events, &mut decoder, CONNECTED).await?;
    hear(client, &mut events, &mut decoder).await?;
    client.call(RELOAD, Method::POST, "/instance/dispose", None).await?;
    wait_for(&mut events, &mut decoder, DISPOSED).await
}

/// It calls us connected some time before we are among those it tells, so it is made to tell something until we hear it: a
/// notice for a screen that is not there.
async fn hear(client: &Client, events: &mut Incoming, decoder: &mut Decoder) -> Result<(), HarnessError> {
    let notice = json!({"message": "the workspace is loaded again", "variant": "info"});
    loop {
        client.call(RELOAD, Method::POST, "/tui/show-toast", Some(&notice)).await?;
        if let Ok(heard) = timeout(HEARING, wait_for(events, decoder, TOAST)).await {
            return heard;
        }
    }
}

async fn wait_for(events: &mut Incoming, decoder: &mut Decoder, kind: &[u8]) -> Result<(), HarnessError> {
    while let Some(frame) = events.frame().await {
        let frame =
            frame.map_err(|error| HarnessError::Unreachable { attempt: RELOAD, source: error.into() })?;
        let Ok(bytes) = frame.into_data() else { continue };
        let is_it = |message: &Message| match message {
            Message::Data(data) => data.windows(kind.len()).any(|part| part == kind),
            Message::TooLarge => false,
        };
        if decoder.feed(&bytes).iter().any(is_it) {
            return Ok(());
        }
    }
    Err(HarnessError::Unusable { attempt: RELOAD, what: "its events ended" })
}

#[derive(Deserialize)]
struct ServerStatus {
    status: String,
    #[serde(default)]
    error: Option<String>,
}

/// Connects to a server. One of the same name is replaced.
pub(super) async fn connect(client: &Client, server: &McpServer) -> Result<(), HarnessError> {
    let attempt = "connect to an MCP server";
    let failed = |said: String| HarnessError::Mcp { name: server.name.clone(), said };
    let body = json!({"name": server.name, "config": config(server)});
    let asked = client.ask(attempt, Method::POST, "/mcp", Some(&body));
    let late = |_| failed(format!("it has not begun after {} seconds", MCP_LIMIT.as_secs()));
    let told: HashMap<String, ServerStatus> = timeout(MCP_LIMIT, asked).await.map_err(late)??;
    match told.get(&server.name) {
        Some(ServerStatus { status, .. }) if status == "connected" => Ok(()),
        Some(ServerStatus { status, error }) => Err(failed(said(server, status, error.as_deref()))),
        None => Err(failed("opencode did not take it".to_owned())),
    }
}

/// What a server's own words may be is unknown: they are told without what was given to it.
fn said(server: &McpServer, status: &str, error: Option<&str>) -> String {
    let mut text = error.map_or_else(|| status.to_owned(), |error| format!("{status}: {error}"));
    let (McpTransport::Http { headers: hidden, .. } | McpTransport::Stdio { env: hidden, .. }) =
        &server.transport;
    for EnvVar { value, .. } in hidden.iter().filter(|variable| variable.value.len() >= SHORTEST_SECRET) {
        text = text.replace(value.as_str(), "***");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_QUOTE).collect()
}

fn config(server: &McpServer) -> Value {
    let pairs = |variables: &[EnvVar]| -> Map<String, Value> {
        variables.iter().map(|EnvVar { name, value }| (name.clone(), value.as_str().into())).collect()
    };
    // By itself opencode gives up after five seconds, and the session with it: a pod may be that slow for a moment.
    let timeout = MCP_LIMIT.as_millis();
    let mut config = match &server.transport {
        McpTransport::Http { url, headers } => {
            json!({"type": "remote", "url": url, "headers": pairs(headers), "oauth": false})
        }
        McpTransport::Stdio { command, env } => {
            // It inherits opencode's own environment, of which this much is for opencode alone.
            let mut environment = Map::from_iter(
                ["OPENCODE_SERVER_PASSWORD", "OPENCODE_CONFIG_CONTENT", "BASH_ENV"]
                    .map(|name| (name.to_owned(), "".into())),
            );
            environment.extend(pairs(env));
            json!({"type": "local", "command": command, "environment": environment})
        }
    };
    config["enabled"] = true.into();
    config["timeout"] = json!(timeout);
    config
}
