//! Pools are kept full.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use paddock_api::session::{Reason, StartupPath};
use paddock_api::{Sandbox, Session};
use paddock_e2e::census::Census;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, scenario, wait};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(900);

/// The pool's waiting Sandboxes: names and UIDs.
async fn members(s: &Scenario, name: &str) -> BTreeSet<(String, String)> {
    let selector = ListParams::default().labels(&pool::members(name));
    let all = s.api::<Sandbox>().list(&selector).await.expect("a list of Sandboxes");
    all.items.iter().map(|sandbox| (name_of(sandbox), uid(sandbox))).collect()
}

#[tokio::test]
async fn are_refilled_after_use() {
    scenario("pool refills", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("refill").replicas(2).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let before = members(s, &pool).await;
        assert_eq!(before.len(), 2, "{before:?}");
        let census = Census::start(s.api(), &format!("{}={}", pool::MARK, s.nonce()));
        let agent = s.agent("refill", json!({ "poolRef": { "name": pool } })).await;
        let session = s.ready_session("refill", &agent).await;
        let used = Instant::now();
        let status = session.status.clone().expect("a status");
        assert_eq!(status.startup.expect("a start").path, StartupPath::Warm);
        let sandbox = status.sandbox.expect("a sandbox");
        assert!(before.contains(&(sandbox.name.clone(), sandbox.uid.clone())), "adopted from this pool");

        pool::full(s, &s.env.namespace, &pool).await;
        measure::times("private pool refilled after a use", &[used.elapsed()]);
        let after = members(s, &pool).await;
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(!after.iter().any(|(name, _)| *name == sandbox.name), "an adopted sandbox left the pool");
        let adopted = s.api::<Sandbox>().get(&sandbox.name).await.expect("the session's sandbox");
        let owner = adopted.metadata.owner_references.unwrap_or_default();
        assert!(
            owner.iter().any(|owner| owner.uid == uid(&session)),
            "the session owns its sandbox: {owner:?}"
        );
        let peak = census.count().peak;
        assert!(peak <= 2 + 1 + 2, "{peak} pods for a pool of two and one session");
        measure::number("pool of 2, one session: most pods at any instant", peak);
    })
    .await;
}

#[tokio::test]
async fn replace_what_is_lost() {
    scenario("lost pool members", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("lossy").replicas(2).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let before = members(s, &pool).await;
        let mut names = before.iter().map(|(name, _)| name.clone());
        let (first, second) = (names.next().expect("a member"), names.next().expect("a second member"));

        let pods = s.api::<Pod>();
        let lost = uid(&pods.get(&first).await.expect("a member's pod has its name"));
        s.kubectl.run(&["delete", "pod", &first, "--wait=false"]).await.succeeded();
        s.kubectl.run(&["delete", "sandboxes.agents.x-k8s.io", &second, "--wait=false"]).await.succeeded();
        let deleted = Instant::now();
        wait::until("both are replaced", LIVENESS, async || {
            let now = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let still = now.items.iter().filter(|pod| uid(*pod) == lost).count();
            let members = members(s, &pool).await;
            let second_stays = members.iter().any(|member| before.contains(member) && member.0 == second);
            if still > 0 || second_stays || members.len() != 2 {
                return Err(format!("{still} lost pods still there; members {members:?}"));
            }
            Ok(())
        })
        .await;
        pool::full(s, &s.env.namespace, &pool).await;
        measure::times("pod and sandbox of a pool deleted→full again", &[deleted.elapsed()]);
        for (name, _) in members(s, &pool).await {
            let pod = pods.get(&name).await.expect("a member's pod has its name");
            assert_ne!(uid(&pod), lost);
        }
    })
    .await;
}

#[tokio::test]
async fn follow_kubectl_scale() {
    scenario("kubectl scale", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("scaled").replicas(1).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let resource = format!("sandboxwarmpools.extensions.agents.x-k8s.io/{pool}");
        s.kubectl.run(&["scale", &resource, "--replicas=2"]).await.succeeded();
        pool::full(s, &s.env.namespace, &pool).await;
        assert_eq!(members(s, &pool).await.len(), 2);

        // A session's pod is not the pool's to take away.
        let agent = s.agent("scaled", json!({ "poolRef": { "name": pool } })).await;
        let session = s.ready_session("scaled", &agent).await;
        s.kubectl.run(&["scale", &resource, "--replicas=0"]).await.succeeded();
        pool::full(s, &s.env.namespace, &pool).await;
        wait::until("the pool has no sandbox left", LIVENESS, async || match members(s, &pool).await {
            none if none.is_empty() => Ok(()),
            some => Err(format!("{some:?}")),
        })
        .await;
        let pod = s.api::<Pod>().get(&pod_of(&session).name).await.expect("the session's pod stays");
        assert!(pod.metadata.deletion_timestamp.is_none());
        let word = s.word("mine");
        assert!(s.http.say(&name_of(&session), &format!("!say {word}")).await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn serve_who_waits_in_order_as_members_become_ready() {
    scenario("who waits is served in order", Share::Shared, LIMIT, async |s| {
        // Cold pods of this one find no node; the fallback is empty at first.
        let nowhere = s.private_pool("nowhere").edit(|spec| spec["nodeSelector"] = json!({ "no": "node" }));
        let (nowhere, spare) = (nowhere.create().await, s.private_pool("spare").create().await);
        let pools = json!({ "poolRef": { "name": nowhere }, "fallbackPoolRefs": [{ "name": spare }] });
        let agent = s.agent("waits", pools).await;
        let mut waiting = Vec::new();
        for what in ["first", "second"] {
            let name = s.session(what, &agent, serde_json::Value::Null).await;
            let session =
                wait::watch(&s.api::<Session>(), &name, "its own pod has no node", LIVENESS, |session| {
                    (session.status.as_ref()?.reason == Some(Reason::Unschedulable)).then(|| session.clone())
                })
                .await;
            let made = session.metadata.creation_timestamp.as_ref().expect("a creation").0.as_second();
            waiting.push(session);
            wait::until("a second has passed, by which they are told apart", LIVENESS, async || {
                let now = jiff::Timestamp::now().as_second();
                if now > made { Ok(()) } else { Err(format!("{now}")) }
            })
            .await;
        }
        let resource = format!("sandboxwarmpools.extensions.agents.x-k8s.io/{spare}");
        s.kubectl.run(&["scale", &resource, "--replicas=1"]).await.succeeded();
        let mut ready_at = Vec::new();
        for session in &waiting {
            let status = s.ready(&name_of(session)).await.status.expect("a status");
            let startup = status.startup.expect("a start");
            assert_eq!((startup.path, status.incarnation), (StartupPath::Warm, 2));
            ready_at.push(startup.ready_at);
            let own =
                &session.status.as_ref().expect("a status").sandbox.as_ref().expect("its own sandbox").name;
            wait::gone(&s.api::<Sandbox>(), own, LIVENESS).await;
        }
        assert!(ready_at[0] < ready_at[1], "the one that was made first: {ready_at:?}");
        pool::full(s, &s.env.namespace, &spare).await;
    })
    .await;
}
