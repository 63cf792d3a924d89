//! One rule of a session's life per test.

use std::sync::Arc;

use jiff::SignedDuration;
use paddock_api::agent::EnvVar;
use paddock_api::labels;
use paddock_api::session::{DesiredState, Phase, Reason, StartupPath};
use paddock_core::ids::label;
use paddock_core::op::{AbsentValue, Op, SecretEnv};
use paddock_core::pod::{ContainerState, PodPhase};

use crate::cluster::Event;
use crate::story::{NS, Story, agent, key, pool, session, template};

#[test]
fn a_warm_session_is_ready_after_two_writes() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    story.settle();
    let status = story.status("s1");
    assert_eq!(status.phase, Phase::Ready);
    assert_eq!(status.startup.unwrap().path, StartupPath::Warm);
    let until_ready: Vec<_> =
        story.ops.iter().take_while(|op| !matches!(op, Op::PatchSessionStatus(_))).collect();
    let writes = until_ready.iter().filter(|op| matches!(op, Op::PatchSandbox(_))).count();
    assert_eq!(writes, 1, "besides the status write only the assignment comes before Ready");
    assert!(until_ready.iter().any(|op| matches!(op, Op::Activate(_))));
}

#[test]
fn the_pool_refills_and_the_adopted_pod_carries_its_session() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    story.run_for(15);
    assert_eq!(story.cluster.pods.len(), 3);
    let pool = &story.cluster.pools[&key("opencode")];
    assert_eq!(pool.status.as_ref().unwrap().ready_replicas, 2);
    let pod = &story.cluster.pods[&key(&story.status("s1").pod.unwrap().name)];
    assert_eq!(pod.labels.get(labels::SESSION).map(String::as_str), Some("s1"));
    assert!(!pod.labels.contains_key(labels::WARM_POOL_SANDBOX));
}

#[test]
fn an_empty_pool_means_a_cold_start_from_the_same_template() {
    let mut story = Story::with_pool(0);
    story.cluster.add_session(session("s1"));
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Creating);
    story.run_for(10);
    assert_eq!(story.phase("s1"), Phase::Ready);
    assert_eq!(story.status("s1").startup.unwrap().path, StartupPath::Cold);
    assert_eq!(story.cluster.pods.len(), 1);
}

#[test]
fn without_any_pool_the_harness_template_serves() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_agent(agent("coder"));
    story.cluster.add_session(session("s1"));
    story.run_for(10);
    assert_eq!(story.phase("s1"), Phase::Ready);
}

#[test]
fn what_is_missing_gets_a_grace_and_then_a_reason() {
    let mut story = Story::empty();
    story.cluster.add_session(session("s1"));
    story.run_for(3);
    assert_eq!(story.phase("s1"), Phase::Creating);
    story.run_for(3);
    assert_eq!(story.status("s1").reason, Some(Reason::AgentNotFound));
    assert_eq!(story.phase("s1"), Phase::Failed);

    story.cluster.add_agent(agent("coder"));
    story.cluster.add_session(session("s2"));
    story.run_for(6);
    assert_eq!(story.status("s2").reason, Some(Reason::TemplateNotFound));
}

#[test]
fn an_agent_that_arrives_with_its_session_is_waited_for() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_session(session("s1"));
    story.run_for(2);
    story.cluster.add_agent(agent("coder"));
    story.run_for(10);
    assert_eq!(story.phase("s1"), Phase::Ready);
}

/// A session of an agent that was changed a moment before; returns the story and what tells the engine of the change.
fn session_of_a_changed_agent() -> (Story, Event) {
    let mut story = Story::with_pool(1);
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.prompt = Some("new".into()));
    let change = story.cluster.events.pop().unwrap();
    let agent = story.cluster.agents[&key("coder")].metadata.clone();
    let seen = format!("{}/{}", agent.uid.unwrap(), agent.resource_version.unwrap());
    let mut session = session("s1");
    session.metadata.annotations = Some([(labels::AGENT_SEEN.to_owned(), seen)].into());
    story.cluster.add_session(session);
    (story, change)
}

fn prompts(story: &Story) -> Vec<Option<String>> {
    let activations = story.ops.iter().filter_map(|op| match op {
        Op::Activate(activation) => Some(activation.request.agent.prompt.clone()),
        _ => None,
    });
    activations.collect()
}

