//! Requests that cannot be served are refused in a form that a program can act on.

use std::time::Duration;

use paddock_api::{Phase, Session};
use paddock_e2e::http::{BASE, message_route};
use paddock_e2e::objects::Kind;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{Answer, LIVENESS, Scenario, Share, scenario, wait};
use reqwest::Method;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn without_the_right_key_nothing_is_told() {
    scenario("wrong key", Share::Shared, LIMIT, async |s| {
        let path = format!("{BASE}/sessions");
        let wrong = |key: &str| s.http.anonymous(Method::GET, &path).header("authorization", key);
        let almost = format!("Bearer {}x", s.env.key);
        let requests = [
            ("no key", s.http.anonymous(Method::GET, &path)),
            ("a wrong key", wrong("Bearer sk-wrong")),
            ("a longer key", wrong(&almost)),
            ("an empty key", wrong("Bearer ")),
            ("another scheme", wrong("Basic c2std3Jvbmc6")),
            ("no key for a message", s.http.anonymous(Method::POST, &format!("{path}/unknown/message"))),
        ];
        for (what, request) in requests {
            let answer = s.http.send(request).await;
            let body = answer.with_status(401);
            assert_eq!(body["error"], "unauthorized", "{what}: {body}");
            // Our own additions are the only ones.
            let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
            let known = |key: &&String| ["error", "code", "request_id"].contains(&key.as_str());
            assert!(keys.iter().all(known), "{what}: {body}");
        }
    })
    .await;
}

