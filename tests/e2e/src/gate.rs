//! Who may use the cluster at the same time as whom.
//!
//! Scenarios share one small cluster and one default pool. Those that count, measure or break things take
//! it alone; the others share it. The gate works within one test process, and cargo runs one at a time.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// How a scenario uses the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Beside other scenarios: it neither counts nor breaks what is not its own.
    Shared,
    /// Alone: it counts the default pool, measures times, or breaks a part of Paddock.
    Alone,
}

/// Held as long as the scenario uses the cluster.
#[derive(Debug)]
pub enum Pass {
    /// See [`Share::Shared`].
    Shared(OwnedRwLockReadGuard<()>),
    /// See [`Share::Alone`].
    Alone(OwnedRwLockWriteGuard<()>),
}

/// Waits for its turn. Fair: who waits to be alone is not overtaken for ever.
pub async fn enter(share: Share) -> Pass {
    static GATE: std::sync::LazyLock<Arc<RwLock<()>>> = std::sync::LazyLock::new(Arc::default);
    match share {
        Share::Shared => Pass::Shared(GATE.clone().read_owned().await),
        Share::Alone => Pass::Alone(GATE.clone().write_owned().await),
    }
}
