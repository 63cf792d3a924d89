//! Holds back when the server is in trouble.
//!
//! A 429, a 5xx or a failed connection puts the client *under pressure*: from then on requests pass one at a time, 200 ms
//! apart, whoever makes them. The first good answer to a request sent under pressure ends it. This bounds what a whole
//! process sends to a struggling server, whatever the number of its watches and workers.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The least time between two requests under pressure: five a second.
const GAP: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when the server is in trouble.
    pressed_since: Mutex<Option<Instant>>,
    /// When the last request passed under pressure. Held while waiting, so waiters pass in order.
    turnstile: tokio::sync::Mutex<Option<Instant>>,
}

impl Pace {
    /// Returns when a request may be sent.
    pub(super) async fn admit(&self) {
        if !self.pressed() {
            return;
        }
        let mut last = self.turnstile.lock().await;
        if let Some(last) = *last
            && self.pressed()
        {
            sleep_until(last + GAP).await;
        }
        *last = Some(Instant::now());
    }

    /// Takes note of a 429, a 5xx, or no answer.
    pub(super) fn trouble(&self) {
        self.pressed_since.lock().get_or_insert_with(Instant::now);
    }

    /// Takes note of any other answer to a request that was sent at `sent`.
    pub(super) fn fine(&self, sent: Instant) {
        let mut since = self.pressed_since.lock();
        // An answer to an older request tells nothing about the server's present state.
        if since.is_some_and(|since| sent >= since) {
            *since = None;
        }
    }

    fn pressed(&self) -> bool {
        self.pressed_since.lock().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_pass_freely_until_there_is_trouble() {
        let pace = Pace::default();
        let begin = Instant::now();
        for _ in 0..1000 {
            pace.admit().await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn under_pressure_five_a_second_pass() {
        let pace = Pace::default();
        pace.trouble();
        let begin = Instant::now();
        for _ in 0..51 {
            pace.admit().await;
            pace.trouble();
        }
        assert!(begin.elapsed() >= Duration::from_secs(10));
        assert!(begin.elapsed() < Duration::from_millis(10_200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_answer_to_a_new_request_ends_it_and_one_to_an_old_request_does_not() {
        let pace = Pace::default();
        let before = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        pace.trouble();
        pace.fine(before);
        assert!(pace.pressed());
        pace.fine(Instant::now());
        assert!(!pace.pressed());
    }
}
