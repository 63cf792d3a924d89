//! Logs with planted faults, each of which the checker must find; and the same logs without them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use paddock_runnerapi::{Position, Saved};
use serde_json::{Value, json};

use super::history::{Change, History};
use super::safety::{
    greatest_excess, live_sessions_keep_their_pods, one_session_per_pod, status_goes_forward,
    transcripts_come_first, volumes_outlive_pods,
};
use super::writes::{Write, beyond_the_lease, join, without_precondition};
use super::{pace, writes};
use crate::proxy::{Call, Verb};

const NAMESPACE: &str = "ns";

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_000 + second).unwrap()
}

#[derive(Default)]
struct Story(Vec<Change>);

impl Story {
    fn put(mut self, resource: &'static str, uid: &str, object: Value) -> Self {
        self.push(resource, uid, object, false);
        self
    }

    fn gone(mut self, resource: &'static str, uid: &str) -> Self {
        let last = self.0.iter().rev().find(|change| change.uid() == uid).unwrap().object.clone();
        self.push(resource, uid, last, true);
        self
    }

    fn push(&mut self, resource: &'static str, uid: &str, mut object: Value, deleted: bool) {
        object["metadata"]["uid"] = uid.into();
        // A pod is named like its Sandbox.
        object["metadata"]["name"] = uid.trim_start_matches("pod-").into();
        let revision = u64::try_from(self.0.len()).unwrap() + 1;
        self.0.push(Change { revision, resource, deleted, object, heard: second(0) });
    }

    fn told(self) -> History {
        // Watches of several kinds do not arrive in order.
        let mut changes = self.0;
        changes.reverse();
        History::new(changes)
    }
}

/// A pool of one, whose member `box1` and pod `pod-box1` serve session `one`.
fn served() -> Story {
    let session =
        json!({"status": {"phase": "Ready", "pod": {"uid": "pod-box1"}, "sandbox": {"uid": "box1"}}});
    Story::default()
        .put("sandboxwarmpools", "pool", json!({"spec": {"replicas": 1}}))
        .put("sandboxes", "box1", json!({}))
        .put("pods", "pod-box1", json!({}))
        .put("sessions", "one", json!({}))
        .put("sandboxes", "box1", of_session("one"))
        .put("sessions", "one", session)
}

fn of_session(uid: &str) -> Value {
    json!({"metadata": {"labels": {"paddock.dev/session-uid": uid}}})
}

fn locks(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(pod, session)| ((*pod).to_owned(), (*session).to_owned())).collect()
}

fn write(verb: Verb, resource: &str, name: &str, body: Value) -> Write {
    Write {
        by: "paddock-controller/a".to_owned(),
        verb,
        resource: resource.to_owned(),
        name: name.to_owned(),
        at: second(0),
        code: 200,
        body,
    }
}

fn deletion(resource: &str, uid: &str) -> Write {
    let name = uid.trim_start_matches("pod-");
    write(Verb::Delete, resource, name, json!({"preconditions": {"uid": uid, "resourceVersion": "7"}}))
}

#[test]
fn s1_ready_needs_the_runners_word() {
    let history = served().told();
    assert!(one_session_per_pod(&history, &locks(&[("pod-box1", "one")])).is_empty());
    assert_eq!(one_session_per_pod(&history, &locks(&[("pod-box1", "two")])).len(), 1);
    assert_eq!(one_session_per_pod(&history, &locks(&[])).len(), 1);
}

