//! S1, S3, S4 and S6 of the promises, on what the API server has stored and the runners have answered.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::labels;
use paddock_runnerapi::Saved;
use serde_json::Value;

use super::history::{History, is_final, is_ready, label, meta, phase, wanted_phase};
use super::writes::Write;
use crate::proxy::Verb;

/// S1: what is Ready has been confirmed by its pod's runner, and neither sandboxes nor pods change hands. `served` says
/// which session UID each pod UID serves.
pub fn one_session_per_pod(history: &History, served: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for change in history.of("sessions").filter(|change| is_ready(&change.object)) {
        let pod = change.object["status"]["pod"]["uid"].as_str().unwrap_or_default();
        users.entry(pod).or_default().insert(change.uid());
        if served.get(pod).map(String::as_str) != Some(change.uid()) {
            wrong.push(format!(
                "S1: session {} is Ready in pod {pod}, which serves {:?}",
                change.name(),
                served.get(pod)
            ));
        }
    }
    for resource in ["sandboxes", "pods"] {
        let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for change in history.of(resource) {
            if let Some(session) = label(&change.object, labels::SESSION_UID) {
                owners.entry(change.uid()).or_default().insert(session);
            }
        }
        let shared = owners.iter().filter(|(_, sessions)| sessions.len() > 1);
        wrong.extend(shared.map(|(uid, sessions)| format!("S1: {resource} {uid} was given to {sessions:?}")));
    }
    let shared = users.iter().filter(|(_, sessions)| sessions.len() > 1);
    wrong.extend(shared.map(|(pod, sessions)| format!("S1: pod {pod} was Ready for {sessions:?}")));
    wrong.sort();
    wrong.dedup();
    wrong
}

/// How many pods there were at most beyond pools and live sessions, and at which revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub pods: usize,
    pub surge: usize,
    pub revision: u64,
}

/// S3: pods, terminating ones included, beyond the pools' sizes and the live sessions; the pod of a session that has
/// ended is not counted while it goes.
pub fn greatest_excess(history: &History) -> Excess {
    let mut there: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    let mut greatest = Excess::default();
    for change in history.changes() {
        let kind = there.entry(change.resource).or_default();
        if change.deleted {
            kind.remove(change.name());
        } else {
            kind.insert(change.name(), &change.object);
        }
        let all = |resource: &str| there.get(resource).into_iter().flatten().map(|(_, object)| *object);
        let live: BTreeSet<&str> = all("sessions")
            .filter(|session| !is_final(session))
            .map(|session| meta(session, "uid"))
            .collect();
        let sizes: Vec<usize> = all("sandboxwarmpools")
            .map(|pool| usize::try_from(pool["spec"]["replicas"].as_u64().unwrap_or_default()).unwrap())
            .collect();
        let counted = all("pods").filter(|pod| {
            let sandbox = there.get("sandboxes").and_then(|all| all.get(meta(pod, "name")));
            let session = sandbox.and_then(|s| label(s, labels::SESSION_UID));
            session.or_else(|| label(pod, labels::SESSION_UID)).is_none_or(|session| live.contains(session))
        });
        let pods = counted.count().saturating_sub(sizes.iter().sum::<usize>() + live.len());
        if pods > greatest.pods {
            let surge = sizes.iter().map(|size| size.div_ceil(4)).sum();
            greatest = Excess { pods, surge, revision: change.revision };
        }
    }
    greatest
}

/// S4: what a live session is served from is not deleted by a controller. While a session has no pod of record, that is
/// the one whose runner has taken it.
pub fn live_sessions_keep_their_pods(
    history: &History,
    writes: &[Write],
    served: &BTreeMap<String, String>,
) -> Vec<String> {
    let deletes = writes.iter().filter(|write| write.verb == Verb::Delete && write.done());
    deletes.filter_map(|delete| victim(history, delete, served)).collect()
}

