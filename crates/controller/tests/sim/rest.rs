//! What must be so once faults and users have been quiet for a while (promises.md, L1 to L4, S5).

use std::collections::BTreeSet;

use paddock_testkit::apiserver::{ApiServer, Change};
use serde_json::Value;
use tokio::time::Instant;

use crate::objects::{is_deleting, name, phase, text, uid};

/// Why the cluster is not at rest; empty if it is.
pub fn unrest(server: &ApiServer) -> Vec<String> {
    let mut found = Vec::new();
    let sessions = server.objects("sessions");
    let pods = server.objects("pods");
    let sandboxes = server.objects("sandboxes");
    for session in &sessions {
        if let Some(why) = session_unrest(session) {
            found.push(format!("session {} {why}: {}", name(session), session["status"]));
        }
    }
    let serving: BTreeSet<&str> = sessions
        .iter()
        .filter(|session| phase(session) == "Ready")
        .map(|session| text(session, "/status/pod/uid"))
        .collect();
    for pod in &pods {
        let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = ready.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        if is_deleting(pod) || text(pod, "/status/phase") != "Running" {
            found.push(format!("pod {} is {} and still there", name(pod), pod["status"]["phase"]));
        } else if !ready && !serving.contains(uid(pod)) {
            found.push(format!("pod {} is not ready", name(pod)));
        }
    }
    for session in sessions.iter().filter(|session| phase(session) == "Ready") {
        let pod = text(session, "/status/pod/uid");
        if !pods.iter().any(|one| uid(one) == pod) {
            found.push(format!("session {} is Ready and its pod {pod} is gone", name(session)));
        }
    }
    let mut wanted = serving.len();
    for pool in server.objects("sandboxwarmpools") {
        let replicas = pool["spec"]["replicas"].as_u64().unwrap_or(0);
        wanted += usize::try_from(replicas).unwrap();
        if pool["status"]["readyReplicas"].as_u64() != Some(replicas) {
            found.push(format!("the pool of {replicas} says {}", pool["status"]));
        }
    }
    if pods.len() != wanted || sandboxes.len() != wanted {
        found.push(format!(
            "{} pods and {} sandboxes where {wanted} are wanted",
            pods.len(),
            sandboxes.len()
        ));
    }
    found.extend(orphans(server));
    found
}

fn session_unrest(session: &Value) -> Option<&'static str> {
    let phase = phase(session);
    if is_deleting(session) {
        return Some("is still being deleted");
    }
    if phase == "Ready" && !text(session, "/status/transcriptWanted").is_empty() {
        return Some("waits for its transcript");
    }
    let keeps = text(session, "/spec/agentRef/name") == "keeper";
    let wrong = match (text(session, "/spec/state"), phase) {
        (_, "Creating") => "is neither Ready nor Failed",
        ("Running", "Suspended") => "should run",
        ("Suspended", "Ready") if keeps => "should rest",
        ("Stopped", "Ready" | "Suspended") => "should have ended",
        (_, "Failed") if text(session, "/status/reason").is_empty() => "has failed without a reason",
        _ => return None,
    };
    Some(wrong)
}

/// S5: nothing of ours outlives its owner.
fn orphans(server: &ApiServer) -> Vec<String> {
    let mut alive = BTreeSet::new();
    let mut owned = Vec::new();
    for plural in
        ["sessions", "sandboxwarmpools", "sandboxes", "pods", "persistentvolumeclaims", "sandboxtemplates"]
    {
        for object in server.objects(plural) {
            alive.insert(uid(&object).to_owned());
            owned.push((plural, object));
        }
    }
    let mut found = Vec::new();
    for (plural, object) in owned {
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            if !alive.contains(owner["uid"].as_str().unwrap_or_default()) {
                found.push(format!("S5: {plural} {} has lost its owner {}", name(&object), owner["name"]));
            }
        }
    }
    found
}

/// The writes of controllers after `since`, leases and events apart.
pub fn writes_since(
    server: &ApiServer,
    skip: usize,
    since: Instant,
    controllers: impl Fn(&str) -> bool,
) -> Vec<Change> {
    let mut changes = server.changes(skip);
    changes.retain(|change| {
        change.at > since
            && controllers(&change.by)
            && !matches!(change.kind.plural.as_str(), "leases" | "events")
    });
    changes
}

/// One line on each change, for those who look into a failure.
pub fn story(changes: &[Change], begun: Instant) -> String {
    let mut lines = String::new();
    for change in changes {
        let detail = match change.kind.plural.as_str() {
            "sessions" => format!(
                "{} {} {} pod {}",
                phase(&change.after),
                text(&change.after, "/status/reason"),
                change.after["status"]["incarnation"],
                text(&change.after, "/status/pod/name")
            ),
            "pods" => text(&change.after, "/status/phase").to_owned(),
            "sandboxes" => {
                let labels = &change.after["metadata"]["labels"];
                format!("of session {}", labels["paddock.dev/session"].as_str().unwrap_or("-"))
            }
            "sandboxwarmpools" => format!("{} {}", change.after["spec"]["replicas"], change.after["status"]),
            _ => String::new(),
        };
        let end = if change.gone { "GONE " } else { "" };
        lines.push_str(&format!(
            "{:9.3} {:14} {:?} {:?} {} {} {end}{detail}\n",
            change.at.duration_since(begun).as_secs_f64(),
            change.by,
            change.verb,
            change.part,
            change.kind.plural,
            change.meta("name"),
        ));
    }
    lines
}
