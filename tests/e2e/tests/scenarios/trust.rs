//! Who may speak to a runner: gateway and controller, with a token for this very pod and session.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use paddock_e2e::portforward::PortForward;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, pool, scenario, wait};
use paddock_runnerapi::{ACTIVATE, ErrorBody, ErrorCode, PORT, READYZ, Scope, SigningKey, TURNS};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

/// Where the chart mounts the key that controller and gateway share.
const SIGNING_KEY_DIR: &str = "/etc/paddock/signing-key";

/// The test key of RFC 8037: a good key, but not ours.
const STRANGERS_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

async fn installations_key(s: &Scenario) -> SigningKey {
    let name = format!("{}-gateway", s.env.release);
    let gateway = s.api::<Deployment>().get(&name).await.expect("the gateway's Deployment");
    let pod = gateway.spec.and_then(|spec| spec.template.spec).expect("a pod template");
    let mounts = pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
    let mut mounts = mounts.filter(|mount| mount.mount_path.trim_end_matches('/') == SIGNING_KEY_DIR);
    let mount = mounts.next().unwrap_or_else(|| panic!("nothing is mounted at {SIGNING_KEY_DIR}"));
    let mut volumes = pod.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name).expect("the mount's volume");
    let source = volume.secret.as_ref().expect("the volume is a Secret");
    let mut items = source.items.iter().flatten();
    let key = items.find(|item| item.path == "key.pem").map_or("key.pem", |item| item.key.as_str());
    let name = source.secret_name.as_deref().expect("the Secret's name");
    let secret = s.api::<Secret>().get(name).await.expect("the signing key's Secret");
    let data = secret.data.unwrap_or_default();
    let pem = data.get(key).expect("the Secret has the key");
    SigningKey::from_pem(&pem.0).expect("an Ed25519 key in PKCS#8 PEM")
}

/// Sends a request to a runner and tells status and error code.
async fn ask(
    forward: &PortForward,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> (u16, Option<ErrorCode>) {
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let url = forward.url(path);
    let mut request = match body {
        Some(body) => client.post(url).json(body),
        None => client.get(url),
    };
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: no answer: {error:?}"));
    let status = answer.status().as_u16();
    let code = answer.json::<ErrorBody>().await.ok().map(|body| body.code);
    (status, code)
}

#[tokio::test]
async fn a_runner_takes_orders_from_nobody_else() {
    scenario("tokens", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("trust", json!({})).await;
        let session = s.ready_session("trust", &agent).await;
        let pod = pod_of(&session);
        let ours = installations_key(s).await;
        let theirs = SigningKey::from_pem(STRANGERS_KEY.as_bytes()).expect("the key of RFC 8037");
        let now = jiff::Timestamp::now;
        let token = |key: &SigningKey, pod: &str, session: &str, scope| {
            key.sign(pod, session, scope, now()).expect("a token")
        };
        let (pod_uid, session_uid) = (pod.uid.as_str(), uid(&session));
        let session_uid = session_uid.as_str();
        let forward = PortForward::open(&s.kubectl, &pod.name, PORT).await;
        let turn =
            json!({ "id": s.word("forged"), "parts": [{ "type": "text", "text": s.word("forgery") }] });
        let unauthorized = (401, Some(ErrorCode::Unauthorized));

        assert_eq!(ask(&forward, READYZ, None, None).await.0, 200, "probes need no token");
        // The control: the right token opens, so what follows is not refused for another reason.
        let right = token(&ours, pod_uid, session_uid, Scope::Turn);
        let unknown = format!("{TURNS}/no-such-turn");
        assert_eq!(ask(&forward, &unknown, Some(&right), None).await, (404, Some(ErrorCode::NotFound)));

        for path in [TURNS, ACTIVATE] {
            assert_eq!(ask(&forward, path, None, Some(&turn)).await, unauthorized, "{path} without a token");
            assert_eq!(ask(&forward, path, Some("nonsense"), Some(&turn)).await, unauthorized, "{path}");
        }
        let hour_ago = now() - jiff::SignedDuration::from_hours(1);
        let expired = ours.sign(pod_uid, session_uid, Scope::Turn, hour_ago).expect("a token");
        let bad = [
            ("another key", token(&theirs, pod_uid, session_uid, Scope::Turn)),
            ("another pod", token(&ours, "7e9e5c1e-0000-4000-8000-000000000000", session_uid, Scope::Turn)),
            ("another scope", token(&ours, pod_uid, session_uid, Scope::Control)),
            ("an old token", expired),
        ];
        for (what, bad) in bad {
            assert_eq!(ask(&forward, TURNS, Some(&bad), Some(&turn)).await, unauthorized, "{what}");
            assert_eq!(ask(&forward, &unknown, Some(&bad), None).await, unauthorized, "{what}, reading");
        }
        assert_eq!(ask(&forward, ACTIVATE, Some(&right), Some(&turn)).await, unauthorized, "a turn's token");
        let other = token(&ours, pod_uid, "7e9e5c1e-0000-4000-8000-000000000000", Scope::Turn);
        let (status, code) = ask(&forward, TURNS, Some(&other), Some(&turn)).await;
        assert!(matches!(status, 401 | 409), "another session's token: {status} {code:?}");

        let text = turn["parts"][0]["text"].as_str().expect("a text");
        assert!(s.model.calls_with(text).await.is_empty(), "a forged turn reached the model");
        assert!(s.http.say(&name_of(&session), "!say fine").await.reply().contains("fine"));
    })
    .await;
}

