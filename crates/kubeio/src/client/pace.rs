//! Holds back when the server is in trouble.
//!
//! A 429 or a 5xx puts the client *under pressure*: from then on requests pass one at a time, 200 ms apart, whoever makes
//! them. The first good answer to a request sent under pressure ends it. This bounds what a whole process sends to a
//! struggling server, whatever the number of its watches and workers.
//!
//! Reads and writes have a lane each, because a server may refuse the ones and serve the others, as the API server's
//! priority and fairness does: a list that was answered says nothing about writes. While both are under pressure they
//! share one turnstile. A connection that fails presses both.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The least time between two requests under pressure: five a second.
const GAP: Duration = Duration::from_millis(200);

/// Requests that a server refuses or serves alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Watches included.
    Reads,
    Writes,
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when the server is in trouble, by lane.
    pressed_since: Mutex<[Option<Instant>; 2]>,
    /// When the last request passed under pressure. Held while waiting, so waiters pass in order.
    turnstile: tokio::sync::Mutex<Option<Instant>>,
}

impl Pace {
    /// Returns when a request may be sent.
    pub(super) async fn admit(&self, lane: Lane) {
        if !self.pressed(lane) {
            return;
        }
        let mut last = self.turnstile.lock().await;
        if let Some(last) = *last
            && self.pressed(lane)
        {
            sleep_until(last + GAP).await;
        }
        *last = Some(Instant::now());
    }

    /// Takes note of a 429 or a 5xx.
    pub(super) fn trouble(&self, lane: Lane) {
        self.pressed_since.lock()[lane as usize].get_or_insert_with(Instant::now);
    }

    /// Takes note of a failed connection, or of no answer.
    pub(super) fn silence(&self) {
        self.trouble(Lane::Reads);
        self.trouble(Lane::Writes);
    }

    /// Takes note of any other answer to a request that was sent at `sent`.
    pub(super) fn fine(&self, lane: Lane, sent: Instant) {
        let since = &mut self.pressed_since.lock()[lane as usize];
        // An answer to an older request tells nothing about the server's present state.
        if since.is_some_and(|since| sent >= since) {
            *since = None;
        }
    }

    fn pressed(&self, lane: Lane) -> bool {
        self.pressed_since.lock()[lane as usize].is_some()
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
            pace.admit(Lane::Writes).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn under_pressure_five_a_second_pass() {
        let pace = Pace::default();
        pace.trouble(Lane::Writes);
        let begin = Instant::now();
        for _ in 0..51 {
            pace.admit(Lane::Writes).await;
            pace.trouble(Lane::Writes);
        }
        assert!(begin.elapsed() >= Duration::from_secs(10));
        assert!(begin.elapsed() < Duration::from_millis(10_200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_answer_to_a_new_request_ends_it_and_one_to_an_old_request_does_not() {
        let pace = Pace::default();
        let before = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        pace.trouble(Lane::Writes);
        pace.fine(Lane::Writes, before);
        assert!(pace.pressed(Lane::Writes));
        pace.fine(Lane::Writes, Instant::now());
        assert!(!pace.pressed(Lane::Writes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_answer_to_a_read_says_nothing_about_writes() {
        let pace = Pace::default();
        pace.trouble(Lane::Writes);
        assert!(!pace.pressed(Lane::Reads));
        pace.fine(Lane::Reads, Instant::now());
        assert!(pace.pressed(Lane::Writes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_gets_five_requests_a_second_of_both_kinds_together() {
        let pace = Pace::default();
        pace.silence();
        let begin = Instant::now();
        for _ in 0..25 {
            pace.admit(Lane::Reads).await;
            pace.admit(Lane::Writes).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(9_800), "{:?}", begin.elapsed());
    }
}
