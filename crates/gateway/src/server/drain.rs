//! The way a gateway ends: readiness fails first, new connections are still served for a moment, then turns
//! in flight get their time.

use tokio::sync::watch;

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not begun.
    Serving,
    /// Readiness fails so that no new clients are sent here; those that come are served, and told to use
    /// another connection next time.
    Leaving,
    /// No connection is accepted, no new request is taken; those in flight go on.
    Closing,
}

/// The stage, shared by everything that takes part in the shutdown.
#[derive(Clone, Debug)]
pub struct Drain(watch::Sender<Stage>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }
}

impl Drain {
    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Goes on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let further = stage > *current;
            *current = stage.max(*current);
            further
        });
    }

    /// Returns once `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut stages = self.0.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = stages.wait_for(|current| *current >= stage).await;
    }
}