/// Whether a TCP connection from a pod gets through.
async fn connects(s: &Scenario, pod: &str, host: &str, port: u16) -> bool {
    let connect = format!("timeout 4 bash -c '</dev/tcp/{host}/{port}'");
    s.kubectl.exec(pod, &["bash", "-c", &connect]).await.ok
}

#[tokio::test]
async fn other_pods_do_not_even_reach_a_runner() {
    scenario("network policy", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("walled", json!({})).await;
        let target = pod_of(&s.ready_session("walled", &agent).await);
        let stranger = stranger(s).await;
        let reachable = "$KUBERNETES_SERVICE_HOST";
        wait::until("the stranger's network works", LIVENESS, async || {
            match connects(s, &stranger, reachable, 443).await {
                true => Ok(()),
                false => Err("no connection to the API server".to_owned()),
            }
        })
        .await;
        // A policy takes a moment to reach the node.
        let walled = async || {
            for _ in 0..10 {
                if !connects(s, &stranger, &target.ip, PORT).await {
                    return true;
                }
            }
            false
        };
        if walled().await {
            // And back again: what stands in the way is ingress to the runner, not the stranger's own network.
            assert!(connects(s, &stranger, reachable, 443).await, "the stranger has lost its network");
            s.log("another pod cannot connect to a runner");
            return;
        }
        assert!(!policies_are_enforced(s, &stranger, reachable).await, "any pod can connect to a runner");
        s.log("this cluster does not enforce NetworkPolicies: nothing shown here");
    })
    .await;
}

/// A pod that has nothing to do with Paddock, with a shell in it.
async fn stranger(s: &Scenario) -> String {
    let template = pool::default_template(s).await;
    let harness = &template.spec.pod_template.spec["containers"][0];
    let name = s.name("stranger");
    s.apply(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": s.env.namespace, "name": name, "labels": { "e2e.paddock.dev/stranger": s.nonce() } },
        "spec": {
            "containers": [{
                "name": "stranger",
                "image": harness["image"],
                "imagePullPolicy": harness["imagePullPolicy"],
                "command": ["sleep", "86400"],
                "securityContext": harness["securityContext"],
            }],
            "securityContext": template.spec.pod_template.spec["securityContext"],
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
        },
    }))
    .await;
    s.kubectl
        .run(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("pod/{name}")])
        .await
        .succeeded();
    name
}

/// Whether a policy that forbids the stranger all egress has any effect.
async fn policies_are_enforced(s: &Scenario, stranger: &str, reachable: &str) -> bool {
    s.apply(&json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "namespace": s.env.namespace, "name": s.name("nothing-out") },
        "spec": {
            "podSelector": { "matchLabels": { "e2e.paddock.dev/stranger": s.nonce() } },
            "policyTypes": ["Egress"],
        },
    }))
    .await;
    for _ in 0..100 {
        if !connects(s, stranger, reachable, 443).await {
            return true;
        }
    }
    false
}
