//! A pool's status: how many members there are, and how many can be adopted.

use paddock_api::labels::{self, name_hash};
use paddock_api::{SandboxWarmPool, SandboxWarmPoolStatus};

use crate::op::{Op, Patch, Target, merge_diff};

/// The write that brings the status up to date, if it is not.
pub(super) fn write(pool: &SandboxWarmPool, replicas: usize, ready: usize) -> Option<Op> {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let status = SandboxWarmPoolStatus {
        observed_generation: pool.metadata.generation.unwrap_or_default(),
        replicas: count(replicas),
        ready_replicas: count(ready),
        selector: format!("{}={}", labels::WARM_POOL_SANDBOX, name_hash(name)),
    };
    if pool.status.as_ref() == Some(&status) {
        return None;
    }
    let mut after = pool.clone();
    after.status = Some(status);
    let patch = serde_json::json!({"status": merge_diff(&pool.status, &after.status)});
    Some(Op::PatchPoolStatus(Patch { target: Target::of(&pool.metadata), patch, after: Box::new(after) }))
}