/// A message with any body and content type.
async fn raw(s: &Scenario, id: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = s.http.request(Method::POST, &message_route(id)).header("content-type", content_type);
    s.http.send(request.body(body)).await
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_refused_and_harms_nothing() {
    scenario("bad messages", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("bad", json!({})).await;
        let id = name_of(&s.ready_session("bad", &agent).await);
        let json_type = "application/json";

        for broken in ["{", "{\"text\": ", "not json", "", "{\"text\":\"a\"} trailing"] {
            raw(s, &id, json_type, broken.to_owned()).await.error(400, None);
        }
        let both = json!({ "text": "a", "parts": [{ "type": "text", "text": "b" }] });
        let senseless = [
            ("both text and parts", both),
            ("neither text nor parts", json!({})),
            ("an array", json!([])),
            ("text that is no text", json!({ "text": 7 })),
            ("parts that are no array", json!({ "parts": "a" })),
            // The harness would run its previous prompt again.
            ("empty text", json!({ "text": "" })),
            ("no part", json!({ "parts": [] })),
            ("a part that is no object", json!({ "parts": ["a"] })),
            ("a part without a type", json!({ "parts": [{ "text": "a" }] })),
            ("a part whose type is no string", json!({ "parts": [{ "type": 1, "text": "a" }] })),
        ];
        for (what, body) in senseless {
            let answer = s.http.message(&id, &body).await;
            assert_eq!(answer.status.as_u16(), 400, "{what}: {}", answer.body_text());
            answer.error(400, None);
        }
        // Fields we do not know are a newer client's, not an error.
        let word = s.word("known");
        let newer = json!({ "text": format!("!say {word}"), "from_the_future": true });
        assert!(s.http.message(&id, &newer).await.reply().contains(&word));

        for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
            raw(s, &id, content_type, "{\"text\":\"a\"}").await.error(415, None);
        }
        let charset = raw(s, &id, "application/json; charset=utf-8", "{\"text\":\"!say utf\"}").await;
        assert!(charset.reply().contains("utf"));

        let large = json!({ "text": "x".repeat(33 << 20) }).to_string();
        raw(s, &id, json_type, large).await.error(413, None);

        let word = s.word("fine");
        let after = s.http.say(&id, &format!("!say {word}")).await;
        assert!(after.reply().contains(&word), "the session is unharmed");
        assert!(
            s.model.calls_with("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx").await.is_empty(),
            "the flood got through"
        );
    })
    .await;
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_apart() {
    scenario("wrong paths and methods", Share::Shared, LIMIT, async |s| {
        s.http.get("/no-such-route").await.error(404, None);
        s.http.get("/sessions/unknown/no-such-route").await.error(404, None);
        let outside = s.http.anonymous(Method::GET, "/favicon.ico").bearer_auth(&s.env.key);
        s.http.send(outside).await.error(404, None);
        for (method, route, allowed) in [
            (Method::DELETE, "/sessions/unknown/message", "POST"),
            (Method::PUT, "/sessions", "GET"),
            (Method::PATCH, "/sessions/unknown", "GET"),
            (Method::DELETE, "/sessions/unknown", "DELETE"),
        ] {
            let answer = s.http.send(s.http.request(method.clone(), route)).await;
            if allowed == method.as_str() {
                // The control: this one exists, only the session does not.
                answer.error(404, Some("not_found"));
                continue;
            }
            answer.error(405, None);
            let allow = answer.header("allow");
            assert!(allow.split(',').any(|m| m.trim() == allowed), "{}: Allow: {allow}", answer.what);
        }
        let given = s.http.request(Method::GET, "/sessions/unknown").header("x-request-id", "my-own-id-1");
        let answer = s.http.send(given).await;
        answer.error(404, Some("not_found"));
        assert_eq!(answer.header("x-request-id"), "my-own-id-1", "a request id is kept");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_not_ready_says_why() {
    scenario("messages to sessions that are not ready", Share::Shared, LIMIT, async |s| {
        s.http.say("01890000-0000-7000-8000-000000000000", "hello").await.error(404, Some("not_found"));
        let unknown = s.http.post("/agents/no-such-agent/session", &json!({})).await;
        unknown.error(404, None);

        // Its harness never answers, so it stays as it is.
        let stuck = s
            .private_pool("stuck")
            .edit(|pod| pod["containers"][0]["command"] = json!(["sleep", "86400"]))
            .create()
            .await;
        let agent = s.agent("stuck", json!({ "poolRef": { "name": stuck } })).await;
        let made = s.http.post(&format!("/agents/{agent}/session"), &json!({})).await.with_status(200);
        let id = made["id"].as_str().expect("an id").to_owned();
        s.record(Kind::Session, &s.env.namespace, &id);
        assert_eq!(made["status"], "creating");
        let early = s.http.say(&id, "hello").await;
        early.error(404, Some("creating"));
        let seconds: u64 = early.header("retry-after").parse().expect("Retry-After in seconds");
        assert!((1..=60).contains(&seconds), "Retry-After: {seconds}");

        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        s.ended(&id, Phase::Dead).await;
        s.http.say(&id, "hello").await.error(404, Some("dead"));

        let impatient = json!({ "lifecycle": { "startupTimeout": "1s" } });
        let failing = s.session("failing", &agent, impatient).await;
        s.ended(&failing, Phase::Failed).await;
        let answer = s.http.say(&failing, "hello").await;
        answer.error(404, Some("failed"));
        let told = s.http.get(&format!("/sessions/{failing}")).await.with_status(200);
        assert_eq!(told["status"], "failed", "{told}");
        let reason = told["failure_reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "a failed session says why: {told}");
    })
    .await;
}

#[tokio::test]
async fn a_session_request_that_makes_no_sense_is_refused() {
    scenario("bad session requests", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("asked", json!({})).await;
        let route = format!("/agents/{agent}/session");
        let post = |body: &'static str| {
            let request = s.http.request(Method::POST, &route);
            s.http.send(request.header("content-type", "application/json").body(body))
        };
        post("{").await.error(400, None);
        post("[]").await.error(400, None);
        let title = post("{\"title\": 7}").await.error(400, None);
        assert!(title["error"].as_str().unwrap_or_default().contains("title"), "it names the field: {title}");
        // Dropping these silently would start a session that lacks what was asked for.
        for field in ["env_vars", "skill_ids", "initial_attachments"] {
            let body = match field {
                "env_vars" => json!({ field: { "X": "a" } }),
                _ => json!({ field: ["a"] }),
            };
            let refused = s.http.post(&route, &body).await.error(400, Some("unsupported"));
            assert!(
                refused["error"].as_str().unwrap_or_default().contains(field),
                "it names {field}: {refused}"
            );
        }
        let all = s.api::<Session>().list(&Default::default()).await.expect("a list of Sessions");
        let of_agent = |session: &&Session| {
            session.spec.agent_ref.as_ref().is_some_and(|reference| reference.name == agent)
        };
        assert_eq!(all.items.iter().filter(of_agent).count(), 0, "a refused request makes no Session");

        // No body at all is fine.
        let made = s.http.send(s.http.request(Method::POST, &route)).await.with_status(200);
        let id = made["id"].as_str().expect("an id").to_owned();
        s.record(Kind::Session, &s.env.namespace, &id);
        s.ready(&id).await;
        // The gateway hears of it when it hears of it.
        wait::until("the gateway shows it as ready", LIVENESS, async || {
            let told = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
            if told["status"] == "ready" { Ok(()) } else { Err(told.to_string()) }
        })
        .await;
    })
    .await;
}
