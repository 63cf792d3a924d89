use serde_json::json;

use super::*;

fn session(status: Value) -> Session {
    serde_json::from_value(json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "s", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"agentRef": {"name": "a"}, "title": "Fix it"}, "status": status,
    }))
    .unwrap()
}

fn messages(messages: Value) -> Vec<Message> {
    serde_json::from_value(messages).unwrap()
}

fn told(session: &Session, said: Value) -> Value {
    serde_json::to_value(time_line(session, messages(said))).unwrap()
}

fn kinds(told: &Value) -> Vec<&str> {
    told.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect()
}

/// Milliseconds of a second of the session's first minute.
fn second(second: i64) -> i64 {
    (1_767_225_600 + second) * 1000
}

fn ready(incarnation: u32, at: &str) -> Value {
    json!({"phase": "Ready", "incarnation": incarnation,
        "startup": {"path": "warm", "claimedMs": 1, "activatedMs": 2, "readyAt": at}})
}

#[test]
fn a_turn_is_told_in_its_steps() {
    let said = json!([
        {"info": {"id": "m1", "role": "user", "time": {"created": second(5)}},
         "parts": [{"type": "text", "text": "Fix the test."}, {"type": "file", "url": "data:..."}]},
        {"info": {"id": "m2", "role": "assistant", "time": {"created": second(6)}}, "parts": [
            {"type": "step-start"},
            {"id": "p1", "type": "reasoning", "text": "Hm.", "time": {"start": second(7)}},
            {"id": "p2", "type": "tool", "tool": "bash",
             "state": {"status": "completed", "title": "Run the tests", "input": {"secret": "x"}, "output": "y",
                       "time": {"start": second(8)}}},
            {"id": "p3", "type": "text", "text": "Done.", "time": {"start": second(9)}},
            {"type": "text", "text": " "},
        ]},
    ]);
    assert_eq!(
        told(&session(ready(1, "2026-01-01T00:00:02Z")), said),
        json!([
            {"id": "s:created", "kind": "created", "at": "2026-01-01T00:00:00Z", "title": "Session created", "detail": "Fix it"},
            {"id": "s:ready:1", "kind": "ready", "at": "2026-01-01T00:00:02Z", "title": "Ready, from a pool"},
            {"id": "m1:user", "kind": "user", "at": "2026-01-01T00:00:05Z", "title": "User message", "detail": "Fix the test."},
            {"id": "p1", "kind": "thinking", "at": "2026-01-01T00:00:07Z", "title": "Thinking", "detail": "Hm."},
            {"id": "p2", "kind": "tool", "at": "2026-01-01T00:00:08Z", "title": "Tool: bash",
             "detail": "completed · Run the tests"},
            {"id": "p3", "kind": "response", "at": "2026-01-01T00:00:09Z", "title": "Response", "detail": "Done."},
        ])
    );
}

#[test]
fn another_pod_stands_where_it_came() {
    let said = json!([
        {"info": {"id": "m1", "role": "user", "time": {"created": second(5)}}, "parts": []},
        {"info": {"id": "m2", "role": "user", "time": {"created": second(15)}}, "parts": []},
    ]);
    let told = told(&session(ready(2, "2026-01-01T00:00:10Z")), said);
    assert_eq!(kinds(&told), ["created", "user", "recovered", "user"]);
    assert_eq!(told[1]["detail"], "(no text)");
}

#[test]
fn an_end_says_why_and_when() {
    let finished = "2026-01-01T00:01:00Z";
    let dead = json!({"phase": "Dead", "reason": "OOMKilled", "message": "too much", "finishedAt": finished});
    let ended = told(&session(dead), json!([]));
    assert_eq!(
        ended[1],
        json!({"id": "s:ended", "kind": "ended", "at": finished, "title": "Session ended", "detail": "OOMKilled: too much"})
    );
    let since = "2026-01-01T00:02:00Z";
    let condition =
        json!({"type": "Ready", "status": "False", "lastTransitionTime": since, "reason": "IdleTimeout"});
    let resting = json!({"phase": "Suspended", "reason": "IdleTimeout", "conditions": [condition]});
    let told = told(&session(resting), json!([]));
    assert_eq!((&told[1]["kind"], &told[1]["at"]), (&json!("suspended"), &json!(since)));
}

#[test]
fn a_failed_turn_says_why() {
    let error = json!({"name": "TurnFailed", "data": {"message": "took too long"}});
    let said = json!([{"info": {"id": "m", "role": "assistant", "error": error}, "parts": []}]);
    let told = told(&session(json!({"phase": "Ready"})), said);
    assert_eq!((&told[1]["kind"], &told[1]["detail"]), (&json!("error"), &json!("took too long")));
    assert_eq!(told[1]["at"], "2026-01-01T00:00:00Z", "without a time it is that of what came before");
}

#[test]
fn long_texts_and_long_conversations_are_cut() {
    let long = "ä".repeat(MOST_CHARS + 1);
    let said: Vec<Value> = (0..=MOST_ENTRIES)
        .map(|number| {
            json!({"info": {"id": format!("m{number}"), "role": "user"}, "parts": [{"type": "text", "text": long}]})
        })
        .collect();
    let told = time_line(&session(json!({"phase": "Ready"})), messages(said.into()));
    assert_eq!(told.len(), 1 + MOST_ENTRIES);
    assert_eq!(
        (told[0].kind, told[1].id.as_str()),
        (LogKind::Created, "m1:user"),
        "the first message is left out"
    );
    assert_eq!(told[1].detail.as_ref().unwrap().chars().count(), MOST_CHARS + 1);
}
