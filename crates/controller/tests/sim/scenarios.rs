//! One promise each, told as a story.

use std::collections::HashMap;
use std::time::Duration;

use paddock_testkit::apiserver::{ApiServer, Asked};
use serde_json::json;
use tokio::time::Instant;

use crate::faults::{Storm, StormKind};
use crate::nodes::Nature;
use crate::objects::{NS, POOL, agent, session, text};
use crate::simulate;
use crate::users::{create, interfere, patch};
use crate::world::{World, is_controller};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// L5: a leader that is killed is followed within 3 s, one that stops in good order within 1 s.
#[test]
fn the_next_session_is_ready_soon_after_the_leader_is_gone() {
    for (kills, within) in [(true, seconds(3)), (false, seconds(1))] {
        for seed in 0..10 {
            simulate(async {
                let mut world = World::healthy(seed, 2);
                world.start();
                world.until_pool_is_full().await;
                world.start();
                let wait = world.dice.millis(3000, 4000);
                world.pass(wait).await;
                let leader = world.processes.remove(0);
                if kills {
                    leader.crash();
                } else {
                    leader.stop().await;
                }
                create(&world.server, "sessions", session("next", "coder"));
                let took = world.until_ready("next", within).await;
                assert!(took <= within, "{took:?}");
            });
        }
    }
}

/// L7: a server in trouble is asked five times a second at most, and its Retry-After is honoured.
#[test]
fn a_server_in_trouble_is_left_alone() {
    for (seed, kind) in [(1, StormKind::TooMany(2)), (2, StormKind::Broken), (3, StormKind::TooMany(0))] {
        simulate(async {
            let mut world = World::healthy(seed, 4);
            world.start();
            world.until_pool_is_full().await;
            let (begun, until) = (Instant::now(), Instant::now() + seconds(20));
            world.control.lock().storm = Some(Storm { until, kind });
            let skip = world.server.requests(0).len();
            for n in 0..12 {
                create(&world.server, "sessions", session(&format!("s{n}"), "coder"));
                world.pass(Duration::from_millis(1500)).await;
            }
            world.pass(until.saturating_duration_since(Instant::now())).await;
            let mut asked = world.server.requests(skip);
            // Leases are few and must not wait behind others.
            asked.retain(|asked| {
                is_controller(&asked.by) && asked.kind.plural != "leases" && asked.at < until
            });
            // Until the first refusal has come back, the server is not known to be in trouble.
            let known = asked.iter().filter(|asked| asked.at > begun + Duration::from_millis(300));
            let times: Vec<Instant> = known.map(|asked| asked.at).collect();
            for (at, time) in times.iter().enumerate() {
                let within = times[at..].iter().take_while(|other| **other < *time + seconds(1)).count();
                assert!(within <= 5, "{within} requests in a second of trouble ({kind:?})");
            }
            if let StormKind::TooMany(pause) = kind {
                check_pauses(&asked, seconds(pause.into()));
            }
            world.calm_down();
            world.come_to_rest(seconds(10), seconds(10)).await;
        });
    }
}

fn check_pauses(asked: &[Asked], pause: Duration) {
    let mut last: HashMap<_, Instant> = HashMap::new();
    for one in asked.iter().filter(|one| one.kind.plural != "events") {
        let what = (one.verb, one.kind.plural.clone(), one.key.clone(), one.part);
        if let Some(before) = last.insert(what.clone(), one.at) {
            let waited = one.at.duration_since(before);
            assert!(waited >= pause, "{what:?} was asked again after {waited:?}, not {pause:?}");
        }
    }
}

/// L8: another writer, a hundred times a second, does not stop progress.
#[test]
fn another_writer_does_not_stop_progress() {
    for seed in 0..5 {
        simulate(async {
            let mut world = World::healthy(seed, 2);
            world.start();
            let mut dice = world.dice.fork();
            for n in 0..6 {
                let name = format!("s{n}");
                create(
                    &world.server,
                    "sessions",
                    session(&name, if n % 2 == 0 { "coder" } else { "keeper" }),
                );
                let begun = Instant::now();
                loop {
                    for _ in 0..5 {
                        world.pass(Duration::from_millis(10)).await;
                        interfere(&world.server, &mut dice);
                    }
                    let found = world.server.object("sessions", NS, &name);
                    if found.is_some_and(|found| found["status"]["phase"] == "Ready") {
                        break;
                    }
                    assert!(begun.elapsed() < seconds(10), "{name} is not Ready");
                }
            }
            world.calm_down();
            world.come_to_rest(seconds(10), seconds(10)).await;
        });
    }
}

