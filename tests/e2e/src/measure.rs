//! Measured numbers: printed, never asserted.

use std::io::Write;
use std::time::Duration;

use paddock_api::Session;

/// Writes a line past the test harness, which would hide it when the test passes.
pub fn line(text: &str) {
    // A closed stderr must not fail a scenario.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints how long something took, over all its samples.
pub fn times(what: &str, samples: &[Duration]) {
    if samples.is_empty() {
        return line(&format!("measured: {what} n=0"));
    }
    let mut sorted = samples.to_vec();
    sorted.sort();
    let at = |share: f64| {
        let index = ((sorted.len() - 1) as f64 * share).round() as usize;
        pretty(sorted[index])
    };
    line(&format!("measured: {what} p50={} min={} max={} n={}", at(0.5), at(0.0), at(1.0), sorted.len()));
}

/// Prints how long a session's last start took, step by step.
///
/// # Panics
/// When it is not Ready.
pub fn startup(what: &str, session: &Session) {
    let startup =
        session.status.as_ref().and_then(|status| status.startup.as_ref()).expect("a Ready session");
    let steps: Vec<String> =
        startup.steps.iter().map(|took| format!(" {:?}={}ms", took.step, took.took_ms)).collect();
    let (claimed, activated) = (startup.claimed_ms, startup.activated_ms);
    line(&format!(
        "measured: start of {what} {:?} claimed={claimed}ms activated={activated}ms:{}",
        startup.path,
        steps.concat()
    ));
}

/// Prints a number with its unit.
pub fn number(what: &str, value: impl std::fmt::Display) {
    line(&format!("measured: {what} {value}"));
}

fn pretty(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.1}s", time.as_secs_f64())
    }
}
