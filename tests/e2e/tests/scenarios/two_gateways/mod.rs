//! Two gateways with one PostgreSQL: what one began, the other goes on with; they are replaced one after the other under load; and
//! their store is slow, then full.
//!
//! One scenario, because it takes minutes to get there: the release is changed and changed back.

mod rolling_update;
mod store_trouble;
mod take_over;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use paddock_api::{Phase, Session};
use paddock_e2e::ledger::{Told, Turn, faults};
use paddock_e2e::scenario::{finally, name_of};
use paddock_e2e::{LIVENESS, Scenario, Share, scenario, wait};
use paddock_testkit::postgres::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::exactly_once::see;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/paddock");
const SESSIONS: usize = 6;
/// So many clients wait for a reply in each session: for the turn that runs, and for the eight that a session lets wait behind it.
const WAITING: usize = 9;

#[tokio::test]
async fn lose_no_turn() {
    scenario("two gateways", Share::Alone, Duration::from_secs(2400), async |s| {
        // Pods reach this machine at the address of the cluster's bridge, where the API server is.
        let config = kube::Config::infer().await.expect("a kubeconfig");
        let bridge: IpAddr =
            config.cluster_url.host().and_then(|host| host.parse().ok()).expect("an address");
        let server = tokio::task::spawn_blocking(move || Server::listening(bridge));
        let server = Arc::new(server.await.expect("a server"));
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
                let sessions = sessions(s).await;
                let mut turns = take_over::run(s, &sessions, &gateways(s).await).await;
                gateways(s).await;
                turns.extend(rolling_update::run(s, &sessions).await);
                gateways(s).await;
                turns.extend(store_trouble::run(s, &sessions, &server).await);
                check(s, &turns, &sessions).await;
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

/// The sessions that all is said in.
async fn sessions(s: &Scenario) -> Vec<Session> {
    let pool = s.private_pool("shared").replicas(SESSIONS as i32).create().await;
    let agent = s.agent("shared", json!({ "poolRef": { "name": pool } })).await;
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        let name = s.session(&format!("shared{n}"), &agent, Value::Null).await;
        sessions.push(s.ready_within(&name, Duration::from_secs(900)).await);
    }
    sessions
}

/// Every turn ran once, and all that was answered is in the harnesses' own histories, and in the store once the pods are gone.
async fn check(s: &Scenario, turns: &[Turn], sessions: &[Session]) {
    let live = see(s, turns, sessions).await;
    assert_eq!(faults(turns, &live), Vec::<String>::new(), "in the harnesses' own histories");
    for session in sessions {
        s.http.delete(&format!("/sessions/{}", name_of(session))).await.with_status(200);
    }
    for session in sessions {
        s.ended(&name_of(session), Phase::Dead).await;
    }
    let kept = see(s, turns, sessions).await;
    assert_eq!(faults(turns, &kept), Vec::<String>::new(), "in the store");
}

/// Sends a turn until it is answered, always with the same key. Returns how often it was sent again.
async fn tell(s: &Scenario, session: &str, client: usize, mark: &str) -> (Turn, usize) {
    let (reply, again) = s.tell(session, mark, mark, LIVENESS).await;
    let (session, mark, told) = (session.to_owned(), mark.to_owned(), Told::Reply(reply));
    (Turn { session, client, mark, told }, again)
}