/// L4: a namespace goes, with everything in it, also while sessions start.
#[test]
fn a_namespace_can_be_deleted_at_any_time() {
    for seed in 0..8 {
        simulate(async {
            let mut world = World::healthy(seed, 2);
            world.start();
            let wait = world.dice.millis(0, 3000);
            world.pass(wait).await;
            for (name, agent) in [("one", "coder"), ("two", "keeper"), ("three", "coder"), ("four", "keeper")]
            {
                create(&world.server, "sessions", session(name, agent));
            }
            let wait = world.dice.millis(0, 2000);
            world.pass(wait).await;
            world.server.delete_namespace(NS);
            let gone = |server: &ApiServer| server.object("namespaces", "", NS).is_none();
            world.until("end of the namespace", seconds(15), gone).await;
            let skip = world.server.requests(0).len();
            world.pass(seconds(20)).await;
            let writes = world.server.requests(skip).into_iter().filter(|asked| {
                is_controller(&asked.by)
                    && asked.verb.writes()
                    && !matches!(asked.kind.plural.as_str(), "leases" | "events")
            });
            assert_eq!(writes.count(), 0);
        });
    }
}

/// L3: the room that ending pods of restarted sessions take is filled once they are gone.
#[test]
fn a_pool_fills_up_when_cold_pods_have_made_room() {
    simulate(async {
        let mut world = World::healthy(1, 0);
        world.safety.allow_surge(2);
        world.nodes.lock().set_nature(Nature { boot: (100, 100), end: (5000, 5000) });
        world.start();
        for name in ["one", "two"] {
            create(&world.server, "sessions", session(name, "coder"));
            world.until_ready(name, seconds(5)).await;
        }
        let restart = json!({"spec": {"restartedAt": world.server.now().to_string()}});
        for name in ["one", "two"] {
            patch(&world.server, "sessions", name, restart.clone());
        }
        world.pass(seconds(1)).await;
        patch(&world.server, "sandboxwarmpools", POOL, json!({"spec": {"replicas": 1}}));
        world.come_to_rest(seconds(10), seconds(5)).await;
    });
}

/// Values of variables are read when a pod is activated. A session waits for one that is not there and says so; one of a Secret
/// that is not meant for agents it does not get; and nothing but the Secret and the pod ever has it.
#[test]
fn a_session_waits_for_the_values_of_its_variables() {
    simulate(async {
        let mut world = World::healthy(1, 1);
        let env = json!([
            {"name": "PLAIN", "value": "p"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        ]);
        create(&world.server, "agents", agent("secretive", json!({"env": env})));
        world.start();
        world.until_pool_is_full().await;
        create(&world.server, "sessions", session("one", "secretive"));
        let says = |words: &'static str| {
            move |server: &ApiServer| {
                let session = server.object("sessions", NS, "one");
                session.is_some_and(|session| text(&session, "/status/message").contains(words))
            }
        };
        world.until("word of the missing Secret", seconds(5), says("there is no Secret")).await;
        // base64 of hunter2
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"token": "aHVudGVyMg=="}});
        create(&world.server, "secrets", secret);
        world.until("word of the label", seconds(10), says("is not meant for agents")).await;
        let marked = json!({"metadata": {"labels": {"paddock.dev/env": "true"}}, "data": {"token": null, "other": "eA=="}});
        patch(&world.server, "secrets", "keys", marked);
        world.until("word of the key", seconds(10), says("has no key")).await;
        patch(&world.server, "secrets", "keys", json!({"data": {"token": "aHVudGVyMg=="}}));
        world.until_ready("one", seconds(10)).await;

        let environment = |world: &World| {
            let session = world.server.object("sessions", NS, "one").unwrap();
            world.nodes.lock().environments[text(&session, "/status/pod/uid")].clone()
        };
        let with =
            [("PLAIN", "p"), ("TOKEN", "hunter2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(environment(&world), with.into());
        for plural in ["sessions", "agents", "sandboxes", "pods", "events"] {
            for object in world.server.objects(plural) {
                let object = object.to_string();
                assert!(!object.contains("hunter2") && !object.contains("aHVudGVyMg"), "{object}");
            }
        }
        // It has run with a value that is taken away meanwhile: its next pod is without.
        patch(&world.server, "secrets", "keys", json!({"data": {"token": null}}));
        let now = world.server.now().to_string();
        patch(&world.server, "sessions", "one", json!({"spec": {"restartedAt": now}}));
        let again = |server: &ApiServer| {
            let session = server.object("sessions", NS, "one").unwrap();
            session["status"]["phase"] == "Ready" && session["status"]["incarnation"] == 2
        };
        world.until("next incarnation", seconds(10), again).await;
        assert_eq!(environment(&world), [("PLAIN".to_owned(), "p".to_owned())].into());
    });
}
