//! Specs that make no sense are refused by `kubectl apply`, with a sentence that a person can act on.

use std::time::Duration;

use paddock_e2e::objects::{agent, session, session_with_spec};
use paddock_e2e::{Scenario, Share, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);

/// Applies a manifest that must be refused with all of `words` in the message.
async fn refused(s: &Scenario, what: &str, manifest: Value, words: &[&str]) {
    s.record_manifest(&manifest);
    let said = s.kubectl.apply(&manifest).await.refused();
    for word in words {
        assert!(said.contains(word), "{what}: the refusal does not say {word:?}:\n{said}");
    }
    s.log(&format!("{what}: {}", said.trim().lines().next_back().unwrap_or_default().trim()));
}

#[tokio::test]
async fn are_refused_at_apply() {
    scenario("bad specs", Share::Shared, LIMIT, async |s| {
        let ns = s.env.namespace.as_str();
        let n = |what: &str| s.name(what);
        let inline = json!({ "model": "scripted" });
        let reference = json!({ "name": "a" });
        let with_env = |name: &str| json!({ "env": [{ "name": name, "value": "x" }] });

        let both = json!({ "agentRef": reference, "agent": inline });
        refused(s, "both agents", session_with_spec(ns, &n("both"), both), &["exactly one of agentRef"])
            .await;
        let neither = session_with_spec(ns, &n("neither"), json!({}));
        refused(s, "no agent", neither, &["exactly one of agentRef"]).await;
        let bad = session(ns, &n("env"), "a", &with_env("1X"));
        refused(s, "a bad env name", bad, &["spec.env[0].name", "should match"]).await;
        for name in ["PATH", "PADDOCK_MODEL_API_KEY", "OPENCODE_CONFIG"] {
            let bad = session(ns, &n("reserved"), "a", &with_env(name));
            refused(s, "a reserved env name", bad, &["reserved", name.split('_').next().unwrap()]).await;
            refused(s, "the same in an Agent", agent(ns, &n("reserved"), &with_env(name)), &["reserved"])
                .await;
        }
        for text in ["5 minutes", "soon", "-3s", "1d", ""] {
            let bad = agent(ns, &n("duration"), &json!({ "lifecycle": { "turnTimeout": text } }));
            refused(s, "a bad duration", bad, &["spec.lifecycle.turnTimeout"]).await;
        }
        let long = format!("{}-{}", n("long"), "x".repeat(64));
        let words = ["at most 63 characters"];
        refused(s, "a long Session name", session(ns, &long, "a", &json!({})), &words).await;
        refused(s, "a long Agent name", agent(ns, &long, &json!({})), &words).await;
        let no_model = agent(ns, &n("model"), &json!({ "model": "" }));
        refused(s, "an Agent without a model", no_model, &["spec.model"]).await;
        let harness = agent(ns, &n("harness"), &json!({ "harness": "Not A Name" }));
        refused(s, "a bad harness name", harness, &["spec.harness"]).await;
        for (kind, package) in
            [("pip", "app @ https://me:hunter2@h/app.whl"), ("npm", "git+https://hunter2@h/app.git")]
        {
            let bad = agent(ns, &n("package"), &json!({ "requirements": { kind: [package] } }));
            refused(
                s,
                "a password in a package's URL",
                bad,
                &["requirements", "user or password in its URL"],
            )
            .await;
        }
        let pattern = json!({ "permissions": { "deny": [{ "tool": "Fetch", "pattern": "x" }] } });
        let words = ["pattern is for tool: Shell only"];
        refused(s, "a pattern for pages", agent(ns, &n("deny"), &pattern), &words).await;
        let tool = json!({ "permissions": { "deny": [{ "tool": "bash" }] } });
        refused(s, "a tool of one harness", agent(ns, &n("tool"), &tool), &["Shell", "Fetch"]).await;
        let typo = session(ns, &n("typo"), "a", &json!({ "promt": "hello" }));
        refused(s, "a typing error", typo, &["unknown field", "spec.promt"]).await;
        let state = session(ns, &n("state"), "a", &json!({ "state": "Paused" }));
        refused(s, "an unknown state", state, &["spec.state", "Stopped"]).await;
        let pool = json!({
            "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
            "kind": "SandboxWarmPool",
            "metadata": { "namespace": ns, "name": n("negative") },
            "spec": { "replicas": -1, "sandboxTemplateRef": { "name": "a" } },
        });
        refused(s, "negative replicas", pool, &["spec.replicas", "greater than or equal to 0"]).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_fixed_cannot_be_changed() {
    scenario("immutable fields", Share::Shared, LIMIT, async |s| {
        let ns = s.env.namespace.as_str();
        let name = s.name("fixed");
        let missing = s.name("missing");
        s.apply(&session(ns, &name, &missing, &json!({ "prompt": "!say first" }))).await;
        let other = session(ns, &name, "another", &json!({ "prompt": "!say first" }));
        refused(s, "another agent", other, &["immutable", "agentRef"]).await;
        let inline = json!({ "agent": { "model": "scripted" }, "prompt": "!say first" });
        refused(s, "an inline agent", session_with_spec(ns, &name, inline), &["agent"]).await;
        let prompt = session(ns, &name, &missing, &json!({ "prompt": "!say other" }));
        refused(s, "another prompt", prompt, &["prompt is immutable"]).await;
        let title = session(ns, &name, &missing, &json!({ "prompt": "!say first", "title": "new" }));
        s.apply(&title).await;
        let stopped = json!({ "prompt": "!say first", "state": "Stopped" });
        s.apply(&session(ns, &name, &missing, &stopped)).await;
        let again = session(ns, &name, &missing, &json!({ "prompt": "!say first", "state": "Running" }));
        refused(s, "running again", again, &["stopped session"]).await;
    })
    .await;
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    scenario("kubectl explain", Share::Shared, LIMIT, async |s| {
        for field in ["sessions.spec.agentRef", "sessions.status.reason", "agents.spec.lifecycle.turnTimeout"]
        {
            let said = s.kubectl.run(&["explain", field]).await.succeeded();
            let description = said.split("DESCRIPTION:").nth(1).unwrap_or_default().trim();
            assert!(!description.is_empty() && !description.starts_with('<'), "{field}:\n{said}");
        }
        let pool = s.kubectl.run(&["explain", "sandboxwarmpools.spec.replicas"]).await.succeeded();
        assert!(pool.contains("sandboxes"), "{pool}");
        let short = s.kubectl.run(&["get", "ses,swp"]).await.succeeded();
        assert!(short.contains(&s.env.default_pool), "short names work: {short}");
        let row = s.kubectl.row("swp", &s.env.default_pool).await;
        assert!(!row.cell("DESIRED").is_empty() && !row.cell("AGE").is_empty(), "{row:?}");
    })
    .await;
}
