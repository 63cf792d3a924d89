//! Sessions whose pods clone and are given secrets, told as stories.

use std::time::Duration;

use paddock_runnerapi::{EnvVar, Equipment, GitCredential, McpTransport};
use paddock_testkit::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::objects::{NS, agent, session, text};
use crate::simulate;
use crate::users::{create, patch};
use crate::world::World;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn says(words: &'static str) -> impl Fn(&ApiServer) -> bool {
    move |server| {
        let session = server.object("sessions", NS, "one");
        session.is_some_and(|session| text(&session, "/status/message").contains(words))
    }
}

fn status(world: &World) -> Value {
    world.server.object("sessions", NS, "one").unwrap()["status"].clone()
}

/// What the session's pod was given.
fn equipment(world: &World) -> Equipment {
    let session = world.server.object("sessions", NS, "one").unwrap();
    world.nodes.lock().equipments[text(&session, "/status/pod/uid")].0.clone()
}

#[test]
fn what_an_agent_refers_to_is_read_for_the_pod_and_is_nowhere_else() {
    simulate(async {
        let mut world = World::healthy(1, 1);
        let key = json!({"secretKeyRef": {"name": "keys", "key": "header"}});
        let equipped = json!({
            "repo": {"url": "https://git/app", "branch": "main", "credentialSecretRef": {"name": "keys"}},
            "files": [{"path": "a", "content": "inline"}, {"path": "b", "configMapKeyRef": {"name": "texts", "key": "b"}}],
            "skills": [{"name": "review", "configMapRef": {"name": "skill"}}],
            "mcpServers": [{"name": "docs", "http": {"url": "https://d", "headers": [{"name": "Authorization", "valueFrom": key}]}}],
            "requirements": {"pip": ["ruff"]},
        });
        create(&world.server, "agents", agent("equipped", equipped));
        world.start();
        world.until_pool_is_full().await;
        create(&world.server, "sessions", session("one", "equipped"));
        world
            .until(
                "word of the Secret",
                seconds(5),
                says("the credential of the repository: there is no Secret"),
            )
            .await;
        // base64 of "hunter2\n" and "Bearer hunter2"
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "keys", "labels": {"paddock.dev/env": "true"}},
            "data": {"token": "aHVudGVyMgo=", "header": "QmVhcmVyIGh1bnRlcjI="}});
        create(&world.server, "secrets", secret);
        world.until("word of the ConfigMap", seconds(10), says("file b: there is no ConfigMap")).await;
        let map = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        create(&world.server, "configmaps", map("texts", json!({"b": "from a map"})));
        create(&world.server, "configmaps", map("skill", json!({"README.md": "x"})));
        world
            .until(
                "word of SKILL.md",
                seconds(10),
                says("skill review: ConfigMap \"skill\" has no key \"SKILL.md\""),
            )
            .await;
        patch(&world.server, "configmaps", "skill", json!({"data": {"SKILL.md": "how"}}));
        world.until_ready("one", seconds(10)).await;

        let given = equipment(&world);
        let repo = given.repo.unwrap();
        let token = GitCredential { username: "x-access-token".into(), password: "hunter2".into() };
        assert_eq!(
            (repo.url.as_str(), repo.branch.as_deref(), repo.credential),
            ("https://git/app", Some("main"), Some(token))
        );
        let files: Vec<_> =
            given.files.iter().map(|file| (file.path.as_str(), file.content.as_str())).collect();
        assert_eq!(files, [("a", "inline"), ("b", "from a map")]);
        assert_eq!((given.skills[0].name.as_str(), given.skills[0].files.len()), ("review", 2));
        let header = EnvVar { name: "Authorization".into(), value: "Bearer hunter2".into() };
        assert_eq!(
            given.mcp_servers[0].transport,
            McpTransport::Http { url: "https://d".into(), headers: vec![header] }
        );
        assert_eq!(given.requirements.pip, ["ruff"]);
        for plural in ["sessions", "agents", "sandboxes", "pods", "events"] {
            for object in world.server.objects(plural) {
                let object = object.to_string();
                assert!(!object.contains("hunter2") && !object.contains("aHVudGVyMg"), "{object}");
            }
        }
    });
}

#[test]
fn a_long_clone_outlives_the_leader_and_stays_with_its_pod() {
    simulate(async {
        let mut world = World::healthy(2, 3);
        create(&world.server, "agents", agent("cloner", json!({"repo": {"url": "https://git/app"}})));
        world.nodes.lock().cloning.0 = seconds(30);
        world.start();
        world.until_pool_is_full().await;
        world.start();
        world.pass(seconds(4)).await;
        create(&world.server, "sessions", session("one", "cloner"));
        world.until("step", seconds(3), says("cloning the repository")).await;
        let before = status(&world);
        assert_eq!((&before["step"], &before["reason"]), (&json!("cloning_repo"), &json!("Activating")));
        let leader = world.processes.remove(0);
        leader.crash();
        world.pass(seconds(10)).await;
        assert_eq!(status(&world), before, "nothing new is to be told");
        // Others are served meanwhile, by whoever leads now.
        create(&world.server, "sessions", session("two", "coder"));
        world.until_ready("two", seconds(2)).await;
        world.until_ready("one", seconds(40)).await;
        assert_eq!(status(&world)["sandbox"], before["sandbox"]);
        assert_eq!(
            world.nodes.lock().equipments.values().filter(|(given, _)| given.repo.is_some()).count(),
            1
        );
    });
}

#[test]
fn a_wrong_branch_costs_one_pod_and_a_restart_after_it_was_mended_goes_on() {
    simulate(async {
        let mut world = World::healthy(3, 3);
        create(
            &world.server,
            "agents",
            agent("cloner", json!({"repo": {"url": "https://git/app", "branch": "mian"}})),
        );
        world.nodes.lock().cloning = (seconds(2), Some("branch \"mian\" is not there".into()));
        world.start();
        world.until_pool_is_full().await;
        create(&world.server, "sessions", session("one", "cloner"));
        world.until("failure", seconds(10), says("branch \"mian\" is not there")).await;
        let failed = status(&world);
        assert_eq!((&failed["phase"], &failed["reason"]), (&json!("Failed"), &json!("ActivationFailed")));
        let tried = world.nodes.lock().claims.keys().next().unwrap().clone();
        let is_gone = move |server: &ApiServer| {
            server.objects("pods").iter().all(|pod| text(pod, "/metadata/uid") != tried)
        };
        world.until("end of its pod", seconds(3), is_gone).await;
        world.pass(seconds(5)).await;
        assert_eq!(world.nodes.lock().claims.len(), 1, "no other pod was given the session");

        world.nodes.lock().cloning.1 = None;
        patch(&world.server, "agents", "cloner", json!({"spec": {"repo": {"branch": "main"}}}));
        world.pass(seconds(1)).await;
        let now = world.server.now().to_string();
        patch(&world.server, "sessions", "one", json!({"spec": {"restartedAt": now}}));
        world.until_ready("one", seconds(10)).await;
        assert_eq!(equipment(&world).repo.unwrap().branch.as_deref(), Some("main"));
    });
}
