//! Stories by hand: graceful ends, owners, namespaces, volume claims, wrong requests.

use serde_json::{Value, json};

use crate::pair::Pair;

fn pod(name: &str, node: Option<String>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"schedulerName": "nobody", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 20,
                 "containers": [{"name": "c", "image": "localhost/none:none"}]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

fn session(name: &str) -> Value {
    json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": name},
        "spec": {"agentRef": {"name": "coder"}}})
}

fn sandbox(name: &str) -> Value {
    json!({"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"name": name},
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "b"}]}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_end_gracefully() {
    let Some(mut pair) = Pair::make("grace").await else { return };
    let pods = pair.path("pods", "");
    for name in ["free", "bound", "done", "kept"] {
        let mut pod = pod(name, (name != "free").then(|| pair.node()));
        if name == "kept" {
            pod["metadata"]["finalizers"] = json!(["paddock.dev/test"]);
        }
        pair.send("POST", &pods, Some(pod)).await;
    }
    let path = |pair: &Pair, name: &str| pair.path("pods", name);
    let (free, bound, done, kept) =
        (path(&pair, "free"), path(&pair, "bound"), path(&pair, "done"), path(&pair, "kept"));
    let grace = |seconds: i64| {
        Some(json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": seconds}))
    };
    pair.send("DELETE", &free, None).await;
    pair.send("GET", &free, None).await;
    pair.send("DELETE", &bound, None).await;
    pair.send("DELETE", &bound, None).await;
    pair.send("DELETE", &bound, grace(25)).await;
    pair.send("DELETE", &bound, grace(5)).await;
    pair.send("GET", &bound, None).await;
    // The name is taken until the pod is gone.
    pair.send("POST", &pods, Some(pod("bound", None))).await;
    pair.send("DELETE", &bound, grace(0)).await;
    pair.send("DELETE", &bound, grace(0)).await;
    pair.send("PATCH", &format!("{done}/status"), Some(json!({"status": {"phase": "Failed"}}))).await;
    pair.send("DELETE", &done, None).await;
    pair.send("GET", &done, None).await;
    pair.send("DELETE", &kept, grace(0)).await;
    pair.send(
        "PATCH",
        &kept,
        Some(json!({"metadata": {"finalizers": ["paddock.dev/test", "paddock.dev/more"]}})),
    )
    .await;
    pair.send("DELETE", &kept, None).await;
    pair.send("PATCH", &kept, Some(json!({"metadata": {"finalizers": null}}))).await;
    pair.send("GET", &kept, None).await;
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_lost_its_owners_goes_and_what_has_one_stays() {
    let Some(mut pair) = Pair::make("owners").await else { return };
    for name in ["one", "two"] {
        let path = pair.path("sessions", "");
        pair.send("POST", &path, Some(session(name))).await;
    }
    let (one, two) = (pair.path("sessions", "one"), pair.path("sessions", "two"));
    let ones = pair.read(&one).await.unwrap();
    let twos = pair.read(&two).await.unwrap();
    let owner = |session: &Value, controller: bool| {
        json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "name": session["metadata"]["name"],
               "uid": session["metadata"]["uid"], "controller": controller})
    };
    let sandboxes = pair.path("sandboxes", "");
    let owned = |name: &str, owners: Vec<Value>| {
        let mut sandbox = sandbox(name);
        sandbox["metadata"]["ownerReferences"] = owners.into();
        Some(sandbox)
    };
    pair.send_each(
        "POST",
        &sandboxes,
        owned("first", vec![owner(&ones.0, true)]),
        owned("first", vec![owner(&ones.1, true)]),
    )
    .await;
    let both = |ones: &Value, twos: &Value| owned("both", vec![owner(ones, true), owner(twos, false)]);
    pair.send_each("POST", &sandboxes, both(&ones.0, &twos.0), both(&ones.1, &twos.1)).await;
    let wrong = |ones: &Value, twos: &Value| owned("wrong", vec![owner(ones, true), owner(twos, true)]);
    pair.send_each("POST", &sandboxes, wrong(&ones.0, &twos.0), wrong(&ones.1, &twos.1)).await;
    let nameless = owned("wrong", vec![json!({"apiVersion": "v1", "kind": "Pod", "name": "", "uid": ""})]);
    pair.send("POST", &sandboxes, nameless).await;
    pair.send("DELETE", &one, Some(json!({"propagationPolicy": "Background"}))).await;
    for target in [&pair.memory, &pair.real] {
        target.until(&pair.path("sandboxes", "first"), |code, _| code == 404).await;
        let path = pair.path("sandboxes", "both");
        target
            .until(&path, |_, body| body["metadata"]["ownerReferences"].as_array().unwrap().len() == 1)
            .await;
    }
    pair.send("GET", &pair.path("sandboxes", "both"), None).await;
    pair.send("DELETE", &two, Some(json!({"propagationPolicy": "Foreground"}))).await;
    for target in [&pair.memory, &pair.real] {
        target.until(&pair.path("sandboxes", "both"), |code, _| code == 404).await;
        target.until(&two, |code, _| code == 404).await;
    }
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_takes_nothing_new_and_ends_when_it_is_empty() {
    let Some(mut pair) = Pair::make("going").await else { return };
    let sessions = pair.path("sessions", "");
    let mut kept = session("kept");
    kept["metadata"]["finalizers"] = json!(["paddock.dev/test"]);
    pair.send("POST", &sessions, Some(kept)).await;
    pair.send("POST", &pair.path("configmaps", ""), Some(json!({"metadata": {"name": "plain"}}))).await;
    let namespace = format!("/api/v1/namespaces/{}", pair.namespace);
    for target in [&pair.memory, &pair.real] {
        let (code, body) = target.send("DELETE", &namespace, None).await;
        assert_eq!((code, &body["status"]["phase"]), (200, &"Terminating".into()), "{body}");
        target.until(&pair.path("configmaps", "plain"), |code, _| code == 404).await;
        let path = pair.path("sessions", "kept");
        target.until(&path, |_, body| body["metadata"]["deletionTimestamp"].is_string()).await;
    }
    pair.send("POST", &sessions, Some(session("late"))).await;
    pair.send("POST", &pair.path("configmaps", ""), Some(json!({"metadata": {"name": "late"}}))).await;
    pair.send("GET", &pair.path("sessions", "kept"), None).await;
    pair.send("PATCH", &pair.path("sessions", "kept"), Some(json!({"metadata": {"finalizers": ["a.b/c"]}})))
        .await;
    pair.send(
        "PATCH",
        &format!("{}/status", pair.path("sessions", "kept")),
        Some(json!({"status": {"message": "m"}})),
    )
    .await;
    pair.send("PATCH", &pair.path("sessions", "kept"), Some(json!({"metadata": {"finalizers": []}}))).await;
    pair.send("GET", &pair.path("sessions", "kept"), None).await;
    for target in [&pair.memory, &pair.real] {
        target.until(&namespace, |code, _| code == 404).await;
    }
    pair.send("GET", &sessions, None).await;
    pair.send("POST", &sessions, Some(session("lost"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volume_claims_stay_while_a_pod_uses_them() {
    let Some(mut pair) = Pair::make("claims").await else { return };
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "work"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}});
    pair.send("POST", &pair.path("persistentvolumeclaims", ""), Some(claim)).await;
    let mut user = pod("user", Some(pair.node()));
    user["spec"]["volumes"] = json!([{"name": "w", "persistentVolumeClaim": {"claimName": "work"}}]);
    pair.send("POST", &pair.path("pods", ""), Some(user)).await;
    let path = pair.path("persistentvolumeclaims", "work");
    pair.send("DELETE", &path, None).await;
    pair.memory.live();
    pair.send("GET", &path, None).await;
    pair.send("DELETE", &pair.path("pods", "user"), Some(json!({"gracePeriodSeconds": 0}))).await;
    for target in [&pair.memory, &pair.real] {
        target.until(&path, |code, _| code == 404).await;
    }
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_alike() {
    let Some(mut pair) = Pair::make("wrong").await else { return };
    let sessions = pair.path("sessions", "");
    pair.send("POST", &sessions, Some(session("one"))).await;
    let mut versioned = session("two");
    versioned["metadata"]["resourceVersion"] = "7".into();
    pair.send("POST", &sessions, Some(versioned)).await;
    let mut elsewhere = session("two");
    elsewhere["metadata"]["namespace"] = "default".into();
    pair.send("POST", &sessions, Some(elsewhere.clone())).await;
    elsewhere["metadata"]["name"] = "one".into();
    let one = pair.path("sessions", "one");
    pair.send("PUT", &one, Some(elsewhere)).await;
    pair.send("PUT", &one, Some(session("two"))).await;
    pair.send("POST", &sessions, Some(sandbox("two"))).await;
    pair.send(
        "POST",
        &sessions,
        Some(json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": "two"}})),
    )
    .await;
    pair.send("POST", &sessions, Some(json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "spec": {"agentRef": {"name": "x"}}}))).await;
    let nowhere = sessions.replace(&pair.namespace, "no-such-namespace");
    pair.send("POST", &nowhere, Some(session("two"))).await;
    pair.send("GET", &nowhere, None).await;
    pair.send("GET", &format!("{one}/scale"), None).await;
    pair.send("GET", &pair.path("leases", "none"), None).await;
    pair.send("PATCH", &one, Some(json!({"metadata": {"name": "other"}}))).await;
    pair.send("PATCH", &one, Some(json!({"metadata": {"resourceVersion": null}}))).await;
    pair.send("PATCH", &one, Some(json!({"metadata": {"uid": null}}))).await;
    pair.send("PATCH", &one, Some(json!({}))).await;
    // A sandbox keeps what its open parts hold, and gets its defaults.
    pair.send("POST", &pair.path("sandboxes", ""), Some(sandbox("box"))).await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "uid": "11111111-1111-4111-8111-111111111111", "resourceVersion": "5"}, "spec": {"holderIdentity": "me"}});
    pair.send("PUT", &pair.path("leases", "l"), Some(lease.clone())).await;
    let mut lease = lease;
    lease["metadata"] = json!({"name": "l", "resourceVersion": "5"});
    pair.send("PUT", &pair.path("leases", "l"), Some(lease)).await;
    pair.send("GET", &pair.path("leases", "l"), None).await;
    pair.remove().await;
}
