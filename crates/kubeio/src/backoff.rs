//! Delays between attempts: growing, capped, and spread so that many waiters do not come back together.

use std::time::Duration;

/// A doubling delay. Each delay is drawn from the upper half of its step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// The delay before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let step =
            self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        spread(step)
    }

    /// Starts again from the first step.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random duration between a half of `step` and all of it.
pub(crate) fn spread(step: Duration) -> Duration {
    // The thread's generator: every process has another seed, and a simulation may set it.
    step.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(4));
        for step in [100, 200, 400, 800, 1600, 3200, 4000, 4000] {
            let delay = backoff.next();
            assert!(
                delay >= Duration::from_millis(step / 2) && delay <= Duration::from_millis(step),
                "{step}: {delay:?}"
            );
        }
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(4));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }

    #[test]
    fn delays_differ() {
        let step = Duration::from_secs(1);
        assert!((0..20).map(|_| spread(step)).collect::<std::collections::HashSet<_>>().len() > 10);
    }
}
