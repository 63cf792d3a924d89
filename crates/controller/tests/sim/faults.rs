//! What goes wrong between controllers and API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use paddock_api::labels;
use paddock_testkit::apiserver::{ApiServer, Call, Policy, Refusal, Tap, Treatment, Verb, Verdict};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::dice::Dice;

/// How much goes wrong, each in so many of a thousand cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A request is refused, lost, or its answer is.
    pub errors: u64,
    /// A request or its answer is slow.
    pub delays: u64,
    /// A list shows what was.
    pub stale_lists: u64,
    /// A watch is late, tells several changes as one, breaks, freezes or is told to start over.
    pub watches: u64,
}

/// Where a controller crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before its n-th write arrives.
    Before(u64),
    /// After its n-th write was done, before it hears of it.
    After(u64),
}

/// A time in which every request is refused.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub until: Instant,
    pub kind: StormKind,
}

#[derive(Clone, Copy, Debug)]
pub enum StormKind {
    /// 429 with this many seconds.
    TooMany(u32),
    /// 500 and 503.
    Broken,
    /// 409 for writes.
    Conflicts,
}

/// All that is shared with the simulation's driver.
#[derive(Debug)]
pub struct Control {
    pub rates: Rates,
    /// Until when anything goes wrong; what takes time ends by then.
    pub until: Instant,
    pub storm: Option<Storm>,
    pub crashes: Vec<Crash>,
    /// Writes of controllers so far, leases and events apart.
    pub writes: u64,
    /// Every controller that was ever started, and whether it lives.
    pub alive: HashMap<String, Arc<AtomicBool>>,
}

impl Control {
    pub fn new() -> Self {
        Self {
            rates: Rates::default(),
            until: Instant::now(),
            storm: None,
            crashes: Vec::new(),
            writes: 0,
            alive: HashMap::new(),
        }
    }
}

/// The policy of the server.
pub struct Faults {
    pub control: Arc<Mutex<Control>>,
    pub dice: Dice,
}

impl Policy for Faults {
    fn treat(&mut self, server: &ApiServer, client: &str, call: &Call) -> Treatment {
        let control = self.control.clone();
        let mut control = control.lock();
        let Some(alive) = control.alive.get(client).cloned() else { return Treatment::default() };
        if !alive.load(Ordering::Relaxed) {
            return Verdict::Swallow.into();
        }
        let counted = call.verb.writes() && !matches!(call.kind.plural.as_str(), "leases" | "events");
        if counted {
            control.writes += 1;
            let now = control.writes;
            let due = control.crashes.iter().find(|crash| match crash {
                Crash::Before(n) | Crash::After(n) => *n == now,
            });
            if let Some(crash) = due {
                alive.store(false, Ordering::Relaxed);
                return match crash {
                    Crash::Before(_) => Verdict::Swallow.into(),
                    Crash::After(_) => Verdict::Mute.into(),
                };
            }
        }
        let left = control.until.saturating_duration_since(Instant::now());
        if let Some(storm) = control.storm.filter(|storm| Instant::now() < storm.until)
            && let Some(refusal) = self.stormy(storm.kind, call)
        {
            return Verdict::Refuse(refusal).into();
        }
        if left.is_zero() {
            return self.usual();
        }
        let rates = control.rates;
        self.unlucky(server, rates, call, left)
    }

    fn tap(&mut self, client: &str, _: &Call, _: usize) -> Tap {
        let control = self.control.clone();
        let control = control.lock();
        if control.alive.get(client).is_none_or(|alive| !alive.load(Ordering::Relaxed)) {
            return Tap::Deliver;
        }
        let left = control.until.saturating_duration_since(Instant::now());
        if left.is_zero() || !self.dice.per_mille(control.rates.watches) {
            return Tap::Deliver;
        }
        let within = |time: Duration| time.min(left);
        match self.dice.roll(12) {
            0..=5 => Tap::Delay(within(self.dice.millis(1, 3000))),
            6 | 7 => Tap::Coalesce,
            8 => Tap::Cut,
            9 => Tap::Freeze(within(self.dice.millis(5000, 60_000))),
            10 => Tap::Expire,
            _ => Tap::Delay(within(self.dice.millis(3000, 15_000))),
        }
    }
}

impl Faults {
    /// A healthy server on the same network.
    fn usual(&mut self) -> Treatment {
        Treatment { before: self.dice.millis(1, 3), verdict: Verdict::Serve, after: self.dice.millis(1, 3) }
    }

    fn stormy(&mut self, kind: StormKind, call: &Call) -> Option<Refusal> {
        match kind {
            StormKind::TooMany(seconds) => Some(Refusal::too_many_requests(seconds)),
            StormKind::Broken if self.dice.one_in(2) => Some(Refusal::internal()),
            StormKind::Broken => Some(Refusal::unavailable()),
            StormKind::Conflicts => call.verb.writes().then(conflict),
        }
    }

    fn unlucky(&mut self, server: &ApiServer, rates: Rates, call: &Call, left: Duration) -> Treatment {
        let mut treatment = self.usual();
        if self.dice.per_mille(rates.delays) {
            treatment.before = self.dice.millis(1, 2000).min(left);
        }
        if self.dice.per_mille(rates.delays) {
            treatment.after = self.dice.millis(1, 2000).min(left);
        }
        // Which sandboxes are a session's is asked of the API server itself, and it does answer that as of now.
        let asks_for_truth = call.query.label_selector.contains(labels::SESSION_UID);
        if call.verb == Verb::List && !asks_for_truth && self.dice.per_mille(rates.stale_lists) {
            let version = server.version();
            treatment.verdict = Verdict::AsOf(version.saturating_sub(self.dice.roll(40)).max(1));
        }
        if self.dice.per_mille(rates.errors) {
            // What hangs is given up on after 10 s.
            let may_hang = left > Duration::from_secs(11);
            treatment.verdict = match self.dice.roll(9) {
                0 => Verdict::Refuse(Refusal::internal()),
                1 => Verdict::Refuse(Refusal::unavailable()),
                2 => Verdict::Refuse(Refusal::too_many_requests(1)),
                3 if call.verb.writes() => Verdict::Refuse(conflict()),
                4 => Verdict::Break,
                5 if may_hang => Verdict::Swallow,
                6 if may_hang => Verdict::Mute,
                _ => Verdict::Lose,
            };
        }
        treatment
    }
}

fn conflict() -> Refusal {
    Refusal::new(
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version",
    )
}
