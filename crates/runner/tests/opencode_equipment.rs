//! What a session is equipped with, seen by the model of the real opencode. Needs `PADDOCK_TEST_OPENCODE`, as opencode.rs.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::fs;
use std::io::Write;
use std::time::Instant;

use paddock_runnerapi::{EnvVar, Equipment, McpServer, McpTransport, Repo, Skill, TextFile};
use paddock_testkit::ScriptedModel;
use support::git_host::{git, repository};
use support::{Pod, equipped, mcp};

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

/// A registry of packages that is not there.
const NOBODY: &str = "http://127.0.0.1:9/";

fn opencode() -> Option<String> {
    let variable = "PADDOCK_TEST_OPENCODE";
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
    if path.is_none() {
        report!("skipped: {variable} names no opencode binary");
    }
    path
}

async fn pod(opencode: &str, model: &ScriptedModel, registry: &str) -> Pod {
    let mut pod = Pod::new(&[opencode], &model.base_url());
    // As in a pod that may not reach it.
    pod.env.push(("npm_config_registry".into(), registry.to_owned()));
    pod.start();
    pod.ready().await;
    fs::create_dir_all(pod.dir.join("host")).unwrap();
    pod
}

/// A repository with an AGENTS.md and `more` files.
fn repo(pod: &Pod, more: &[(&str, &str)]) -> Option<Repo> {
    let bare = repository(&pod.dir.join("host"));
    let work = pod.dir.join("host/work");
    for (path, content) in [&[("AGENTS.md", "Always speak of walruses.")], more].concat() {
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::write(work.join(path), content).unwrap();
    }
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "more"]);
    git(&work, &["push", "--quiet", bare.to_str().unwrap(), "trunk"]);
    Some(Repo {
        url: format!("file://{}", bare.display()),
        branch: None,
        credential: None,
        full_history: false,
    })
}

fn skill() -> Skill {
    let content = "---\nname: otter-care\ndescription: How otters are fed.\n---\nWith fish.\n";
    let file = TextFile { path: "SKILL.md".into(), content: content.into() };
    Skill { name: "otter-care".into(), files: vec![file] }
}

fn var(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: value.into() }
}

