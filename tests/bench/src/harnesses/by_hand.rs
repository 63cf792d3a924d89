//! opencode as somebody starts it on a machine: a new home, a provider in its configuration, and the first message.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::cluster::speaks;
use super::{Figures, memory};
use crate::Result;

/// Its port on this machine's loopback address.
const PORT: u16 = 4796;
/// Everything it does must be done within this time.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause before it is asked again whether it serves. A request that is sent too early is never answered, so each has a limit, too.
const PERIOD: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(200);

/// Starts it again and again.
pub async fn measure(program: &Path, model: &str, work: &Path, rounds: usize) -> Result<Figures> {
    let mut figures = Figures { name: "opencode by hand".to_owned(), ..Figures::default() };
    for number in 0..rounds {
        let home = work.join(format!("home-{number}"));
        if home.exists() {
            std::fs::remove_dir_all(&home)?;
        }
        tokio::time::timeout(LIMIT, round(program, model, &home, number, &mut figures)).await??;
    }
    Ok(figures)
}

async fn round(program: &Path, model: &str, home: &Path, number: usize, figures: &mut Figures) -> Result<()> {
    let workspace = home.join("workspace");
    std::fs::create_dir_all(&workspace)?;
    let client = Client::builder().no_proxy().build()?;
    let base = format!("http://127.0.0.1:{PORT}");
    let begun = Instant::now();
    let mut child = start(program, model, home, &workspace)?;
    while !serves(&client, &base).await {
        if let Some(ended) = child.try_wait()? {
            return Err(format!("it ended: {ended}").into());
        }
        tokio::time::sleep(PERIOD).await;
    }
    figures.boot_s.push(begun.elapsed().as_secs_f64());
    let made: Value = client
        .post(format!("{base}/session"))
        .json(&json!({ "title": "by hand" }))
        .send()
        .await?
        .json()
        .await?;
    let session = made["id"].as_str().ok_or("it opened no session")?.to_owned();
    figures.ready_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    let pid = child.id().ok_or("it has ended")?;
    figures.idle_mib.push(memory::of(&[pid]));

    let word = format!("spoken{number}");
    let mut events = client.get(format!("{base}/event")).send().await?;
    let turn = client.post(format!("{base}/session/{session}/message")).json(&json!({
        "model": { "providerID": "scripted", "modelID": "scripted" },
        "parts": [{ "type": "text", "text": format!("!say {word}") }],
    }));
    let turn = tokio::spawn(async move { turn.send().await?.error_for_status()?.bytes().await });
    let mut read = String::new();
    'spoken: loop {
        let chunk = events.chunk().await?.ok_or("its events broke off")?;
        read.push_str(std::str::from_utf8(&chunk)?);
        while let Some((frame, rest)) = read.split_once("\n\n") {
            let said = frame.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
            let found = said.is_some_and(|event: Value| speaks(&event, &word));
            read = rest.to_owned();
            if found {
                break 'spoken;
            }
        }
    }
    figures.first_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    let (done, most) = memory::most(|| memory::of(&[pid]), turn).await;
    done??;
    figures.busy_mib.push(most);
    child.kill().await?;
    Ok(())
}

fn start(program: &Path, model: &str, home: &Path, workspace: &Path) -> Result<Child> {
    let configuration = json!({
        "provider": { "scripted": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": model, "apiKey": "none" },
            "models": { "scripted": { "name": "scripted" } },
        } },
        "model": "scripted/scripted",
        "share": "disabled",
        "autoupdate": false,
    });
    let child = Command::new(program)
        .args(["serve", "--hostname", "127.0.0.1", "--port", &PORT.to_string()])
        .current_dir(workspace)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("OPENCODE_CONFIG_CONTENT", configuration.to_string())
        // Without a way out of this machine it would wait for these.
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1")
        .env("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1")
        .env("npm_config_fetch_retries", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

async fn serves(client: &Client, base: &str) -> bool {
    let asked = client.get(format!("{base}/global/health")).timeout(PATIENCE).send().await;
    asked.is_ok_and(|answer| answer.status().is_success())
}