#[test]
fn a_change_of_the_agent_that_was_made_before_the_session_holds_for_it() {
    let (mut story, change) = session_of_a_changed_agent();
    story.settle();
    assert_eq!((story.phase("s1"), prompts(&story)), (Phase::Creating, vec![]));
    story.cluster.events.push(change);
    story.settle();
    assert_eq!((story.phase("s1"), prompts(&story)), (Phase::Ready, vec![Some("new".into())]));
    // The watch is cut: the API server itself is asked.
    let (mut story, _) = session_of_a_changed_agent();
    story.run_for(6);
    assert_eq!((story.phase("s1"), prompts(&story)), (Phase::Ready, vec![Some("new".into())]));
}

#[test]
fn what_was_seen_of_another_agent_of_the_same_name_holds_nothing_up() {
    let mut story = Story::with_pool(1);
    let mut session = session("s1");
    let seen = "another-uid/999999999".to_owned();
    session.metadata.annotations = Some([(labels::AGENT_SEEN.to_owned(), seen)].into());
    story.cluster.add_session(session);
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Ready);
}

#[test]
fn values_in_secrets_are_named_and_not_known() {
    let mut story = Story::with_pool(1);
    story.cluster.change_agent(&key("coder"), |agent| {
        agent.spec.env = vec![EnvVar::plain("PLAIN", "p"), EnvVar::from_secret("TOKEN", "secret", "token")];
    });
    let mut own = session("s1");
    own.spec.env = vec![EnvVar::from_secret("OWN", "other", "key")];
    story.cluster.add_session(own);
    story.settle();
    let activation = |story: &Story| {
        let last = story.ops.iter().rev().find_map(|op| match op {
            Op::Activate(activation) => Some((**activation).clone()),
            _ => None,
        });
        last.unwrap()
    };
    let first = activation(&story);
    let plain: Vec<_> = first.request.agent.env.iter().map(|e| (e.name.as_str(), e.value.as_str())).collect();
    assert_eq!(plain, [("PLAIN", "p")]);
    let named = |name: &str, secret: &str, key: &str| SecretEnv {
        name: name.into(),
        secret: secret.into(),
        key: key.into(),
    };
    assert_eq!(first.secret_env, [named("OWN", "other", "key"), named("TOKEN", "secret", "token")]);
    assert_eq!(first.absent, AbsentValue::Awaited);
    // A session that has run goes on without a value that is gone meanwhile.
    let now = story.cluster.now;
    story.cluster.change_session(&key("s1"), |session| session.spec.restarted_at = Some(now));
    story.run_for(20);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
    assert_eq!(activation(&story).absent, AbsentValue::LeftOut);
}

#[test]
fn a_start_that_takes_too_long_fails_and_keeps_no_pod() {
    let mut story = Story::with_pool(0);
    story.cluster.broken_templates.insert(labels::name_hash("opencode"));
    story.cluster.add_session(session("s1"));
    story.run_for(299);
    assert_eq!(story.phase("s1"), Phase::Creating);
    story.run_for(3);
    assert_eq!(story.status("s1").reason, Some(Reason::StartupTimeout));
    assert!(story.cluster.pods.is_empty());
}

#[test]
fn a_crash_loop_fails_the_session_with_the_reason() {
    let mut story = Story::with_pool(0);
    story.cluster.broken_templates.insert(labels::name_hash("opencode"));
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    let pod = story.cluster.pods.keys().next().unwrap().clone();
    let mut crashing = story.cluster.pods[&pod].clone();
    crashing.containers = vec![ContainerState {
        name: "harness".into(),
        restarts: 3,
        waiting_reason: Some("CrashLoopBackOff".into()),
        last_exit: Some("Error (exit code 1)".into()),
        ..ContainerState::default()
    }];
    story.cluster.replace_pod(crashing);
    story.run_for(1);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::CrashLoop)));
    assert!(status.message.contains("exit code 1"), "{}", status.message);
    assert!(story.cluster.pods.is_empty());
}

#[test]
fn a_session_whose_pod_is_deleted_is_dead_and_gets_no_second_pod() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(15);
    let pod = key(&story.status("s1").pod.unwrap().name);
    story.cluster.delete_pod(&pod);
    story.run_for(15);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Dead, Some(Reason::Deleted)));
    assert_eq!(story.cluster.pods.len(), 1, "only the pool's member is left");
    assert!(!story.cluster.sandboxes.values().any(|s| label(&s.metadata, labels::SESSION).is_some()));
}

#[test]
fn a_stopped_session_gives_its_pod_back() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(15);
    story.cluster.change_session(&key("s1"), |s| s.spec.state = DesiredState::Stopped);
    story.run_for(2);
    assert_eq!(story.status("s1").reason, Some(Reason::Stopped));
    assert_eq!(story.cluster.pods.len(), 1);
}

