//! The disk of a pod is full: turns fail with a reason, nothing is lost, and the session goes on when there is room again.

use std::time::Duration;

use paddock_api::Session;
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{LIVENESS, Scenario, Share, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

/// A session of a pool whose pods have only so much room at `path`.
async fn session_with(s: &Scenario, what: &str, path: &str, size: &str) -> Session {
    let edit = |pod: &mut Value| {
        let volume = json!({ "name": "small", "emptyDir": { "medium": "Memory", "sizeLimit": size } });
        push(&mut pod["volumes"], volume);
        push(&mut pod["containers"][0]["volumeMounts"], json!({ "name": "small", "mountPath": path }));
    };
    let pool = s.private_pool(what).replicas(1).edit(edit).create().await;
    let agent = s.agent(what, json!({ "poolRef": { "name": pool } })).await;
    let name = s.session(what, &agent, Value::Null).await;
    s.ready_within(&name, Duration::from_secs(600)).await
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(values) => values.push(value),
        other => *other = json!([value]),
    }
}

/// Fills what is left, to the last byte.
async fn fill(s: &Scenario, session: &Session, path: &str) {
    let fill = format!("dd if=/dev/zero of={path}/ballast bs=1k; dd if=/dev/zero of={path}/rest bs=1; true");
    let told = s.exec(session, &["sh", "-c", &fill]).await;
    assert!(told.stderr.contains("No space left"), "{}", told.stderr);
}

async fn make_room(s: &Scenario, session: &Session, path: &str) {
    s.exec(session, &["rm", &format!("{path}/ballast"), &format!("{path}/rest")]).await.succeeded();
}

/// The session once more in its same pod, whose container was not started again.
async fn is_the_same(s: &Scenario, session: &Session) {
    let now = s.ready(&name_of(session)).await;
    assert_eq!(pod_of(&now).uid, pod_of(session).uid);
    let restarts =
        ["get", "pod", &pod_of(session).name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    assert_eq!(s.kubectl.run(&restarts).await.succeeded(), "0");
}

#[tokio::test]
async fn where_turns_are_written_down() {
    scenario("the runner's disk is full", Share::Shared, LIMIT, async |s| {
        let path = "/paddock/state";
        let session = session_with(s, "full", path, "8Mi").await;
        let id = name_of(&session);
        s.http.say(&id, &s.word("before")).await.reply();
        fill(s, &session, path).await;

        // A turn that cannot be written down is not begun. It is longer than what is left of the last page.
        let (key, word) = (s.word("key"), s.word("during"));
        let text = format!("!say {word}\n{}", "x".repeat(16 << 10));
        let refused = s.http.say_once(&id, &key, &text).await;
        refused.error(502, Some("journal_failed"));
        assert!(
            refused.body_text().contains("No space left") || refused.body_text().contains("disk"),
            "{}",
            refused.body_text()
        );
        assert!(s.model.calls_with(&word).await.is_empty(), "it was run");
        is_the_same(s, &session).await;
        make_room(s, &session, path).await;
        assert!(s.http.say_once(&id, &key, &text).await.reply().contains(&word));

        // The agent itself fills the disk: its turn has run, and its reply is had once there is room.
        let key = s.word("key");
        let text = format!(
            "!run dd if=/dev/zero of={path}/ballast bs=1k; dd if=/dev/zero of={path}/rest bs=1; echo {key}"
        );
        let refused = s.http.say_once(&id, &key, &text).await;
        refused.error(502, Some("journal_failed"));
        is_the_same(s, &session).await;
        make_room(s, &session, path).await;
        let reply = s.http.say_once(&id, &key, &text).await.reply();
        assert!(reply.contains(&key), "{reply}");
        let asked =
            s.model.calls_with(&key).await.iter().filter(|call| call.last_user_text.contains(&key)).count();
        assert!(
            asked <= 2,
            "one turn asks at most twice: for the command, and for the reply; it was asked {asked} times"
        );
        let word = s.word("after");
        assert!(s.http.say(&id, &word).await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn where_the_harness_lives() {
    scenario("the harness's disk is full", Share::Shared, LIMIT, async |s| {
        let path = "/home/agent";
        let session = session_with(s, "home", path, "192Mi").await;
        let id = name_of(&session);
        s.http.say(&id, &s.word("before")).await.reply();
        fill(s, &session, path).await;
        let word = s.word("during");
        let told = s.http.say(&id, &word).await;
        s.log(&format!("told while the harness cannot write: {} {}", told.status, told.body_text()));
        if told.status == 200 {
            // A harness may have room in its files still; then it has really answered.
            assert!(told.reply().contains(&word));
        } else {
            told.error(502, Some("harness_failed"));
        }
        make_room(s, &session, path).await;
        let word = s.word("after");
        wait::until("it answers again", LIVENESS, async || {
            let told = s.http.say(&id, &word).await;
            if told.status == 200 && told.body_text().contains(&word) {
                Ok(())
            } else {
                Err(told.body_text())
            }
        })
        .await;
    })
    .await;
}
