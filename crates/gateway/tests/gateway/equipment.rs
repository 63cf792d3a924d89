//! An agent's repository, packages and MCP servers, as HTTP clients give and see them.

use paddock_api::agent::{CredentialSecretRef, Repo};
use serde_json::{Value, json};

use super::support::{Reply, TestGateway};

/// In every secret value; it must be nowhere but in Secrets.
const SECRET: &str = "hunter2";

async fn ask(gateway: &TestGateway, method: &str, path: &str, body: Value) -> Reply {
    let reply = gateway.ask(method, path, Some(body)).await;
    assert!(!reply.body.to_string().contains(SECRET), "{reply:?}");
    reply
}

#[tokio::test]
async fn an_agent_is_equipped_and_shown_without_its_secrets() {
    let gateway = TestGateway::start().await;
    let body = json!({
        "model": "m", "repo_url": "https://github.com/acme/app", "requirements": "ruff==0.6.9\n",
        "env_vars": {"GITHUB_TOKEN": "hunter2"},
        "mcp_servers": [
            {"name": "docs", "url": "https://docs.example/mcp", "headers": {"Authorization": "Bearer hunter2"}},
            {"name": "files", "command": ["npx", "server"], "env": {"KEY": "hunter2"}},
        ],
    });
    let reply = ask(&gateway, "POST", "/agents", body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let shown = &reply.body;
    assert_eq!(
        (&shown["repo_url"], &shown["branch"]),
        (&json!("https://github.com/acme/app"), &json!("main"))
    );
    assert_eq!(shown["requirements"], json!({"pip": ["ruff==0.6.9"], "npm": []}));
    let masked = json!([
        {"name": "docs", "url": "https://docs.example/mcp", "headers": {"Authorization": "***"}},
        {"name": "files", "command": ["npx", "server"], "env": {"KEY": "***"}},
    ]);
    assert_eq!(shown["mcp_servers"], masked);

    let id = shown["id"].as_str().unwrap();
    let secret = format!("paddock-env-{id}");
    let agent = gateway.cluster.agent(id).unwrap();
    assert!(!serde_json::to_string(&agent).unwrap().contains(SECRET));
    let token = CredentialSecretRef { name: secret.clone(), key: Some("GITHUB_TOKEN".into()) };
    assert_eq!(agent.spec.repo.unwrap().credential_secret_ref, Some(token));
    let stored = gateway.cluster.values(&secret);
    assert_eq!(stored["mcp.docs.Authorization"], "Bearer hunter2");
    assert_eq!((stored["mcp.files.KEY"].as_str(), stored.len()), ("hunter2", 3));

    // Sent back as it was shown, nothing changes.
    let writes = gateway.cluster.writes().len();
    let same =
        json!({"mcp_servers": masked, "requirements": shown["requirements"], "repo_url": shown["repo_url"]});
    let path = format!("/agents/{id}");
    assert_eq!(ask(&gateway, "PATCH", &path, same).await.body, reply.body);
    assert_eq!(gateway.cluster.writes().len(), writes);
}

#[tokio::test]
async fn a_change_takes_away_what_it_says_and_its_values() {
    let gateway = TestGateway::start().await;
    let body = json!({
        "model": "m", "repo_url": "https://git.example/app", "branch": "dev", "requirements": {"npm": ["prettier@3"]},
        "env_vars": {"GIT_TOKEN": "hunter2"},
        "mcp_servers": [{"name": "docs", "url": "https://docs.example/mcp", "headers": {"A": "hunter2", "B": "hunter2 b"}}],
    });
    let made = ask(&gateway, "POST", "/agents", body).await;
    let id = made.body["id"].as_str().unwrap().to_owned();
    let path = format!("/agents/{id}");
    let secret = format!("paddock-env-{id}");
    let keys = || gateway.cluster.values(&secret).into_keys().collect::<Vec<_>>();

    let fewer = json!({"mcp_servers": [{"name": "docs", "url": "https://docs.example/mcp", "headers": {"B": "***"}}]});
    assert_eq!(ask(&gateway, "PATCH", &path, fewer).await.status, 200);
    assert_eq!(keys(), ["GIT_TOKEN", "mcp.docs.B"]);
    let moved = json!({"mcp_servers": [{"name": "docs", "url": "https://elsewhere.example", "headers": {"B": "***"}}]});
    assert_eq!(ask(&gateway, "PATCH", &path, moved).await.error(), (400, "bad_request"));

    let none = json!({"env_vars": {}, "mcp_servers": [], "requirements": ""});
    let shown = ask(&gateway, "PATCH", &path, none).await.body;
    assert_eq!((&shown["mcp_servers"], &shown["requirements"]), (&json!([]), &json!({"pip": [], "npm": []})));
    assert!(keys().is_empty(), "{:?}", keys());
    let repo = Repo { url: "https://git.example/app".into(), branch: Some("dev".into()), ..Repo::default() };
    assert_eq!(
        gateway.cluster.agent(&id).unwrap().spec.repo,
        Some(repo),
        "without the credential that is gone"
    );

    let shown = ask(&gateway, "PATCH", &path, json!({"repo_url": null})).await.body;
    assert_eq!((&shown["repo_url"], &shown["branch"]), (&json!(null), &json!("dev")));
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_advice() {
    let gateway = TestGateway::start().await;
    for (field, value, code, says) in [
        ("repo_url", json!("https://me:hunter2@github.com/a/b"), "bad_request", "GIT_TOKEN"),
        ("repo_url", json!("git@github.com:a/b"), "bad_request", "https://"),
        ("mcp_servers", json!(["mcp-id-1"]), "unsupported", "describe each server"),
        (
            "mcp_servers",
            json!([{"name": "a", "url": "https://h", "headers": {"A": 1}}]),
            "bad_request",
            "each must be",
        ),
        ("requirements", json!("--index-url https://me:hunter2@h"), "bad_request", "options"),
        ("requirements", json!("app @ https://me:hunter2@h/app.whl"), "bad_request", "PIP_INDEX_URL"),
        ("skill_ids", json!(["x"]), "unsupported", "spec.skills"),
        ("tools", json!([{}]), "unsupported", "all tools"),
    ] {
        let body = json!({"model": "m", field: value});
        let reply = gateway.ask("POST", "/agents", Some(body)).await;
        assert_eq!(reply.error(), (400, code), "{reply:?}");
        let sentence = reply.body["error"].as_str().unwrap();
        assert!(sentence.starts_with(&format!("{field}: ")) && sentence.contains(says), "{sentence}");
    }
    assert!(gateway.cluster.agents().is_empty());
}
