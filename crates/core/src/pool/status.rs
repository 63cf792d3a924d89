//! A pool's status: how many members there are, and how many can be adopted.

use jiff::{SignedDuration, Timestamp};
use paddock_api::labels::{self, name_hash};
use paddock_api::{SandboxWarmPool, SandboxWarmPoolStatus};

use crate::op::{Op, Patch, Target, merge_diff};

/// How long the status may lag behind while the count is about to change again.
const LAG: SignedDuration = SignedDuration::from_secs(1);

/// Whether the count is about to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// Nothing is being made or deleted.
    Settled,
    /// Something is.
    Changing,
}

/// The write that brings the status up to date, if it is not; or when it is due. A count that is about to change is put
/// off; but where nothing succeeds it must not stay wrong for ever.
pub(super) fn write(
    pool: &SandboxWarmPool,
    replicas: usize,
    ready: usize,
    count: Count,
    now: Timestamp,
    put_off: &mut Option<Timestamp>,
) -> (Option<Op>, Option<Timestamp>) {
    let Some(write) = update(pool, replicas, ready) else {
        *put_off = None;
        return (None, None);
    };
    let due = *put_off.get_or_insert(now + LAG);
    if count == Count::Settled || now >= due {
        *put_off = None;
        return (Some(write), None);
    }
    (None, Some(due))
}

fn update(pool: &SandboxWarmPool, replicas: usize, ready: usize) -> Option<Op> {
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
