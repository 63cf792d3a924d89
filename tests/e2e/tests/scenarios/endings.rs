//! How things end: sessions by DELETE and by kubectl, everything with its namespace.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use paddock_api::session::Reason;
use paddock_api::{Phase, Session};
use paddock_e2e::objects;
use paddock_e2e::scenario::{name_of, uid};
use paddock_e2e::{LIVENESS, Share, measure, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn delete_over_http_keeps_the_record() {
    scenario("DELETE session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("ended", json!({})).await;
        let session = s.ready_session("ended", &agent).await;
        let id = name_of(&session);
        let route = format!("/sessions/{id}");
        let first = s.http.delete(&route).await.with_status(200);
        assert_eq!(first, json!({ "id": id, "status": "deleted" }));
        let dead = s.ended(&id, Phase::Dead).await;
        assert_eq!(dead.status.and_then(|status| status.reason), Some(Reason::Stopped));
        s.nothing_bound_to(&uid(&session)).await;
        let told = s.http.get(&route).await.with_status(200);
        assert_eq!(told["status"], "dead", "the record stays: {told}");
        let second = s.http.delete(&route).await.with_status(200);
        assert_eq!(second, json!({ "id": id, "status": "dead" }));
        assert_eq!(s.kubectl.row("sessions", &id).await.cell("PHASE"), "Dead");
        s.http.delete("/sessions/unknown").await.error(404, Some("not_found"));
    })
    .await;
}

#[tokio::test]
async fn kubectl_delete_leaves_nothing() {
    scenario("kubectl delete session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("gone", json!({})).await;
        let session = s.ready_session("gone", &agent).await;
        let id = name_of(&session);
        let started = Instant::now();
        s.kubectl.run(&["delete", "session", &id, "--timeout=60s"]).await.succeeded();
        wait::gone(&s.api::<Session>(), &id, LIVENESS).await;
        s.nothing_bound_to(&uid(&session)).await;
        measure::times("kubectl delete session→pod gone", &[started.elapsed()]);
        wait::until("HTTP knows it no more", LIVENESS, async || {
            let answer = s.http.get(&format!("/sessions/{id}")).await;
            if answer.status == 404 {
                Ok(answer.error(404, Some("not_found")))
            } else {
                Err(answer.body_text())
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_creating_session_can_be_deleted() {
    scenario("delete while creating", Share::Shared, LIMIT, async |s| {
        let sleep = |pod: &mut Value| pod["containers"][0]["command"] = json!(["sleep", "86400"]);
        let stuck = s.private_pool("stuck").edit(sleep).create().await;
        let agent = s.agent("stuck", json!({ "poolRef": { "name": stuck } })).await;
        let id = s.session("stuck", &agent, Value::Null).await;
        let uid = uid(&s.api::<Session>().get(&id).await.expect("the Session"));
        wait::until("it has a sandbox", LIVENESS, async || match s.bound_to(&uid).await {
            (sandboxes, _) if sandboxes.is_empty() => Err("none".to_owned()),
            _ => Ok(()),
        })
        .await;
        s.kubectl.run(&["delete", "session", &id, "--timeout=60s"]).await.succeeded();
        s.nothing_bound_to(&uid).await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_goes_with_all_that_is_in_it() {
    scenario("namespace deleted", Share::Shared, LIMIT, async |s| {
        let namespace = s.name("ns");
        let manifest = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        s.apply(&manifest).await;
        let pool = s.private_pool("ns").in_namespace(&namespace).replicas(1).create().await;
        pool::full(s, &namespace, &pool).await;
        let agent = s.name("ns");
        s.apply(&objects::agent(&namespace, &agent, &json!({ "poolRef": { "name": pool } }))).await;
        let name = s.name("ns");
        s.apply(&objects::session(&namespace, &name, &agent, &Value::Null)).await;
        let sessions: Api<Session> = Api::namespaced(s.kube.clone(), &namespace);
        wait::watch(&sessions, &name, "the session is Ready", LIVENESS, |session| {
            (session.status.as_ref()?.phase == Phase::Ready).then_some(())
        })
        .await;
        // The gateway serves one namespace, and this is not it.
        s.http.get(&format!("/sessions/{name}")).await.error(404, Some("not_found"));

        let started = Instant::now();
        s.kubectl.run(&["delete", "namespace", &namespace, "--wait=false"]).await.succeeded();
        wait::gone(&Api::<Namespace>::all(s.kube.clone()), &namespace, Duration::from_secs(60)).await;
        measure::times("namespace with pool and session deleted→gone", &[started.elapsed()]);
    })
    .await;
}
