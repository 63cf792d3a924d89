//! The claim protocol keeps its promises in every state, and each of its rules is needed for that.

use crate::protocol::{ANY, Protocol, Requests, Rule, Size};
use crate::search::{Report, explore, explore_compactly};

const fn size(
    controllers: usize,
    sessions: usize,
    sandboxes: usize,
    faults: (u8, u8),
    requests: Requests,
) -> Size {
    Size { controllers, sessions, sandboxes, crashes: faults.0, losses: faults.1, requests }
}

fn search(size: Size, without: &'static [Rule], most_steps: Option<u32>) -> Report<crate::protocol::Label> {
    let report = explore(&Protocol::new(size, without), most_steps);
    tell(size, without, most_steps, &report);
    report
}

fn tell(
    size: Size,
    without: &'static [Rule],
    most_steps: Option<u32>,
    report: &Report<crate::protocol::Label>,
) {
    let times = |n: u8| if n == ANY { "any".to_owned() } else { n.to_string() };
    println!(
        "{} controllers, {} sessions, {} sandboxes, crashes: {}, lost answers: {}, requests {:?}, without {:?}: \
         {} states, {} transitions, {} at rest, {} {} steps",
        size.controllers,
        size.sessions,
        size.sandboxes,
        times(size.crashes),
        times(size.losses),
        size.requests,
        without,
        report.states,
        report.transitions,
        report.at_rest,
        if most_steps.is_some() { "cut after" } else { "all within" },
        report.depth,
    );
}

fn holds(size: Size, most_steps: Option<u32>) {
    let report = search(size, &[], most_steps);
    if let Some((promise, trace)) = report.broken {
        panic!("{promise}: (what, controller, session, sandbox) {trace:#?}");
    }
}

#[test]
fn one_leader_after_another_keeps_every_promise() {
    holds(size(1, 2, 2, (ANY, ANY), Requests::Slow), None);
    holds(size(1, 3, 3, (ANY, 1), Requests::Instant), None);
}

#[test]
fn two_leaders_at_once_keep_every_promise() {
    holds(size(2, 1, 2, (ANY, ANY), Requests::Slow), None);
    holds(size(2, 1, 3, (ANY, ANY), Requests::Instant), None);
    holds(size(2, 2, 2, (0, 0), Requests::Slow), None);
    holds(size(2, 2, 2, (1, 1), Requests::Instant), None);
    holds(size(2, 2, 3, (0, 0), Requests::Instant), None);
}

#[test]
fn two_leaders_three_sessions_three_sandboxes_up_to_a_depth() {
    holds(size(2, 3, 3, (ANY, ANY), Requests::Instant), Some(6));
    holds(size(2, 3, 3, (0, 0), Requests::Instant), Some(12));
}

/// Minutes and gigabytes: `cargo test --release -p paddock-core --test model -- --ignored --nocapture`.
#[test]
#[ignore = "minutes and gigabytes"]
fn two_leaders_three_sessions_three_sandboxes() {
    holds(size(2, 2, 2, (ANY, ANY), Requests::Instant), None);
    holds(size(2, 2, 3, (0, 1), Requests::Instant), None);
    holds(size(2, 3, 3, (0, 0), Requests::Instant), None);
}

/// As long, with a fault: a lost answer.
#[test]
#[ignore = "an hour and gigabytes"]
fn two_leaders_three_sessions_three_sandboxes_and_a_lost_answer() {
    holds_compactly(size(2, 3, 3, (0, 1), Requests::Instant));
}

/// As long, with a fault: a crash of either leader.
#[test]
#[ignore = "an hour and gigabytes"]
fn two_leaders_three_sessions_three_sandboxes_and_a_crash() {
    holds_compactly(size(2, 3, 3, (1, 0), Requests::Instant));
}

fn holds_compactly(size: Size) {
    let report = explore_compactly(&Protocol::new(size, &[]));
    tell(size, &[], None, &report);
    if let Some((promise, _)) = report.broken {
        panic!("{promise}; `explore` tells the way there");
    }
}

/// What keeps only fingerprints finds the same.
#[test]
fn a_compact_search_visits_the_same_states() {
    let size = size(2, 1, 2, (ANY, ANY), Requests::Slow);
    let protocol = Protocol::new(size, &[]);
    let (whole, compact) = (explore(&protocol, None), explore_compactly(&protocol));
    let counts = |report: &Report<crate::protocol::Label>| {
        (report.states, report.transitions, report.at_rest, report.depth)
    };
    assert_eq!(counts(&whole), counts(&compact));
    let report = explore_compactly(&Protocol::new(size, &[Rule::StatusPrecondition]));
    assert!(report.broken.is_some(), "and what is wrong");
}

#[test]
fn every_rule_is_needed() {
    const LEADER: Size = size(1, 1, 2, (ANY, ANY), Requests::Slow);
    const RIVALS: Size = size(2, 1, 2, (ANY, ANY), Requests::Slow);
    const MANY: Size = size(2, 1, 3, (ANY, 1), Requests::Instant);
    const BOTH: Size = size(2, 2, 2, (1, 1), Requests::Slow);
    let cases: [(&'static [Rule], Size); 7] = [
        (&[Rule::Precondition], BOTH),
        (&[Rule::RunnerLock], BOTH),
        (&[Rule::BothBeforeReady], LEADER),
        (&[Rule::AskAfterTakeover], LEADER),
        // Asking after a loss would hide most of what this one does.
        (&[Rule::LookAfterConflict, Rule::AskAfterLoss], LEADER),
        (&[Rule::AskAfterLoss], MANY),
        (&[Rule::StatusPrecondition], RIVALS),
    ];
    for (without, size) in cases {
        let report = search(size, without, None);
        let (promise, trace) = report.broken.unwrap_or_else(|| panic!("{without:?} is not needed"));
        println!("  counterexample of {} steps: {promise}", trace.len());
        for (what, controller, session, sandbox) in &trace {
            println!("    {what}: controller {controller}, session {session}, sandbox {sandbox}");
        }
    }
}
