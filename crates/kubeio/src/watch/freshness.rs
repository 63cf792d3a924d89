//! How far a watch may be behind the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What is known of one watch's state; clones share it.
///
/// In a quiet cluster the time without contact grows to 45 s before the watch is renewed, so less than 60 s is no sign of
/// trouble.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    synced: AtomicBool,
    contact: Mutex<Instant>,
    restarts: AtomicU64,
    errors: AtomicU64,
    undecodable: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            synced: AtomicBool::new(false),
            contact: Mutex::new(Instant::now()),
            restarts: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
        }
    }
}

impl Freshness {
    /// Of a watch that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the sink has ever been given the whole state.
    pub fn synced(&self) -> bool {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// Time since the server was last heard of: an event, a bookmark, a list, or a watch that it accepted.
    pub fn stale_for(&self) -> Duration {
        self.shared.contact.lock().elapsed()
    }

    /// How often the watch had to be begun again before its time.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// How often listing or watching failed.
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// How many objects were passed over because they could not be decoded.
    pub fn undecodable(&self) -> u64 {
        self.shared.undecodable.load(Ordering::Relaxed)
    }

    pub(super) fn mark_synced(&self) {
        self.touch();
        self.shared.synced.store(true, Ordering::Release);
    }

    pub(super) fn touch(&self) {
        *self.shared.contact.lock() = Instant::now();
    }

    pub(super) fn count_restart(&self) {
        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self) {
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_undecodable(&self) {
        self.shared.undecodable.fetch_add(1, Ordering::Relaxed);
    }
}
