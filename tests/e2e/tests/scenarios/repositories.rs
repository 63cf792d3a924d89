//! Private repositories: cloned for the session, worked in, pushed to. What cannot be cloned ends the session with advice.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use paddock_api::session::Reason;
use paddock_api::{Phase, Session};
use paddock_e2e::git_host::{GitHost, Repository, secret};
use paddock_e2e::objects::Kind;
use paddock_e2e::pool::{self, MARK};
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::secrecy::clean;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario, wait};
use serde_json::{Value, json};

use crate::broken_agents::fails;

const LIMIT: Duration = Duration::from_secs(900);

async fn host(s: &Scenario) -> (GitHost<'_>, Repository, String) {
    let text = s.word("text");
    let (host, mut repositories) = GitHost::start(s, &[("app", &[("README.md", &text)])]).await;
    (host, repositories.remove(0), text)
}

/// The agent changes a file and pushes that; the host has it on `branch`.
async fn works_and_pushes(
    s: &Scenario,
    host: &GitHost<'_>,
    app: &Repository,
    session: &str,
    text: &str,
    branch: &str,
) {
    let done = s.word("done");
    let command = format!(
        "!run cat README.md; echo {done} >> README.md && git commit --quiet --all --message {done} && git push --quiet 2>&1 && echo pushed"
    );
    let reply = s.http.say(session, &command).await.reply();
    assert!(reply.contains(text) && reply.contains("pushed"), "{reply}");
    assert_eq!(
        host.git(app, &["log", "-1", "--format=%an: %s", branch]).await,
        format!("paddock agent: {done}")
    );
    assert_eq!(host.git(app, &["show", &format!("{branch}:README.md")]).await, format!("{text}\n{done}"));
}

#[tokio::test]
async fn are_cloned_worked_in_and_pushed_to() {
    scenario("a private repository", Share::Shared, LIMIT, async |s| {
        let (host, app, text) = host(s).await;
        let agent = s.agent("clones", json!({ "repo": app.spec() })).await;
        let session = s.ready_session("clones", &agent).await;
        measure::startup("opencode, a private repository", &session);
        let (id, pod) = (name_of(&session), pod_of(&session).name);
        works_and_pushes(s, &host, &app, &id, &text, "main").await;

        // Its own fetches have the credential too.
        let theirs = "cd /srv/app.work && git pull --quiet /srv/app.git main && echo theirs >theirs.txt && git add . \
                      && git -c user.name=t -c user.email=t@t commit --quiet --message theirs && git push --quiet /srv/app.git main";
        s.kubectl.exec(&s.name("git"), &["sh", "-c", theirs]).await.succeeded();
        let reply = s.http.say(&id, "!run git pull --quiet 2>&1; cat theirs.txt").await.reply();
        assert!(reply.contains("theirs"), "{reply}");

        let token = [("token", app.token.as_str())];
        let everything = "!run cat .git/config ~/.gitconfig; env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'";
        let shown = s.http.say(&id, everything).await.reply();
        assert!(shown.contains(&app.url), "the search sees the repository's URL: {shown}");
        clean("git's configuration, an environment or a command line", &shown, &token);
        s.kept_secret(&token, &pod).await;
        s.kept_secret_by_pod(&token, &pod).await;
    })
    .await;
}

#[tokio::test]
async fn are_named_over_http_with_a_token_among_the_variables() {
    scenario("a private repository, over HTTP", Share::Shared, LIMIT, async |s| {
        let (host, app, text) = host(s).await;
        let agent = async |branch: &str, token: &str| {
            let body = json!({
                "model": "scripted", "repo_url": app.url, "branch": branch, "env_vars": { "GIT_TOKEN": token },
            });
            let made = s.http.post("/agents", &body).await.with_status(200);
            let id = made["id"].as_str().expect("an id").to_owned();
            s.record(Kind::Agent, &s.env.namespace, &id);
            id
        };
        let session = async |agent: &str, status: u16| {
            let made = s.http.post(&format!("/agents/{agent}/session?wait=120s"), &json!({})).await;
            let made = made.with_status(status);
            let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
            s.record(Kind::Session, &s.env.namespace, &id);
            id
        };
        let good = session(&agent("dev", &app.token).await, 200).await;
        s.ready(&good).await;
        works_and_pushes(s, &host, &app, &good, &text, "dev").await;

        let wrong = s.word("wrong");
        for (branch, token, says) in [("dev", &wrong, "refuses the credential"), ("nowhere", &app.token, "\"nowhere\"")] {
            let id = session(&agent(branch, token).await, 200).await;
            s.ended(&id, Phase::Failed).await;
            let answer = s.http.get(&format!("/sessions/{id}")).await;
            let reason = answer.with_status(200)["failure_reason"].as_str().unwrap_or_default().to_owned();
            assert!(reason.starts_with("ActivationFailed: ") && reason.contains(says), "{reason}");
            s.log(&reason);
            let told = [("token", app.token.as_str()), ("wrong token", &wrong)];
            clean("an answer", &answer.body_text(), &told);
            let refused = s.http.say(&id, "hello").await;
            assert!(refused.status.is_client_error(), "{}", refused.body_text());
            clean("an error", &refused.body_text(), &told);
            s.kept_secret(&told, &id).await;
        }
    })
    .await;
}

