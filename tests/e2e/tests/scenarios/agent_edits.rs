//! An agent that is changed while sandboxes wait: the next session is as it says now, and no sandbox is made anew for that.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use paddock_api::Session;
use paddock_e2e::objects::agent;
use paddock_e2e::pool::{self, MARK};
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{Scenario, Share, measure, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

/// The UIDs of all pods of this scenario's pool, those of sessions too.
async fn pods(s: &Scenario) -> BTreeSet<String> {
    let selector = ListParams::default().labels(&format!("{MARK}={}", s.nonce()));
    let pods = s.api::<Pod>().list(&selector).await.expect("a list of pods").items;
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(uid).collect()
}

/// A new session of the agent, in a pod that waited already; its model has the agent's prompt as it is now.
async fn next_session(
    s: &Scenario,
    what: &str,
    agent: &str,
    warm: &BTreeSet<String>,
    prompt: &str,
    model: &str,
) -> Session {
    let session = s.ready_session(what, agent).await;
    measure::startup("opencode, after an edit", &session);
    let pod = pod_of(&session);
    assert!(warm.contains(&pod.uid), "{} was made for it; those that waited: {warm:?}", pod.name);
    is_asked(s, &session, prompt, model).await;
    session
}

async fn is_asked(s: &Scenario, session: &Session, prompt: &str, model: &str) {
    let ask = s.word("ask");
    s.http.say(&name_of(session), &format!("!say {ask}")).await.reply();
    let calls = s.model.calls_with(&ask).await;
    assert!(!calls.is_empty(), "the model was asked");
    for call in calls {
        assert!(call.system.contains(prompt), "{prompt} is not in the system prompt: {}", call.system);
        assert!(call.model.contains(model), "not {model}: {}", call.model);
    }
}

#[tokio::test]
async fn reach_the_next_session_and_no_sandbox_that_waits() {
    scenario("an agent edited while its pool is warm", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("warm").replicas(3).create().await;
        let name = s.name("edited");
        let versions = ["first", "second", "third"].map(|what| (s.word(what), s.name(what)));
        let spec = |(prompt, model): &(String, String)| -> Value {
            json!({ "poolRef": { "name": pool }, "prompt": format!("Say {prompt}."), "model": model })
        };
        s.apply(&agent(&s.env.namespace, &name, &spec(&versions[0]))).await;
        pool::full(s, &s.env.namespace, &pool).await;
        let warm = pods(s).await;
        assert_eq!(warm.len(), 3);

        let (prompt, model) = &versions[0];
        let first = next_session(s, "first", &name, &warm, prompt, model).await;

        // By kubectl.
        s.apply(&agent(&s.env.namespace, &name, &spec(&versions[1]))).await;
        let (prompt, model) = &versions[1];
        next_session(s, "second", &name, &warm, prompt, model).await;

        // Over HTTP.
        let (prompt, model) = &versions[2];
        let change = json!({ "prompt": format!("Say {prompt}."), "model": model });
        let changed = s.http.patch(&format!("/agents/{name}"), &change).await.with_status(200);
        assert_eq!(changed["model"], *model, "{changed}");
        next_session(s, "third", &name, &warm, prompt, model).await;

        // Those that waited served the three sessions, and what came since is what fills the pool again.
        let now = pool::full(s, &s.env.namespace, &pool).await;
        let replicas = usize::try_from(now.spec.replicas).expect("a number of members");
        let after = pods(s).await;
        assert!(warm.is_subset(&after), "pods were made anew: {warm:?} before, {after:?} after");
        assert_eq!(after.len(), warm.len() + replicas, "more pods than the pool's were made: {after:?}");
        // A session stays what it was made from.
        let (prompt, model) = &versions[0];
        is_asked(s, &first, prompt, model).await;
    })
    .await;
}