#[test]
fn a_pool_member_that_fails_is_replaced_and_one_that_waits_is_kept() {
    let mut story = Story::with_pool(1);
    let mut member = story.cluster.pods.values().next().unwrap().clone();
    let first = member.uid.clone();
    member.ready = false;
    member.phase = PodPhase::Pending;
    member.unschedulable = Some("0/1 nodes are available".into());
    story.cluster.replace_pod(member.clone());
    story.cluster.broken_templates.insert(labels::name_hash("opencode"));
    story.run_for(60);
    assert_eq!(story.cluster.pods.values().next().unwrap().uid, first);

    let mut member = story.cluster.pods.values().next().unwrap().clone();
    member.phase = PodPhase::Failed;
    member.unschedulable = None;
    story.cluster.replace_pod(member);
    story.cluster.broken_templates.clear();
    story.run_for(20);
    assert_eq!(story.cluster.pods.len(), 1);
    assert_ne!(story.cluster.pods.values().next().unwrap().uid, first);
}

#[test]
fn a_smaller_pool_gives_members_back_and_a_larger_one_makes_more() {
    let mut story = Story::with_pool(3);
    story.surge = 2;
    story.cluster.change_pool(&key("opencode"), |p| p.spec.replicas = 1);
    story.run_for(2);
    assert_eq!(story.cluster.pods.len(), 1);
    story.cluster.change_pool(&key("opencode"), |p| p.spec.replicas = 30);
    story.run_for(20);
    assert_eq!(story.cluster.pods.len(), 30);
}

#[test]
fn a_system_at_rest_writes_nothing() {
    let mut story = Story::with_pool(3);
    story.cluster.add_session(session("s1"));
    story.run_for(30);
    let before = story.cluster.writes;
    story.run_for(600);
    assert_eq!(story.cluster.writes, before);
}

#[test]
fn the_current_template_is_preferred() {
    let mut story = Story::with_pool(1);
    let mut newer = template("opencode");
    Arc::make_mut(&mut newer.spec.pod_template.spec)["containers"][0]["image"] = "opencode:2".into();
    story.cluster.put_template(newer);
    story.cluster.change_pool(&key("opencode"), |p| p.spec.replicas = 2);
    story.run_for(15);
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    let name = story.status("s1").sandbox.unwrap().name;
    let sandbox = &story.cluster.sandboxes[&key(&name)];
    let image = &sandbox.spec.pod_template.spec["containers"][0]["image"];
    assert_eq!(image, "opencode:2");
}

#[test]
fn a_named_pool_is_used_and_a_missing_one_reported() {
    let mut story = Story::with_pool(1);
    story.cluster.put_template(template("other"));
    story.cluster.add_pool(pool("other", 1));
    let mut picky = agent("picky");
    picky.spec.pool_ref = Some(paddock_api::agent::PoolRef { name: "other".into() });
    story.cluster.add_agent(picky);
    story.run_for(15);
    let mut s1 = session("s1");
    s1.spec.agent_ref.as_mut().unwrap().name = "picky".into();
    story.cluster.add_session(s1);
    story.run_for(1);
    assert!(story.status("s1").sandbox.unwrap().name.starts_with("other-"));

    let mut lost = agent("lost");
    lost.spec.pool_ref = Some(paddock_api::agent::PoolRef { name: "nowhere".into() });
    story.cluster.add_agent(lost);
    let mut s2 = session("s2");
    s2.spec.agent_ref.as_mut().unwrap().name = "lost".into();
    story.cluster.add_session(s2);
    story.run_for(6);
    assert_eq!(story.status("s2").reason, Some(Reason::PoolNotFound));
    assert!(story.status("s2").message.contains(NS));
}

#[test]
fn the_harness_pod_has_the_runner_first_and_the_template_s_own_command_behind_it() {
    let mut story = Story::empty();
    let mut own = template("opencode");
    Arc::make_mut(&mut own.spec.pod_template.spec)["containers"][0]["command"] =
        serde_json::json!(["opencode", "serve"]);
    Arc::make_mut(&mut own.spec.pod_template.spec)["containers"][0]["args"] =
        serde_json::json!(["--port", "1"]);
    story.cluster.put_template(own);
    story.cluster.add_pool(pool("opencode", 1));
    story.run_for(1);
    let manifest = story
        .ops
        .iter()
        .find_map(|op| match op {
            Op::CreatePod(pod) => Some(pod.manifest.clone()),
            _ => None,
        })
        .unwrap();
    let harness = &manifest["spec"]["containers"][0];
    assert_eq!(harness["command"][0], "/paddock/bin/paddock-runner");
    assert_eq!(harness["args"], serde_json::json!(["opencode", "serve", "--port", "1"]));
    assert_eq!(manifest["spec"]["initContainers"][0]["image"], "runner:1");
    assert_eq!(manifest["spec"]["automountServiceAccountToken"], false);
    let env = harness["env"].as_array().unwrap();
    assert!(env.iter().any(|e| e["name"] == "PADDOCK_HARNESS" && e["value"] == "opencode"));
}