#[test]
fn s1_a_sandbox_never_changes_hands() {
    let history = served().put("sandboxes", "box1", of_session("two")).told();
    let wrong = one_session_per_pod(&history, &locks(&[("pod-box1", "one")]));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

#[test]
fn s1_two_sessions_are_not_ready_in_one_pod() {
    let second = json!({"status": {"phase": "Ready", "pod": {"uid": "pod-box1"}}});
    let history = served().put("sessions", "two", second).told();
    let wrong = one_session_per_pod(&history, &locks(&[("pod-box1", "one")]));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn s3_counts_pods_at_every_revision() {
    let full = served().put("sandboxes", "box2", json!({})).put("pods", "pod-box2", json!({}));
    assert_eq!(greatest_excess(&full.told()).pods, 0);
    let spike = served()
        .put("pods", "pod-box2", json!({}))
        .put("pods", "pod-box3", json!({"metadata": {"deletionTimestamp": "now"}}))
        .gone("pods", "pod-box3");
    let excess = greatest_excess(&spike.told());
    assert_eq!((excess.pods, excess.revision), (1, 8), "one that ends counts too");
}

#[test]
fn s3_the_pod_of_an_ended_session_may_still_go() {
    let ended = json!({"status": {"phase": "Dead"}});
    let story = served().put("pods", "pod-box2", json!({})).put("sessions", "one", ended);
    assert_eq!(greatest_excess(&story.told()).pods, 0);
}

#[test]
fn s4_the_pod_of_a_live_session_is_not_deleted() {
    let locks = locks(&[("pod-box1", "one")]);
    for (resource, uid) in [("sandboxes", "box1"), ("pods", "pod-box1")] {
        let story = served().put("pods", "pod-box1", of_session("one")).gone(resource, uid);
        let wrong = live_sessions_keep_their_pods(&story.told(), &[deletion(resource, uid)], &locks);
        assert_eq!(wrong.len(), 1, "{resource}");
    }
}

#[test]
fn s4_a_pod_that_has_taken_a_session_is_its_before_it_is_ready() {
    let story = Story::default()
        .put("pods", "pod-box1", json!({}))
        .put("sessions", "one", json!({}))
        .put("sandboxes", "box1", of_session("one"))
        .gone("sandboxes", "box1");
    let (history, deletes) = (story.told(), [deletion("sandboxes", "box1")]);
    let taken = live_sessions_keep_their_pods(&history, &deletes, &locks(&[("pod-box1", "one")]));
    assert_eq!(taken.len(), 1);
    let refused = live_sessions_keep_their_pods(&history, &deletes, &locks(&[("pod-box1", "two")]));
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn s4_what_a_session_does_not_need_may_go() {
    let locks = locks(&[("pod-box1", "one"), ("pod-box2", "one")]);
    let second = served()
        .put("sandboxes", "box2", of_session("one"))
        .put("pods", "pod-box2", json!({}))
        .gone("sandboxes", "box2");
    let wrong = live_sessions_keep_their_pods(&second.told(), &[deletion("sandboxes", "box2")], &locks);
    assert!(wrong.is_empty(), "{wrong:?}");
    let ended = json!({"status": {"phase": "Dead", "pod": {"uid": "pod-box1"}}});
    let after = served().put("sessions", "one", ended).gone("sandboxes", "box1");
    let wrong = live_sessions_keep_their_pods(&after.told(), &[deletion("sandboxes", "box1")], &locks);
    assert!(wrong.is_empty(), "{wrong:?}");
    let suspended =
        json!({"spec": {"state": "Suspended"}, "status": {"phase": "Ready", "pod": {"uid": "pod-box1"}}});
    let after = served().put("sessions", "one", suspended).gone("sandboxes", "box1");
    let wrong = live_sessions_keep_their_pods(&after.told(), &[deletion("sandboxes", "box1")], &locks);
    assert!(wrong.is_empty(), "{wrong:?}");
    let next = json!({"status": {"phase": "Creating", "incarnation": 2}});
    let after = served().put("sessions", "one", next).gone("sandboxes", "box1");
    let wrong = live_sessions_keep_their_pods(&after.told(), &[deletion("sandboxes", "box1")], &locks);
    assert!(wrong.is_empty(), "{wrong:?}");
    let failed = Write { code: 409, ..deletion("sandboxes", "box1") };
    let wrong = live_sessions_keep_their_pods(&served().gone("sandboxes", "box1").told(), &[failed], &locks);
    assert!(wrong.is_empty(), "the garbage collector's, not ours: {wrong:?}");
}

#[test]
fn s6_neither_generations_nor_times_go_astray() {
    let status = |generation: u64, ready: &str, time: &str| {
        json!({"status": {"observedGeneration": generation,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": time}]}})
    };
    let story = |second: Value| {
        Story::default().put("sessions", "s", status(2, "True", "t1")).put("sessions", "s", second).told()
    };
    assert!(status_goes_forward(&story(status(2, "True", "t1"))).is_empty());
    assert!(status_goes_forward(&story(status(3, "False", "t2"))).is_empty());
    assert_eq!(status_goes_forward(&story(status(1, "True", "t1"))).len(), 1);
    assert_eq!(status_goes_forward(&story(status(2, "True", "t2"))).len(), 1);
}

#[test]
fn writes_need_their_precondition() {
    let both = json!({"uid": "u", "resourceVersion": "1"});
    let owned = |name: &str| json!({"metadata": {"ownerReferences": [{"controller": true, "name": name}]}});
    let good = [
        write(Verb::Patch, "sandboxes", "box", json!({"metadata": both})),
        write(Verb::Delete, "pods", "box", json!({"preconditions": both})),
        write(Verb::Update, "leases", "l", json!({"metadata": {"uid": "u", "resourceVersion": "1"}})),
        write(Verb::Create, "sandboxes", "pool-x7", owned("pool")),
        write(Verb::Create, "pods", "pool-x7", owned("pool-x7")),
        write(Verb::Patch, "events", "e", json!({"metadata": {"uid": "u"}})),
    ];
    assert_eq!(without_precondition(&good), Vec::<String>::new());
    let bad = [
        write(Verb::Patch, "sandboxes", "box", json!({"metadata": {"uid": "u"}})),
        write(Verb::Patch, "sessions", "s", json!({"metadata": {"resourceVersion": "1"}})),
        write(Verb::Delete, "pods", "box", json!({"metadata": both})),
        write(Verb::Delete, "sandboxes", "box", json!({"preconditions": {"uid": "u"}})),
        write(Verb::Update, "leases", "l", json!({"metadata": {"uid": "u"}})),
        write(Verb::Create, "sandboxes", "x7", owned("pool")),
        write(Verb::Create, "sandboxes", "pool-x7", json!({})),
        write(Verb::Create, "pods", "other", owned("pool-x7")),
        write(Verb::Create, "pods", "", json!({"metadata": {"generateName": "pool-"}})),
        write(Verb::Patch, "events", "e", json!({})),
    ];
    assert_eq!(without_precondition(&bad).len(), bad.len());
}

fn audit(id: &str, agent: &str, resource: &str) -> String {
    json!({
        "auditID": id, "userAgent": agent, "verb": "patch",
        "requestReceivedTimestamp": second(5), "responseStatus": {"code": 200},
        "objectRef": {"namespace": NAMESPACE, "resource": resource},
    })
    .to_string()
}

fn call(verb: Verb, at: Timestamp, id: &str) -> Call {
    let body = json!({"metadata": {"uid": "u", "resourceVersion": "1"}});
    let path = format!("/apis/paddock.dev/v1alpha1/namespaces/{NAMESPACE}/sessions/s/status");
    let mut call = Call::parse(&http::Method::PATCH, &path, "", body, id.to_owned());
    (call.verb, call.at) = (verb, at);
    call
}

#[test]
fn logs_are_laid_side_by_side() {
    let calls = [call(Verb::Patch, second(5), "1")];
    let lines = [
        audit("1", "paddock-controller/a", "sessions"),
        audit("2", "kubectl", "sessions"),
        audit("3", "paddock-controller/a", "sessions").replace(NAMESPACE, "elsewhere"),
    ];
    let writes = join(&lines.join("\n"), &calls, NAMESPACE).unwrap();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].precondition_uid(), Some("u"));
    let past = audit("4", "paddock-controller/a", "sessions");
    assert!(join(&past, &calls, NAMESPACE).unwrap_err().contains("past its proxy"));
    assert!(join("ns: no json", &calls, NAMESPACE).is_err());
}

#[test]
fn l1_nothing_but_the_lease_is_written_at_rest() {
    let at =
        |seconds, resource| Write { at: second(seconds), ..write(Verb::Patch, resource, "x", json!({})) };
    let writes = [at(1, "sessions"), at(20, "leases"), at(21, "events"), at(22, "pods")];
    let late: Vec<&str> =
        beyond_the_lease(&writes, second(10)).iter().map(|write| write.resource.as_str()).collect();
    assert_eq!(late, ["events", "pods"]);
    assert!(writes::beyond_the_lease(&writes[..2], second(10)).is_empty());
}

#[test]
fn l7_requests_are_counted_in_every_stretch() {
    let every = |gap: i64, count: i64| -> Vec<Call> {
        (0..count)
            .map(|turn| call(Verb::Get, second(0) + SignedDuration::from_millis(gap * turn), ""))
            .collect()
    };
    let busiest = |calls: &[Call]| pace::busiest(calls, Duration::from_secs(1), second(0), second(60));
    assert_eq!(busiest(&every(200, 50)), 5);
    assert_eq!(busiest(&every(100, 50)), 10);
    let mut burst = every(1000, 10);
    burst.extend(every(10, 8));
    burst.sort_by_key(|call| call.at);
    assert_eq!(busiest(&burst), 9, "the one that came just before counts too");
}

#[test]
fn l7_retry_after_is_waited_for() {
    let refused = || {
        let mut call = call(Verb::Patch, second(0), "");
        call.answer = Some((second(0), 429));
        call.retry_after = Some(Duration::from_secs(2));
        call
    };
    let again = |at| call(Verb::Patch, at, "");
    assert!(pace::impatient(&[refused(), again(second(2))]).is_empty());
    assert_eq!(pace::impatient(&[refused(), again(second(1))]).len(), 1);
    assert!(pace::impatient(&[refused(), call(Verb::Get, second(1), "")]).is_empty(), "another request");
}

#[test]
fn volumes_stay_until_their_session_goes() {
    let session = |claim: &str| json!({"status": {"phase": "Suspended", "workspace": {"claimName": claim}}});
    let story = || {
        Story::default()
            .put("persistentvolumeclaims", "c1", json!({}))
            .put("persistentvolumeclaims", "c2", json!({}))
            .put("sessions", "one", session("c1"))
    };
    assert_eq!(volumes_outlive_pods(&story().told()), Vec::<String>::new());
    assert_eq!(volumes_outlive_pods(&story().gone("persistentvolumeclaims", "c2").told()).len(), 0);
    assert_eq!(volumes_outlive_pods(&story().gone("persistentvolumeclaims", "c1").told()).len(), 1);
    let deleting = json!({"metadata": {"deletionTimestamp": "now"}});
    assert_eq!(volumes_outlive_pods(&story().put("persistentvolumeclaims", "c1", deleting).told()).len(), 1);
    let after = story().gone("sessions", "one").gone("persistentvolumeclaims", "c1");
    assert_eq!(volumes_outlive_pods(&after.told()).len(), 0);
    assert_eq!(volumes_outlive_pods(&story().put("sessions", "one", session("c2")).told()).len(), 1);
}

#[test]
fn a_transcript_is_saved_before_its_pod_goes() {
    let suspended = |saved: &str| {
        let session = json!({"status": {"phase": "Suspended"},
            "metadata": {"annotations": {"paddock.dev/transcript-saved": saved}}});
        served().put("sessions", "one", session).told()
    };
    let saved =
        |pod: &str| Saved { pod_uid: pod.to_owned(), through: Position { journal: 1, seq: 3 } }.to_string();
    assert_eq!(transcripts_come_first(&suspended(&saved("pod-box1"))), Vec::<String>::new());
    assert_eq!(transcripts_come_first(&suspended(&saved("another"))).len(), 1);
    assert_eq!(transcripts_come_first(&suspended("")).len(), 1);
}