fn victim(history: &History, delete: &Write, served: &BTreeMap<String, String>) -> Option<String> {
    let target = delete.precondition_uid()?;
    let versions: Vec<_> = history.of(&delete.resource).filter(|change| change.uid() == target).collect();
    let gone = versions
        .iter()
        .find(|change| change.deleted || !change.object["metadata"]["deletionTimestamp"].is_null())?;
    let before = versions.iter().take_while(|change| change.revision < gone.revision).last()?;
    let sessions = history.before("sessions", gone.revision);
    let session_uid = label(&before.object, labels::SESSION_UID)?;
    let session = sessions.get(session_uid)?;
    let ended = is_final(session) || phase(session) == "Suspended" || wanted_phase(session) == "Suspended";
    if ended || !session["metadata"]["deletionTimestamp"].is_null() || is_earlier(&before.object, session) {
        return None;
    }
    let status = &session["status"];
    let pods = history.before("pods", gone.revision);
    let pod = match delete.resource.as_str() {
        "pods" => Some(target),
        _ => pods.values().find(|pod| meta(pod, "name") == before.name()).map(|pod| meta(pod, "uid")),
    };
    let used = match status["pod"]["uid"].as_str() {
        Some(of_record) => pod == Some(of_record),
        None => pod.is_some_and(|pod| served.get(pod).map(String::as_str) == Some(session_uid)),
    };
    used.then(|| {
        format!(
            "S4: {} deleted {} {} of live session {}",
            delete.by,
            delete.resource,
            before.name(),
            meta(session, "name")
        )
    })
}

/// Whether a sandbox, or its pod, was an earlier incarnation's.
fn is_earlier(object: &Value, session: &Value) -> bool {
    let of = label(object, labels::INCARNATION).and_then(|label| label.parse().ok()).unwrap_or(1);
    of < session["status"]["incarnation"].as_u64().unwrap_or(1)
}

/// S6: generations never go back, and a condition's time moves only with its status.
pub fn status_goes_forward(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut last: BTreeMap<&str, &Value> = BTreeMap::new();
    for change in history.changes().iter().filter(|change| change.resource != "pods") {
        let Some(before) = last.insert(change.uid(), &change.object) else { continue };
        let named = format!("{} {}", change.resource, change.name());
        let observed = |object: &Value| object["status"]["observedGeneration"].as_u64();
        if observed(before) > observed(&change.object) {
            wrong.push(format!("S6: the status of {named} went back to an older generation"));
        }
        for old in before["status"]["conditions"].as_array().into_iter().flatten() {
            let new = change.object["status"]["conditions"].as_array().into_iter().flatten();
            let same = new.clone().find(|new| new["type"] == old["type"] && new["status"] == old["status"]);
            if same.is_some_and(|new| new["lastTransitionTime"] != old["lastTransitionTime"]) {
                wrong.push(format!("S6: {} of {named} has not changed, and its time has", old["type"]));
            }
        }
    }
    wrong
}

/// No volume claim that a session has its files in goes before the session does, and it has them in one only.
pub fn volumes_outlive_pods(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut claims: BTreeMap<&str, &str> = BTreeMap::new();
    for change in history.of("sessions") {
        let Some(claim) = claim_of(&change.object) else { continue };
        let first = claims.entry(change.uid()).or_insert(claim);
        if *first != claim {
            wrong.push(format!(
                "volumes: the files of session {} were in {first}, then in {claim}",
                change.name()
            ));
        }
    }
    for change in history.of("persistentvolumeclaims") {
        if !change.deleted && change.object["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let sessions = history.before("sessions", change.revision);
        let users = sessions.values().filter(|session| {
            claim_of(session) == Some(change.name()) && session["metadata"]["deletionTimestamp"].is_null()
        });
        wrong.extend(users.map(|session| {
            format!("volumes: {} was deleted under session {}", change.name(), meta(session, "name"))
        }));
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

fn claim_of(session: &Value) -> Option<&str> {
    session["status"]["workspace"]["claimName"].as_str()
}

/// Before a session's pod was given back on purpose, what was said in it was saved.
pub fn transcripts_come_first(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut pods: BTreeMap<&str, &str> = BTreeMap::new();
    for change in history.of("sessions") {
        if let Some(pod) = change.object["status"]["pod"]["uid"].as_str() {
            pods.insert(change.uid(), pod);
        }
        let Some(pod) = pods.get(change.uid()).filter(|_| phase(&change.object) == "Suspended") else {
            continue;
        };
        let saved: Option<Saved> = change.object["metadata"]["annotations"][labels::TRANSCRIPT_SAVED]
            .as_str()
            .and_then(|saved| saved.parse().ok());
        if saved.is_none_or(|saved| saved.pod_uid != *pod) {
            wrong.push(format!("transcripts: {} was suspended before pod {pod} was saved", change.name()));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}
