//! Two gateways with one PostgreSQL: what one began, the other goes on with.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use paddock_e2e::ledger::{Told, Turn, faults};
use paddock_e2e::scenario::{finally, name_of};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario, wait};
use paddock_testkit::postgres::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::exactly_once::see;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/paddock");
const SESSIONS: usize = 6;
/// So many clients wait for a reply in each session: for the turn that runs, and for the eight that a session lets wait behind it.
const WAITING: usize = 9;

#[tokio::test]
async fn fifty_waiting_turns_are_taken_over() {
    scenario("two gateways", Share::Alone, Duration::from_secs(2400), async |s| {
        // Pods reach this machine at the address of the cluster's bridge, where the API server is.
        let config = kube::Config::infer().await.expect("a kubeconfig");
        let bridge: IpAddr =
            config.cluster_url.host().and_then(|host| host.parse().ok()).expect("an address");
        let server = tokio::task::spawn_blocking(move || Server::listening(bridge)).await.expect("a server");
        let revision = s.helm(&["get", "metadata", &s.env.release, "-o", "json"]).await;
        let revision: Value = serde_json::from_str(&revision).expect("JSON");
        let revision = revision["revision"].to_string();
        finally(
            async {
                let url = format!("transcripts.postgres.url={}", server.url("postgres"));
                let set =
                    ["--set", "transcripts.store=postgres", "--set", &url, "--set", "gateway.replicas=2"];
                let upgrade = ["upgrade", &s.env.release, CHART, "--reuse-values", "--wait", "--timeout=4m"];
                s.helm(&[&upgrade[..], &set[..]].concat()).await;
                let gateways = gateways(s).await;
                take_over(s, &gateways).await;
            },
            async {
                s.helm(&["rollback", &s.env.release, &revision, "--wait", "--timeout=4m"]).await;
                wait::until("one gateway is left", LIVENESS, async || match s.gateways().await.len() {
                    1 => Ok(()),
                    n => Err(format!("{n} gateways")),
                })
                .await;
            },
        )
        .await;
    })
    .await;
}

/// The two that serve, once there are no others.
async fn gateways(s: &Scenario) -> [Pod; 2] {
    let name = format!("{}-gateway", s.env.release);
    let deployment = s.api::<Deployment>().get(&name).await.expect("the gateway's Deployment");
    assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(2));
    wait::until("two gateways serve", LIVENESS, async || {
        let pods: [Pod; 2] =
            s.gateways().await.try_into().map_err(|pods: Vec<Pod>| format!("{} pods", pods.len()))?;
        for pod in &pods {
            let answer = s.http.at(&url_of(pod)).request(Method::GET, "/sessions").send().await;
            let status = answer.map_err(|error| error.to_string())?.status();
            if !status.is_success() {
                return Err(status.to_string());
            }
        }
        Ok(pods)
    })
    .await
}

fn url_of(gateway: &Pod) -> String {
    let ip = gateway.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    format!("http://{ip}:8080")
}

/// Turns are sent by the first gateway, which is killed while they wait; their clients ask the second one.
async fn take_over(s: &Scenario, [first, second]: &[Pod; 2]) {
    let pool = s.private_pool("shared").replicas(SESSIONS as i32).create().await;
    let agent = s.agent("shared", json!({ "poolRef": { "name": pool } })).await;
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        let name = s.session(&format!("shared{n}"), &agent, Value::Null).await;
        sessions.push(s.ready_within(&name, Duration::from_secs(900)).await);
    }
    let (a, b) = (s.http.at(&url_of(first)), s.http.at(&url_of(second)));
    let mut marks = Vec::new();
    for session in &sessions {
        // The first one of a session runs while the others wait behind it.
        let mark = s.word(&format!("hangs{}x", s.nonce()));
        marks.push((name_of(session), format!("{mark}\n!hang 40\n!say {mark}"), mark));
        for n in 1..WAITING {
            let mark = s.word(&format!("waits{n}x{}x", s.nonce()));
            marks.push((name_of(session), mark.clone(), mark));
        }
    }
    let ask = |(id, text, mark): &(String, String, String)| {
        let request =
            a.request(Method::POST, &paddock_e2e::http::message_route(id)).header("idempotency-key", mark);
        tokio::spawn(request.json(&json!({ "text": text })).send())
    };
    let (hanging, waiting): (Vec<_>, Vec<_>) =
        marks.iter().partition(|(_, _, mark)| mark.starts_with("hangs"));
    let mut asked: Vec<_> = hanging.into_iter().map(ask).collect();
    // Once the first turn of each session runs, the others wait behind it.
    let hangs = format!("hangs{}x", s.nonce());
    wait::until("a turn runs in each session", LIVENESS, async || {
        let calls = s.model.calls_with(&hangs).await;
        match calls.iter().filter(|call| call.last_user_text.starts_with(&hangs)).count() {
            n if n >= SESSIONS => Ok(()),
            n => Err(format!("{n} run")),
        }
    })
    .await;
    asked.extend(waiting.iter().map(|mark| ask(mark)));
    for (id, _, mark) in &waiting {
        wait::until("the turn waits", LIVENESS, async || {
            let told = b.get(&format!("/sessions/{id}/turns/{mark}")).await;
            if told.status == 200 { Ok(()) } else { Err(told.body_text()) }
        })
        .await;
    }
    let first = std::slice::from_ref(first);
    assert_eq!(s.sigkill_gateways(first).await, 1, "the gateway runs on this machine");
    let killed = Instant::now();
    s.remove_pods(first).await;
    for answer in futures::future::join_all(asked).await {
        let answer = answer.expect("a task that does not panic");
        assert!(answer.is_err(), "it waited at the first gateway: {answer:?}");
    }

    let again = marks.iter().map(async |(id, text, mark)| {
        let answer = b.say_once(id, mark, text).await;
        let reply = answer.with_status(200);
        Turn { session: id.clone(), client: 0, mark: mark.clone(), told: Told::Reply(reply) }
    });
    let turns = futures::future::join_all(again).await;
    measure::times("54 turns waiting, their gateway killed→all answered by the other", &[killed.elapsed()]);
    let seen = see(s, &turns, &sessions).await;
    // They were sent at the same time, so they have no order among themselves.
    let turns: Vec<Turn> =
        turns.into_iter().enumerate().map(|(client, turn)| Turn { client, ..turn }).collect();
    assert_eq!(faults(&turns, &seen), Vec::<String>::new());
}
