//! The real engine in small clusters, every history of it.
//!
//! Bounded by what there is of everything, by the number of faults (crashes, lost requests and lost answers), and
//! where it says so by the number of steps.

use std::collections::{HashSet, VecDeque};

use crate::world::World;

/// Visits every state, and checks each.
fn visit(engines: usize, sessions: usize, pool: i32, faults: u8, most_steps: Option<usize>) {
    let start = World::new(engines, sessions, pool, faults);
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut todo = VecDeque::from([start]);
    let (mut transitions, mut longest) = (0usize, 0);
    while let Some(world) = todo.pop_front() {
        longest = world.trail.len();
        if most_steps == Some(longest) {
            break;
        }
        for next in world.next() {
            transitions += 1;
            if seen.insert(next.fingerprint()) {
                todo.push_back(next);
            }
        }
    }
    println!(
        "{engines} engines, {sessions} sessions, pool of {pool}, {faults} faults: {} states, {transitions} \
         transitions, {} {longest} steps",
        seen.len(),
        if most_steps.is_some() { "cut after" } else { "all within" },
    );
}

#[test]
fn one_engine_with_a_fault_keeps_every_promise() {
    visit(1, 1, 2, 1, None);
}

#[test]
fn two_engines_keep_every_promise() {
    visit(2, 1, 1, 0, Some(10));
    visit(2, 2, 2, 1, Some(3));
}

/// `cargo test --release -p paddock-core --test model -- --ignored --nocapture`.
#[test]
#[ignore = "minutes"]
fn two_engines_with_more_of_everything_keep_every_promise() {
    visit(1, 1, 2, 2, None);
    visit(1, 2, 2, 1, None);
    visit(2, 1, 1, 0, None);
    visit(2, 1, 2, 0, None);
    visit(2, 1, 1, 1, Some(16));
}
