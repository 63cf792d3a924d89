//! How much a key may be used: requests a second, and requests at once. Each replica of the gateway counts by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request's place among those of its key that are being answered; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Why a request finds nothing left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Exhausted {
    /// They come too fast; after `wait` there is room for one.
    Rate { wait: Duration },
    /// Too many are being answered.
    InFlight,
}

/// The limits of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct QuotaSpec {
    rate: Option<Rate>,
    max_in_flight: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl QuotaSpec {
    /// So many requests a second, `burst` of them at once after a pause; without a burst those of one second. And so many
    /// in flight.
    pub(super) fn new(per_second: Option<f64>, burst: Option<u32>, max_in_flight: Option<u32>) -> Self {
        let rate = per_second
            .map(|per_second| Rate { per_second, burst: burst.map_or_else(|| per_second.ceil(), f64::from) });
        Self { rate, max_in_flight }
    }
}

/// What is left of a key's limits.
#[derive(Debug)]
pub(super) struct Quota {
    spec: QuotaSpec,
    bucket: Option<Mutex<Bucket>>,
    places: Option<Arc<Semaphore>>,
}

impl Quota {
    /// All of it.
    pub(super) fn new(spec: QuotaSpec) -> Self {
        Self {
            spec,
            bucket: spec.rate.map(|rate| Mutex::new(Bucket { rate, tokens: rate.burst, at: None })),
            places: spec.max_in_flight.map(|max| Arc::new(Semaphore::new(max as usize))),
        }
    }

    /// The limits.
    pub(super) fn spec(&self) -> &QuotaSpec {
        &self.spec
    }

    /// Takes one request's part. One that finds no place has used up its part of the rate all the same: it is a request.
    pub(super) fn take(&self, now: Instant) -> Result<Option<Place>, Exhausted> {
        if let Some(bucket) = &self.bucket {
            bucket.lock().take(now).map_err(|wait| Exhausted::Rate { wait })?;
        }
        let Some(places) = &self.places else { return Ok(None) };
        places
            .clone()
            .try_acquire_owned()
            .map(|permit| Some(Place { _permit: permit }))
            .map_err(|_| Exhausted::InFlight)
    }
}

/// Fills with time, up to the burst; a request takes one token.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = (self.tokens + since.as_secs_f64() * self.rate.per_second).min(self.rate.burst);
        // Requests are not ordered by their times; a bucket that went back would fill twice.
        self.at = self.at.max(Some(now));
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate.per_second));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn rate(quota: &Quota, now: Instant) -> Option<Duration> {
        match quota.take(now) {
            Ok(_) => None,
            Err(Exhausted::Rate { wait }) => Some(wait),
            Err(Exhausted::InFlight) => panic!("there is no such limit"),
        }
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let quota = Quota::new(QuotaSpec::new(Some(2.0), Some(3), None));
        let start = Instant::now();
        assert_eq!([0, 0, 0].map(|_| rate(&quota, start)), [None; 3]);
        assert_eq!(rate(&quota, start), Some(millis(500)));
        assert_eq!(rate(&quota, start + millis(250)), Some(millis(250)));
        assert_eq!(rate(&quota, start + millis(500)), None);
        assert_eq!(rate(&quota, start + millis(500)), Some(millis(500)));
        // A pause fills it up to the burst and no further.
        let later = start + Duration::from_secs(3600);
        assert_eq!([0, 0, 0].map(|_| rate(&quota, later)), [None; 3]);
        assert_eq!(rate(&quota, later), Some(millis(500)));
    }

    #[test]
    fn a_request_that_was_overtaken_gains_nothing() {
        let quota = Quota::new(QuotaSpec::new(Some(1.0), Some(1), None));
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        assert_eq!(rate(&quota, later), None);
        assert_eq!(rate(&quota, start), Some(Duration::from_secs(1)));
        assert_eq!(rate(&quota, later), Some(Duration::from_secs(1)));
    }

    #[test]
    fn without_a_burst_it_is_what_a_second_brings() {
        for (per_second, at_once) in [(0.5, 1), (1.0, 1), (2.5, 3)] {
            let quota = Quota::new(QuotaSpec::new(Some(per_second), None, None));
            let start = Instant::now();
            let let_through = (0..10).filter(|_| rate(&quota, start).is_none()).count();
            assert_eq!(let_through, at_once, "{per_second}");
        }
    }

    #[test]
    fn places_are_free_again_when_they_are_given_back() {
        let quota = Quota::new(QuotaSpec::new(None, None, Some(2)));
        let now = Instant::now();
        let first = quota.take(now).unwrap();
        let _second = quota.take(now).unwrap();
        assert_eq!(quota.take(now).unwrap_err(), Exhausted::InFlight);
        drop(first);
        assert!(quota.take(now).unwrap().is_some());
    }
}