/// The pod of a template of somebody's own image, or what its Sandbox's status says instead.
fn own_image(spec: serde_json::Value, said: &[(&str, &str)]) -> (Vec<serde_json::Value>, Story) {
    let mut story = Story::empty();
    let mut own = template("own");
    *Arc::make_mut(&mut own.spec.pod_template.spec) = spec;
    let said = [(labels::HARNESS, "http")].iter().chain(said);
    own.metadata.annotations =
        Some(said.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    story.cluster.put_template(own);
    story.cluster.add_pool(pool("own", 1));
    story.run_for(1);
    let pods = story.ops.iter().filter_map(|op| match op {
        Op::CreatePod(pod) => Some(pod.manifest["spec"].clone()),
        _ => None,
    });
    (pods.collect(), story)
}

#[test]
fn an_image_of_somebody_s_own_stays_as_it_is_beside_the_runner() {
    let spec = serde_json::json!({
        "containers": [
            {"name": "proxy", "image": "proxy:1"},
            {
                "name": "own", "image": "own:1", "args": ["serve"],
                "securityContext": {"runAsUser": 1001},
                "env": [
                    {"name": "PATH", "value": "/opt/bin"},
                    {"name": "HTTPS_PROXY", "value": "http://proxy"},
                    {"name": "PADDOCK_MODEL_BASE_URL", "value": "http://litellm/v1"},
                    {"name": "PADDOCK_WORKSPACE", "value": "/work/repo"},
                    {"name": "LITELLM_API_BASE", "value": "http://other"},
                ],
            },
        ],
    });
    let said = [
        (labels::HARNESS_CONTAINER, "own"),
        (labels::RUNNER, "sidecar"),
        (labels::RUNNER_IMAGE, "tools:1"),
        (labels::HARNESS_PORT, "8080"),
        (labels::HARNESS_FEATURES, "abort"),
    ];
    let (pods, _) = own_image(spec, &said);
    let spec = &pods[0];
    let containers = spec["containers"].as_array().unwrap();
    let names: Vec<_> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["proxy", "own", "paddock-sidecar"]);
    let (own, runner) = (&containers[1], &containers[2]);
    let value = |container: &serde_json::Value, name: &str| {
        let env = container["env"].as_array().unwrap();
        let found = env.iter().find(|variable| variable["name"] == name)?;
        Some(found["value"].as_str().unwrap_or("from elsewhere").to_owned())
    };
    let mounts = |container: &serde_json::Value| {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        mounts.map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The image's own command, its own probes, and no key.
    assert_eq!((&own["image"], &own["args"]), (&serde_json::json!("own:1"), &serde_json::json!(["serve"])));
    assert!(own.get("command").is_none() && own.get("readinessProbe").is_none());
    assert!(
        own["env"].as_array().unwrap().iter().all(|v| !v["name"].as_str().unwrap().starts_with("PADDOCK_"))
    );
    assert_eq!(value(own, "PORT").unwrap(), "8080");
    assert_eq!(value(own, "LITELLM_API_BASE").unwrap(), "http://other", "what the template says holds");
    assert_eq!(value(own, "LITELLM_API_KEY").unwrap(), "from elsewhere");
    assert_eq!(mounts(own), ["/work/repo", "/tmp"]);

    assert_eq!(runner["image"], "tools:1");
    assert_eq!(runner["command"], serde_json::json!(["/paddock/bin/paddock-runner"]));
    assert_eq!(
        (&runner["args"], &spec["initContainers"][0]["image"]),
        (&serde_json::json!(["run"]), &serde_json::json!("runner:1"))
    );
    assert_eq!(runner["securityContext"], own["securityContext"], "the same user");
    assert_eq!(runner["readinessProbe"]["httpGet"]["port"], 7070);
    for (name, expected) in [
        ("PADDOCK_HARNESS", Some("http")),
        ("PADDOCK_HARNESS_PORT", Some("8080")),
        ("PADDOCK_HARNESS_FEATURES", Some("abort")),
        ("PADDOCK_HARNESS_MODEL", None),
        ("PADDOCK_MODEL_PORT", Some("7071")),
        ("PADDOCK_MODEL_BASE_URL", Some("http://litellm/v1")),
        ("PADDOCK_WORKSPACE", Some("/work/repo")),
        ("HTTPS_PROXY", Some("http://proxy")),
        ("PATH", None),
    ] {
        assert_eq!(value(runner, name).as_deref(), expected, "{name}");
    }
    assert_eq!(mounts(runner), ["/paddock/state", "/work/repo", "/home/agent", "/tmp", "/paddock/bin"]);
    let volumes = spec["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 5, "each once: {volumes:?}");
}

#[test]
fn without_an_image_with_tools_the_runner_s_own_will_do() {
    let spec = serde_json::json!({"containers": [{"name": "own", "image": "own:1", "env": [{"name": "HOME", "value": "/h"}]}]});
    let (pods, _) = own_image(spec, &[(labels::RUNNER, "sidecar")]);
    let runner = &pods[0]["containers"][1];
    assert_eq!(runner["image"], "runner:1");
    assert!(runner.get("command").is_none() && pods[0].get("initContainers").is_none());
    assert_eq!(runner["securityContext"]["runAsNonRoot"], true);
    let homes = [0, 1].map(|index| {
        let mounts = pods[0]["containers"][index]["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["mountPath"] == "/h").unwrap()["name"].clone()
    });
    assert_eq!(homes, ["paddock-home", "paddock-home"], "a home that the template names is shared");
}

#[test]
fn what_is_wrong_with_somebody_s_own_image_is_said_at_its_sandbox() {
    let plain = || serde_json::json!({"containers": [{"name": "own", "image": "own:1"}]});
    for (said, why) in [
        (vec![], "container \"own\" has no command"),
        (
            vec![(labels::RUNNER, "outside")],
            "paddock.dev/runner says \"outside\": it must be injected or sidecar",
        ),
        (vec![(labels::HARNESS_PORT, "7070")], "paddock.dev/harness-port says \"7070\""),
    ] {
        let (pods, story) = own_image(plain(), &said);
        assert!(pods.is_empty(), "{said:?}");
        let told = format!("{:?}", story.cluster.sandboxes.values().collect::<Vec<_>>());
        assert!(told.contains(&why.replace('"', "\\\"")), "{why}: {told}");
    }
}

#[test]
fn a_burst_is_started_a_few_at_a_time_and_the_oldest_first() {
    let mut story = Story::with_pool(20);
    story.surge = 20;
    let names: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    for name in &names {
        story.cluster.add_session(session(name));
        story.cluster.now += SignedDuration::from_secs(1);
    }
    story.deliver();
    let mut ready = Vec::new();
    let mut most = 0;
    for _ in 0..200 {
        let commands = story.engine.next(story.cluster.now);
        let adopted = commands.iter().filter(|c| matches!(c.op, Op::PatchSandbox(_))).count();
        most = most.max(adopted);
        for command in commands {
            let outcome = story.cluster.perform(&command.op);
            if let Op::PatchSessionStatus(patch) = &command.op {
                ready.push(patch.target.key.name.clone());
            }
            story.engine.complete(command, outcome, story.cluster.now);
        }
    }
    assert_eq!(ready, names, "in order");
    assert_eq!(most, 4);
}

#[test]
fn runners_that_do_not_answer_hold_up_nobody_for_long() {
    let mut story = Story::with_pool(12);
    for n in 0..12 {
        story.cluster.add_session(session(&format!("s{n:02}")));
    }
    story.deliver();
    let (mut adopted, mut hung) = (0, Vec::new());
    for _ in 0..9 {
        for command in story.engine.next(story.cluster.now) {
            if matches!(command.op, Op::Activate(_)) {
                hung.push(command);
                continue;
            }
            adopted += usize::from(matches!(command.op, Op::PatchSandbox(_)));
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
        if adopted % 4 == 0 && adopted < 12 {
            let wake = story.engine.next_wake().expect("the others' turn");
            assert!(wake <= story.cluster.now + SignedDuration::from_millis(20), "{wake}");
            story.cluster.now = wake;
        }
    }
    assert_eq!((adopted, hung.len()), (12, 12));
}

#[test]
fn who_waits_for_its_turn_can_be_stopped() {
    let mut story = Story::with_pool(12);
    for n in 0..12 {
        story.cluster.add_session(session(&format!("s{n:02}")));
    }
    story.deliver();
    let _hung = story.engine.next(story.cluster.now);
    story.cluster.change_session(&key("s11"), |session| session.spec.state = DesiredState::Stopped);
    story.deliver();
    let commands = story.engine.next(story.cluster.now);
    assert!(
        commands.iter().any(|c| matches!(&c.op, Op::PatchSessionStatus(p) if p.target.key.name == "s11")),
        "{commands:?}"
    );
}
