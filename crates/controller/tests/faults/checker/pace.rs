//! L7: how a controller treats a server in trouble, from its proxy's log.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::proxy::Call;

/// The most requests within any stretch of `window` between two times. Leases are never held back, or leadership would
/// be lost under load; they are not counted.
pub fn busiest(calls: &[Call], window: Duration, from: Timestamp, to: Timestamp) -> usize {
    let times: Vec<Timestamp> = calls
        .iter()
        .filter(|call| !call.is_lease() && call.at >= from && call.at <= to)
        .map(|call| call.at)
        .collect();
    let within = |begin: usize| {
        let end = times[begin] + window;
        times[begin..].iter().take_while(|at| **at < end).count()
    };
    (0..times.len()).map(within).max().unwrap_or_default()
}

/// Requests that came again sooner than the server had asked for. A request is the same if it does the same to the same
/// object; watches and lists are told apart by their kind.
pub fn impatient(calls: &[Call]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut not_before: HashMap<_, Timestamp> = HashMap::new();
    for call in calls.iter().filter(|call| !call.is_lease() && call.resource != "events") {
        let key = (call.verb, &call.resource, &call.subresource, &call.name);
        if let Some(earliest) = not_before.remove(&key)
            && call.at < earliest
        {
            let early = earliest.duration_since(call.at);
            wrong.push(format!(
                "L7: {:?} {} {:?} came {early:?} too soon",
                call.verb, call.resource, call.name
            ));
        }
        if let (Some(pause), Some((answered, _))) = (call.retry_after, call.answer) {
            not_before.insert(key, answered + pause);
        }
    }
    wrong
}
