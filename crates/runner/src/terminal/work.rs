//! Whether a program works on what a person has given it to do.
//!
//! It does not say so. What can be seen is that it got keys, and that it prints. So what it prints counts for as long after the
//! last key as one task may take: the agent's limit for a turn. One that prints for ever, a clock on its screen for example,
//! keeps its session no longer than that.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Work {
    last_key: Option<Instant>,
    limit: Duration,
}

impl Work {
    /// A task may take so long.
    pub(super) fn is_limited_to(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Somebody has typed.
    pub(super) fn is_given(&mut self, now: Instant) {
        self.last_key = Some(now);
    }

    /// Whether what is printed now is a part of it.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        self.last_key.is_some_and(|key| now.saturating_duration_since(key) < self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_work_for_as_long_as_a_task_may_take_after_the_last_key() {
        let begun = Instant::now();
        let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        let mut work = Work::default();
        work.is_limited_to(Duration::from_secs(60 * 30));
        // A program that nobody has given anything to do.
        assert!(!work.goes_on(at(0)));
        work.is_given(at(10));
        assert!(work.goes_on(at(10)) && work.goes_on(at(39)));
        assert!(!work.goes_on(at(40)) && !work.goes_on(at(600)));
        work.is_given(at(50));
        work.is_given(at(70));
        assert!(work.goes_on(at(99)) && !work.goes_on(at(100)));
    }
}