async fn servers(pod: &Pod) -> Vec<McpServer> {
    let program = mcp::program(&pod.dir).display().to_string();
    let stdio =
        McpTransport::Stdio { command: vec!["python3".into(), program], env: vec![var("TOKEN", "t0k")] };
    let http =
        McpTransport::Http { url: mcp::server().await, headers: vec![var("Authorization", mcp::MCP_TOKEN)] };
    vec![
        McpServer { name: "local".into(), transport: stdio },
        McpServer { name: "remote".into(), transport: http },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_seen_without_loading_anything_again() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mut pod = pod(&opencode, &model, NOBODY).await;
    let asked = equipped(Equipment { repo: repo(&pod, &[]), ..Equipment::default() });
    let begun = Instant::now();
    let activated = pod.activate(&asked).await;
    report!("repository alone: activation {:?}: {}", begun.elapsed(), activated.body["steps"]);
    assert_eq!(activated.status, 200, "{}\n{}", activated.body, pod.log());
    let begun = Instant::now();
    assert_eq!(
        pod.turn("t1", "!run git log --format=%s -1; cat README.md").await.text().trim(),
        "ran: more\nthree"
    );
    report!("first turn, a tool call in it: {:?}", begun.elapsed());
    assert!(model.log()[0].system.contains("Always speak of walruses."), "{}", model.log()[0].system);
    // The conversation outlives a restart, whose opencode takes the repository for its project.
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.activate(&asked).await.body, activated.body);
    let again = pod.turn("t2", "!say on").await;
    assert_eq!(again.body["info"]["sessionID"], activated.body["harness_session_id"], "{}", again.body);
    assert_eq!(model.log().pop().unwrap().earlier_user_texts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_reaches_the_model_and_is_there_after_a_restart() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    // One that takes connections and says nothing, as where a network policy drops packets.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = format!("http://{}/", silent.local_addr().unwrap());
    let mut pod = pod(&opencode, &model, &registry).await;
    let own = "---\nname: seal-care\ndescription: How seals are fed.\n---\nx\n";
    let agent = "---\ndescription: helps\nmode: primary\n---\nYou are the helper.\n";
    // Such a file makes opencode install a package of its own first, which it cannot here.
    let tool = "export default { description: 'greets', args: {}, async execute() { return 'hi' } }\n";
    let more = [
        (".opencode/skill/seal-care/SKILL.md", own),
        (".opencode/agent/helper.md", agent),
        (".opencode/tool/hello.ts", tool),
    ];
    let mut asked = equipped(Equipment {
        repo: repo(&pod, &more),
        files: vec![TextFile { path: "notes/task.md".into(), content: "the task".into() }],
        skills: vec![skill()],
        mcp_servers: servers(&pod).await,
        ..Equipment::default()
    });
    asked.agent.env.push(var("COLOUR", "blue"));
    let begun = Instant::now();
    let activated = pod.activate(&asked).await;
    report!("everything: activation {:?}: {}", begun.elapsed(), activated.body["steps"]);
    assert_eq!(activated.status, 200, "{}\n{}", activated.body, pod.log());
    assert!(!pod.log().contains("it is asked again"), "{}", pod.log());
    for life in ["new", "restarted"] {
        let begun = Instant::now();
        let turn = pod.turn(&format!("t-{life}"), "!run cat notes/task.md").await;
        let took = begun.elapsed();
        report!("first turn, {life}: {took:?}");
        // opencode's npm would ask an unreachable registry again for 70 s.
        assert!(took.as_secs() < 30, "{took:?}");
        assert_eq!(turn.text().trim(), "ran: the task", "{}", turn.body);
        let seen = model.log().pop().unwrap();
        for tool in ["hello", "local_whoami_t0k_blue", "remote_lookup"] {
            assert!(seen.tools.iter().any(|name| name == tool), "{tool}: {:?}", seen.tools);
        }
        for text in ["Always speak of walruses.", "How otters are fed.", "How seals are fed."] {
            assert!(seen.system.contains(text), "{life}, {text}: {}", seen.system);
        }
        if life == "new" {
            pod.kill();
            pod.start();
            pod.ready().await;
            assert!(!pod.log().contains("goes on without"), "{}", pod.log());
        }
    }
    for secret in ["mcp-secret", "t0k"] {
        assert!(!pod.log().contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skills_alone_and_mcp_servers_that_cannot_be_used() {
    let Some(opencode) = opencode() else { return };
    let model = ScriptedModel::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let pod = pod(&opencode, &model, NOBODY).await;
    let mut asked = equipped(Equipment { skills: vec![skill()], ..Equipment::default() });
    let stdio = |program: &str| McpTransport::Stdio { command: vec![program.into()], env: vec![] };
    let http =
        |url: String| McpTransport::Http { url, headers: vec![var("Authorization", "Bearer wrong-token")] };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for transport in [
        stdio("no-such-program"),
        stdio("false"),
        http(mcp::server().await),
        http(format!("http://{nobody}/mcp")),
    ] {
        asked.agent.equipment.mcp_servers = vec![McpServer { name: "broken".into(), transport }];
        let begun = Instant::now();
        let refused = pod.activate(&asked).await;
        report!("{:?}: {}", begun.elapsed(), refused.body);
        assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("activation_failed")));
        let error = refused.body["error"].as_str().unwrap();
        assert!(error.contains("\"broken\"") && !error.contains("wrong-token"), "{error}");
    }
    asked.agent.equipment.mcp_servers = Vec::new();
    let activated = pod.activate(&asked).await;
    report!("a skill: {}", activated.body["steps"]);
    assert!(!pod.log().contains("it is asked again"), "{}", pod.log());
    let begun = Instant::now();
    pod.turn("t1", "!say hi").await;
    report!("first turn: {:?}", begun.elapsed());
    let seen = model.log().pop().unwrap();
    assert!(seen.system.contains("How otters are fed."), "{}", seen.system);
    assert!(!seen.tools.iter().any(|tool| tool.contains("broken")), "{:?}", seen.tools);
}
