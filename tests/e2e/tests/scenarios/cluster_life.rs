//! Kubernetes' own life: quotas, gates, priorities, upgrades. Each ends well, or says what is missing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use paddock_api::session::Reason;
use paddock_api::{Phase, Session};
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{LIVENESS, Share, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_quota_is_named_and_waited_for() {
    scenario("ResourceQuota", Share::Shared, LIMIT, async |s| {
        let space = s.name("quota");
        s.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space } })).await;
        let pool = s.private_pool("quota").in_namespace(&space).create().await;
        let here = s.kubectl.in_namespace(&space);
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } },
        });
        here.apply(&quota).await.succeeded();
        wait::until("the quota is in force", LIVENESS, async || {
            let used =
                here.run(&["get", "resourcequota", "none", "-o", "jsonpath={.status.used.pods}"]).await;
            if used.stdout == "0" { Ok(()) } else { Err(used.stdout) }
        })
        .await;
        let spec = json!({
            "agent": { "harness": "opencode", "model": "scripted", "poolRef": { "name": pool } },
        });
        let mut session = paddock_e2e::objects::session_with_spec(&space, "waiting", spec);
        session["metadata"]["namespace"] = json!(space);
        here.apply(&session).await.succeeded();
        let sessions: Api<Session> = Api::namespaced(s.kube.clone(), &space);
        wait::watch(&sessions, "waiting", "the quota is named", LIVENESS, |session| {
            let status = session.status.as_ref()?;
            let named =
                status.reason == Some(Reason::QuotaExceeded) && status.message.contains("exceeded quota");
            (status.phase == Phase::Creating && named).then_some(())
        })
        .await;
        here.run(&["delete", "resourcequota", "none"]).await.succeeded();
        wait::watch(&sessions, "waiting", "the session is Ready", LIVENESS, |session| {
            (session.status.as_ref()?.phase == Phase::Ready).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_scheduling_gate_is_named_and_waited_for() {
    scenario("scheduling gate", Share::Shared, LIMIT, async |s| {
        let gated = s.private_pool("gated").edit(|pod| {
            pod["schedulingGates"] = json!([{ "name": "e2e.paddock.dev/wait" }]);
        });
        let pool = gated.create().await;
        let agent = s.agent("gated", json!({ "poolRef": { "name": pool } })).await;
        let name = s.session("gated", &agent, Value::Null).await;
        let sandbox = wait::watch(&s.api::<Session>(), &name, "the gate is named", LIVENESS, |session| {
            let status = session.status.as_ref()?;
            (status.reason == Some(Reason::SchedulingGated)).then(|| status.sandbox.clone())?
        })
        .await;
        let lift = Patch::Merge(json!({ "spec": { "schedulingGates": null } }));
        let pods = s.api::<Pod>();
        pods.patch(&sandbox.name, &PatchParams::default(), &lift).await.expect("the gate is lifted");
        s.ready(&name).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_starts_cold_takes_the_room_of_a_sandbox_that_waits() {
    scenario("preemption", Share::Alone, LIMIT, async |s| {
        // More than half of the node, so that one of them fits.
        let ask = |pod: &mut Value| {
            pod["containers"][0]["resources"] = json!({ "requests": { "cpu": "1100m", "memory": "64Mi" } });
        };
        let waiting = s.private_pool("waiting").replicas(1).edit(ask).create().await;
        paddock_e2e::pool::full(s, &s.env.namespace, &waiting).await;
        let cold = s.private_pool("cold").edit(ask).create().await;
        let agent = s.agent("cold", json!({ "poolRef": { "name": cold } })).await;
        let session = s.ready_session("cold", &agent).await;
        let class = s.api::<Pod>().get(&pod_of(&session).name).await.expect("the pod").spec.expect("a spec");
        assert_eq!(class.priority_class_name.as_deref(), Some("paddock-session"));
        // The pool's place is empty, and stays so without churn.
        let pools = s.api::<paddock_api::SandboxWarmPool>();
        wait::watch(&pools, &waiting, "the waiting sandbox gave way", LIVENESS, |pool| {
            (pool.status.as_ref()?.ready_replicas == 0).then_some(())
        })
        .await;
        s.http.delete(&format!("/sessions/{}", name_of(&session))).await.with_status(200);
        paddock_e2e::pool::full(s, &s.env.namespace, &waiting).await;
    })
    .await;
}

#[tokio::test]
async fn new_definitions_and_new_controllers_disturb_nobody() {
    scenario("CRD upgrade and controller rollout", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("steady", json!({})).await;
        let before = s.ready_session("before", &agent).await;
        for kind in ["sessions.paddock.dev", "agents.paddock.dev", "sandboxes.agents.x-k8s.io"] {
            let change = r#"{"metadata":{"annotations":{"e2e.paddock.dev/upgraded":"yes"}},"spec":{"names":{"categories":["paddock","e2e"]}}}"#;
            let args = ["patch", "crd", kind, "--type=merge", "-p", change];
            s.kubectl.run(&args).await.succeeded();
        }
        s.ready_session("during", &agent).await;
        let controller = format!("deployment/{}-controller", s.env.release);
        s.kubectl.run(&["rollout", "restart", &controller]).await.succeeded();
        // Sessions that come while one controller follows the other.
        for n in 1..=5 {
            s.ready_session(&format!("rollout{n}"), &agent).await;
        }
        s.kubectl.run(&["rollout", "status", &controller, "--timeout=110s"]).await.succeeded();
        s.ready_session("after", &agent).await;
        let id = name_of(&before);
        assert!(s.http.say(&id, "!say unharmed").await.reply().contains("unharmed"));
        let now = s.ready(&id).await;
        assert_eq!(pod_of(&now).uid, pod_of(&before).uid, "it is the same pod");
    })
    .await;
}