/// The one waiting pod of a pool of this scenario.
async fn waiting_pod(s: &Scenario, pool: &str) -> String {
    pool::full(s, &s.env.namespace, pool).await;
    let selector = ListParams::default().labels(&format!("{MARK}={}", s.nonce()));
    let pods = s.api::<Pod>().list(&selector).await.expect("a list of pods").items;
    assert_eq!(pods.len(), 1, "one pod waits");
    name_of(&pods[0])
}

#[tokio::test]
async fn that_cannot_be_cloned_end_the_session_with_advice() {
    scenario("repositories that cannot be cloned", Share::Shared, LIMIT, async |s| {
        let (_host, app, _) = host(s).await;
        let (wrong, name) = (s.word("wrong"), s.name("wrong"));
        s.apply(&secret(&s.env.namespace, &name, &json!({ "token": wrong }))).await;
        let secrets = [("token", app.token.as_str()), ("wrong token", &wrong)];
        let pool = s.private_pool("refused").replicas(1).create().await;
        let pod = waiting_pod(s, &pool).await;
        let denied = json!({ "url": app.url, "credentialSecretRef": { "name": name } });
        let agent = s.agent("refused", json!({ "repo": denied, "poolRef": { "name": pool } })).await;

        // The pod goes with its session, and its log with it.
        let follow = ["logs", "--follow", &pod, "--container", "harness"];
        let (log, ()) = tokio::join!(s.kubectl.run(&follow), async {
            let id = s.session("refused", &agent, Value::Null).await;
            fails(s, &id, Reason::ActivationFailed, "refuses the credential").await;
        });
        assert!(log.stdout.contains("git failed"), "the pod's log: {}{}", log.stdout, log.stderr);
        clean("the runner's log", &log.stdout, &secrets);

        let mut no_branch = app.spec();
        no_branch["branch"] = json!("nowhere");
        let nobody = json!({ "url": app.url });
        let elsewhere =
            json!({ "url": format!("http://{}.{}.svc/app.git", s.name("nobody"), s.env.namespace) });
        for (what, repo, says) in [
            ("nobranch", no_branch, "neither a branch nor a tag named \"nowhere\""),
            ("nobody", nobody, "asks for a credential"),
            ("elsewhere", elsewhere, "cannot be reached"),
        ] {
            let agent = s.agent(what, json!({ "repo": repo })).await;
            let id = s.session(what, &agent, Value::Null).await;
            fails(s, &id, Reason::ActivationFailed, says).await;
        }
        s.kept_secret(&secrets, &agent).await;

        // Corrected, it starts again.
        s.apply(&secret(&s.env.namespace, &name, &json!({ "token": app.token }))).await;
        let id = s.name("refused");
        s.http.post(&format!("/sessions/{id}/restart?wait=240s"), &json!({})).await.with_status(200);
        let session: Session = s.ready(&id).await;
        s.exec(&session, &["test", "-f", "/workspace/README.md"]).await.succeeded();
    })
    .await;
}

#[tokio::test]
async fn are_reached_where_a_network_policy_lets_their_pods() {
    scenario("egress to the git host", Share::Shared, LIMIT, async |s| {
        let (_host, app, _) = host(s).await;
        let pool = s.private_pool("fenced").replicas(1).create().await;
        let agent = s.agent("fenced", json!({ "repo": app.spec(), "poolRef": { "name": pool } })).await;
        let policy = |egress: Value| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": { "namespace": s.env.namespace, "name": s.name("egress") },
                "spec": {
                    "podSelector": { "matchLabels": { MARK: s.nonce() } },
                    "policyTypes": ["Egress"],
                    "egress": egress,
                },
            })
        };
        let names = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] });
        s.apply(&policy(json!([names]))).await;
        pool::full(s, &s.env.namespace, &pool).await;
        let id = s.session("fenced", &agent, Value::Null).await;
        fails(s, &id, Reason::ActivationFailed, "network policy").await;

        let to_host = json!({ "to": [{ "podSelector": { "matchLabels": { "e2e.paddock.dev/git-host": s.name("git") } } }] });
        s.apply(&policy(json!([names, to_host]))).await;
        // A policy holds some time after it was written.
        let mut number = 0;
        let session = wait::until("a session has its repository", LIVENESS, async || {
            number += 1;
            let id = s.session(&format!("let{number}"), &agent, Value::Null).await;
            let sessions = s.api::<Session>();
            let ended = wait::watch(&sessions, &id, "it ends or is Ready", LIVENESS, |session| {
                let phase = session.status.as_ref()?.phase;
                (phase == Phase::Ready || phase.is_final()).then(|| session.clone())
            });
            let session = ended.await;
            let status = session.status.clone().expect("a status");
            if status.phase == Phase::Ready { Ok(session) } else { Err(status.message) }
        })
        .await;
        s.exec(&session, &["test", "-f", "/workspace/README.md"]).await.succeeded();
    })
    .await;
}
