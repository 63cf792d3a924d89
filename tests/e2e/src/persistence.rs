//! What a client and a test need that go through failures: sending again with the same key, and chance that can be had again.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Unanswered;
use crate::scenario::Scenario;

/// Pause before a client tries again.
pub const RETRY: Duration = Duration::from_millis(200);

impl Scenario {
    /// Sends a message until it is answered, always with the same key. Returns the reply, and how often it was sent again.
    ///
    /// # Panics
    /// When it never will be answered, or is not within `limit`.
    pub async fn tell(&self, session: &str, key: &str, text: &str, limit: Duration) -> (Value, usize) {
        let begun = Instant::now();
        let mut again = 0;
        loop {
            match self.http.try_once(session, key, text).await {
                Ok(reply) => return (reply, again),
                Err(Unanswered::ForNow(why)) => {
                    assert!(begun.elapsed() < limit, "{key}: no answer; last: {why}");
                    self.log(&format!("{key} is sent again: {why}"));
                }
                Err(Unanswered::ForGood(why)) => panic!("{key}: {why}"),
            }
            again += 1;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Chance that can be had again: the seed is in the log, and is taken from `PADDOCK_E2E_SEED` where that is set.
    ///
    /// # Panics
    /// Never: the scenario's nonce is hexadecimal.
    pub fn chance(&self) -> fastrand::Rng {
        let seed = std::env::var("PADDOCK_E2E_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed =
            seed.unwrap_or_else(|| u64::from_str_radix(self.nonce(), 16).expect("a hexadecimal nonce"));
        self.log(&format!("PADDOCK_E2E_SEED={seed}"));
        fastrand::Rng::with_seed(seed)
    }
}
