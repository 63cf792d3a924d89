//! Forgets what is older than it shall be kept.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::keeper::Keeper;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(3600);

/// Forgets, for ever, sessions in which nothing was said for `retention`. One that goes on after that is saved anew, as far
/// back as its pod knows.
pub async fn run(keeper: &Keeper, retention: Duration) {
    loop {
        let age = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
        match keeper.store().prune(before).await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, %before, "old transcripts are forgotten"),
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "old transcripts are not forgotten")
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
