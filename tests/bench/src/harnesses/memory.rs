//! Memory of processes on this machine: the nodes of a devcluster are namespaces of it.

use std::time::Duration;

use paddock_e2e::processes;

/// Pause between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// What a pod's processes have, in MiB: each page that several share is counted once (the kernel's "proportional set size").
pub fn of_pod(uid: &str) -> f64 {
    of(&processes::all_of_pod(uid))
}

/// What some processes have, in MiB.
pub fn of(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| pss_kib(*pid)).sum::<f64>() / 1024.0
}

/// Nothing for a process that has ended.
fn pss_kib(pid: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Does something, and tells the most memory that was seen meanwhile.
pub async fn most<T>(look: impl Fn() -> f64, work: impl Future<Output = T>) -> (T, f64) {
    let mut most = look();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most.max(look())),
            () = tokio::time::sleep(PERIOD) => most = most.max(look()),
        }
    }
}
