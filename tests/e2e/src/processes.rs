//! Killing a container's process as a crash does: SIGKILL, no API call, no grace.
//!
//! The nodes of a devcluster are namespaces of this machine, so the processes of their containers can be
//! seen here, told apart by their cgroup, which carries the pod's UID.

use std::path::Path;
use std::time::Duration;

use crate::command;

/// The processes of a pod whose program is `program`. Empty when the pod's node is not on this machine.
pub fn of_pod(pod_uid: &str, program: &str) -> Vec<u32> {
    let mut all = all_of_pod(pod_uid);
    all.retain(|pid| runs(*pid, program));
    all
}

/// All processes of a pod. Empty when its node is not on this machine.
pub fn all_of_pod(pod_uid: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| in_pod(*pid, pod_uid))
        .collect()
}

fn in_pod(pid: u32, pod_uid: &str) -> bool {
    // The cgroupfs driver writes the UID as it is, the systemd driver with underscores.
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    cgroups.contains(pod_uid) || cgroups.contains(&pod_uid.replace('-', "_"))
}

fn runs(pid: u32, program: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    Path::new(&first).file_name().is_some_and(|name| name == program)
}

/// Sends SIGKILL to processes, all in one call.
///
/// # Panics
/// When one of them is not there any more.
pub async fn sigkill(pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let args: Vec<&str> = ["-9"].into_iter().chain(pids.iter().map(String::as_str)).collect();
    command::run("kill", &args, None, Duration::from_secs(10)).await.succeeded();
}
