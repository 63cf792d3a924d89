//! A session outlives its pod where its agent says so; otherwise it says how the pod was lost.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use paddock_api::Phase;
use paddock_api::session::Reason;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Share, measure, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn goes_on_with_files_and_conversation() {
    scenario("recovery: Auto", Share::Shared, LIMIT, async |s| {
        let rules = json!({
            "workspace": { "mode": "Persistent", "size": "1Gi" },
            "lifecycle": { "recovery": "Auto" },
        });
        let agent = s.agent("phoenix", rules).await;
        let session = s.ready_session("phoenix", &agent).await;
        let id = name_of(&session);
        let (key, word) = (s.word("key-"), s.word("kept"));
        let text = format!("!run echo {word} | tee kept.txt");
        let first = s.http.say_once(&id, &key, &text).await;
        assert!(first.reply().contains(&word));

        let pod = pod_of(&session).name;
        s.kubectl.run(&["delete", "pod", &pod, "--wait=false"]).await.succeeded();
        let lost = Instant::now();
        let again = s.incarnation(&id, 2).await;
        measure::times("pod deleted, recovery: Auto→Ready again", &[lost.elapsed()]);
        assert_ne!(pod_of(&again).uid, pod_of(&session).uid);
        let status = |session: &paddock_api::Session| session.status.clone().expect("a status");
        assert_eq!(
            status(&again).harness_session_id,
            status(&session).harness_session_id,
            "one conversation"
        );
        assert_eq!(status(&again).recoveries, 1);

        let calls = s.model.calls_with(&word).await.len();
        let replay = s.http.say_once(&id, &key, &text).await;
        assert_eq!(replay.with_status(200), first.json(), "a turn of the pod before is replayed");
        assert_eq!(s.model.calls_with(&word).await.len(), calls, "and not run again");
        assert!(s.http.say(&id, "!run cat kept.txt").await.reply().contains(&word), "the files are there");
        let mark = s.word("later");
        s.http.say(&id, &mark).await.reply();
        let call = s.model.calls_with(&mark).await;
        assert!(
            call.iter().any(|call| call.earlier_user_texts.iter().any(|text| text.contains(&word))),
            "the harness knows what was said before"
        );
    })
    .await;
}

#[tokio::test]
async fn tells_how_a_pod_was_lost() {
    scenario("recovery: Manual", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("mortal", json!({})).await;
        let evicted = s.ready_session("evicted", &agent).await;
        let deleted = s.ready_session("deleted", &agent).await;
        // As a drain of the node does it.
        let pods = s.api::<Pod>();
        pods.evict(&pod_of(&evicted).name, &EvictParams::default()).await.expect("an eviction");
        s.kubectl.run(&["delete", "pod", &pod_of(&deleted).name, "--wait=false"]).await.succeeded();
        for (session, reason) in [(&evicted, Reason::Evicted), (&deleted, Reason::Deleted)] {
            let dead = s.ended(&name_of(session), Phase::Dead).await;
            let status = dead.status.expect("a status");
            assert_eq!(status.reason, Some(reason), "{}", status.message);
            assert!(status.message.contains("restart the session"), "{}", status.message);
            s.nothing_bound_to(&uid(session)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn names_the_memory_that_ran_out() {
    scenario("out of memory", Share::Shared, LIMIT, async |s| {
        // A pod that is not restarted in place ends with its container.
        let pool = s.private_pool("hungry").edit(|pod| pod["restartPolicy"] = json!("Never"));
        let pool = pool.create().await;
        let agent = s.agent("hungry", json!({ "poolRef": { "name": pool } })).await;
        let session = s.ready_session("hungry", &agent).await;
        let pod = pod_of(&session).name;
        // Whatever else is in the container is ended with it: the kernel takes the largest process of the group.
        let eat = "for i in $(seq 40); do head -c 200m /dev/zero | tail & done; wait";
        let _ = s.kubectl.exec(&pod, &["sh", "-c", eat]).await;
        let _ = s.kubectl.exec(&pod, &["sh", "-c", "kill -9 $(pgrep -x opencode)"]).await;
        let dead = s.ended(&name_of(&session), Phase::Dead).await;
        let status = dead.status.expect("a status");
        // Which process the kernel takes is its choice: the harness, or its child.
        assert!(
            matches!(status.reason, Some(Reason::OOMKilled | Reason::HarnessCrashed)),
            "{:?}: {}",
            status.reason,
            status.message
        );
    })
    .await;
}

#[tokio::test]
async fn stays_with_its_container_when_that_restarts() {
    scenario("crash loop", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("crashing", json!({ "lifecycle": { "recovery": "Auto" } })).await;
        let session = s.ready_session("crashing", &agent).await;
        let id = name_of(&session);
        // It ends again and again: the kubelet restarts it with growing pauses, and after three times that is a loop.
        let ended = tokio::time::timeout(LIVENESS, async {
            loop {
                let now = s.api::<paddock_api::Session>().get(&id).await.expect("the session");
                if now.status.as_ref().is_some_and(|status| status.phase.is_final()) {
                    return now;
                }
                let _ = s
                    .kubectl
                    .exec(&pod_of(&session).name, &["sh", "-c", "kill -9 $(pgrep -x opencode)"])
                    .await;
            }
        })
        .await
        .expect("the session ends");
        let status = ended.status.expect("a status");
        assert_eq!(
            (status.phase, status.reason),
            (Phase::Failed, Some(Reason::CrashLoop)),
            "{}",
            status.message
        );
        s.http.say(&id, "hello").await.error(404, Some("failed"));
        let _: Value = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
    })
    .await;
}
