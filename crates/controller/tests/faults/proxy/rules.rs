//! Which requests meet which fault.

use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Pid;

use super::call::Call;

/// An answer of the proxy's own; the request is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
    /// In seconds.
    pub retry_after: Option<u32>,
}

impl Refusal {
    pub const CONFLICT: Self = Self { status: 409, reason: "Conflict", retry_after: None };
    pub const EXISTS: Self = Self { status: 409, reason: "AlreadyExists", retry_after: None };
    pub const EXPIRED: Self = Self { status: 410, reason: "Expired", retry_after: None };
    pub const INTERNAL: Self = Self { status: 500, reason: "InternalError", retry_after: None };
    pub const UNAVAILABLE: Self = Self { status: 503, reason: "ServiceUnavailable", retry_after: None };

    pub const fn too_many(retry_after: u32) -> Self {
        Self { status: 429, reason: "TooManyRequests", retry_after: Some(retry_after) }
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The proxy answers.
    Refuse(Refusal),
    /// A watch is accepted, and its first event says that it came too late.
    ExpireInBand,
    /// The server answers, and the connection is closed instead of telling.
    LoseAnswer,
    /// The server answers, and the connection is closed in the middle of the body.
    CutAnswer,
    /// It is forwarded later.
    Delay(Duration),
    /// The server answers, and before its client hears of it that process is killed.
    KillAfter(Pid),
    /// The process is killed and the request is not forwarded.
    KillBefore(Pid),
}

/// Of the requests that match, which ones meet the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// The third, sixth, ninth, ... for 3.
    Every(u32),
    /// Counted from 1.
    Nth(u32),
}

/// A fault, and whom it meets.
pub struct Rule {
    matches: Box<dyn Fn(&Call) -> bool + Send>,
    when: When,
    fault: Fault,
    seen: u32,
}

impl Rule {
    pub fn new(matches: impl Fn(&Call) -> bool + Send + 'static, when: When, fault: Fault) -> Self {
        Self { matches: Box::new(matches), when, fault, seen: 0 }
    }
}

/// The rules in force; the first that applies decides.
#[derive(Default)]
pub struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    pub fn replace(&self, rules: Vec<Rule>) {
        *self.0.lock() = rules;
    }

    pub fn decide(&self, call: &Call) -> Option<Fault> {
        let mut decided = None;
        for rule in self.0.lock().iter_mut().filter(|rule| (rule.matches)(call)) {
            rule.seen += 1;
            let meets = match rule.when {
                When::Always => true,
                When::Every(k) => rule.seen.is_multiple_of(k),
                When::Nth(n) => rule.seen == n,
            };
            if meets && decided.is_none() {
                decided = Some(rule.fault);
            }
        }
        decided
    }
}
