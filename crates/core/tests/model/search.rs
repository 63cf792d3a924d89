//! Breadth-first search through every state of a model, with the shortest way to what is wrong.
//!
//! An own hundred lines instead of a library: symmetry over three kinds of actors at once and the check that
//! rest can be reached from everywhere are all that is asked for, and every line of it can be read here.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Something that can happen in a state.
pub struct Step<S, L> {
    /// What it is, for the trace.
    pub label: L,
    /// The state afterwards.
    pub to: S,
    /// Something that goes wrong; rest must be reachable without any of these.
    pub fault: bool,
    /// The promise that this very step breaks.
    pub broken: Option<&'static str>,
}

/// What is searched.
pub trait Model {
    /// Everything that decides what can happen next.
    type State: Copy + Eq + Hash;
    /// Name of a step.
    type Label: Clone;
    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// Everything that can happen, but for steps that change nothing.
    fn steps(&self, state: &Self::State, out: &mut Vec<Step<Self::State, Self::Label>>);
    /// The same state for all states that differ only in the names of things.
    fn canonical(&self, state: &Self::State) -> Self::State;
    /// The promise that a state breaks.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// The promise that a state breaks in which nothing but faults can happen any more.
    fn broken_at_rest(&self, state: &Self::State) -> Option<&'static str>;
}

/// What a search has found.
pub struct Report<L> {
    /// States, those that differ only in names counted once.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// States at rest.
    pub at_rest: usize,
    /// Length of the longest of all shortest ways to a state.
    pub depth: u32,
    /// The broken promise, and the shortest way there.
    pub broken: Option<(&'static str, Vec<L>)>,
}

struct Node {
    parent: u32,
    depth: u32,
    /// Where its steps that are no faults begin in the list of all.
    calm: usize,
}

/// Visits every state that can be reached, or stops at the first broken promise. With `most_steps` only states
/// that can be reached in so many steps are visited; whether rest is reachable from everywhere is then not known.
pub fn explore<M: Model>(model: &M, most_steps: Option<u32>) -> Report<M::Label> {
    let first = model.canonical(&model.initial());
    let mut ids: HashMap<M::State, u32> = HashMap::from([(first, 0)]);
    let mut states = vec![first];
    let mut nodes = vec![Node { parent: 0, depth: 0, calm: 0 }];
    let mut calm: Vec<u32> = Vec::new();
    let mut report = Report { states: 1, transitions: 0, at_rest: 0, depth: 0, broken: None };
    let mut steps = Vec::new();
    let mut at = 0;
    while at < states.len() {
        let (state, depth) = (states[at], nodes[at].depth);
        if most_steps == Some(depth) {
            report.states = states.len();
            return report;
        }
        nodes[at].calm = calm.len();
        steps.clear();
        model.steps(&state, &mut steps);
        for step in &steps {
            report.transitions += 1;
            let next = model.canonical(&step.to);
            let known = ids.get(&next).copied();
            let id = known.unwrap_or_else(|| {
                let id = u32::try_from(states.len()).expect("fewer than 2^32 states");
                ids.insert(next, id);
                states.push(next);
                nodes.push(Node { parent: at as u32, depth: depth + 1, calm: 0 });
                report.depth = depth + 1;
                id
            });
            let broken = step.broken.or_else(|| model.broken(&next).filter(|_| known.is_none()));
            if let Some(promise) = broken {
                let mut trace = trace(model, &states, &nodes, at);
                trace.push(step.label.clone());
                report.broken = Some((promise, trace));
                report.states = states.len();
                return report;
            }
            if !step.fault {
                calm.push(id);
            }
        }
        if calm.len() == nodes[at].calm {
            report.at_rest += 1;
            if let Some(promise) = model.broken_at_rest(&state) {
                report.broken = Some((promise, trace(model, &states, &nodes, at)));
                report.states = states.len();
                return report;
            }
        }
        at += 1;
    }
    report.states = states.len();
    drop(ids);
    if let Some(stuck) = restless(&nodes, &calm) {
        report.broken = Some(("from here rest is never reached", trace(model, &states, &nodes, stuck)));
    }
    report
}

/// The same for more states than there is memory for: of each only a fingerprint of 64 bits is kept, and no way there. Two of a
/// hundred million states share one with a probability of one in four thousand, and then the second is not visited. Whether rest
/// can be reached from everywhere is not asked.
pub fn explore_compactly<M>(model: &M) -> Report<M::Label>
where
    M: Model + Sync,
    M::State: Send + Sync,
    M::Label: Send,
{
    /// States whose steps are worked out before they are taken in.
    const BATCH: usize = 100_000;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report { states: 1, transitions: 0, at_rest: 0, depth: 0, broken: None };
    let first = model.canonical(&model.initial());
    let mut seen = HashSet::from([fingerprint(&first)]);
    // In batches, each of which is given back when it is done: so no more than one depth is in memory, not two.
    let mut frontier = vec![vec![first]];
    while !frontier.is_empty() {
        let mut next: Vec<Vec<M::State>> = Vec::new();
        for batch in frontier {
            let share = batch.len().div_ceil(workers);
            let found: Vec<Found<M::State>> = std::thread::scope(|scope| {
                let threads: Vec<_> = batch
                    .chunks(share)
                    .map(|states| scope.spawn(move || successors(model, states)))
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("a worker that goes on")).collect()
            });
            for found in found {
                report.transitions += found.transitions;
                report.at_rest += found.at_rest;
                if let Some(promise) = found.broken {
                    report.broken = Some((promise, Vec::new()));
                    return report;
                }
                for (print, state) in found.states {
                    if seen.insert(print) {
                        match next.last_mut().filter(|batch| batch.len() < BATCH) {
                            Some(batch) => batch.push(state),
                            None => next.push(batch_of(state, BATCH)),
                        }
                    }
                }
            }
        }
        report.states = seen.len();
        println!("  {} steps: {} states, {} transitions", report.depth, report.states, report.transitions);
        if !next.is_empty() {
            report.depth += 1;
        }
        frontier = next;
    }
    report
}

fn batch_of<S>(first: S, size: usize) -> Vec<S> {
    let mut batch = Vec::with_capacity(size);
    batch.push(first);
    batch
}

struct Found<S> {
    states: Vec<(u64, S)>,
    transitions: usize,
    at_rest: usize,
    broken: Option<&'static str>,
}

fn successors<M: Model>(model: &M, states: &[M::State]) -> Found<M::State> {
    let mut found = Found { states: Vec::new(), transitions: 0, at_rest: 0, broken: None };
    let mut steps = Vec::new();
    for state in states {
        steps.clear();
        model.steps(state, &mut steps);
        found.transitions += steps.len();
        if steps.iter().all(|step| step.fault) {
            found.at_rest += 1;
            found.broken = found.broken.or_else(|| model.broken_at_rest(state));
        }
        for step in &steps {
            let next = model.canonical(&step.to);
            found.broken = found.broken.or(step.broken).or_else(|| model.broken(&next));
            found.states.push((fingerprint(&next), next));
        }
    }
    found
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A state from which no way without faults leads to rest.
fn restless(nodes: &[Node], calm: &[u32]) -> Option<usize> {
    let end = |at: usize| nodes.get(at + 1).map_or(calm.len(), |next| next.calm);
    let mut reaches = vec![false; nodes.len()];
    loop {
        let mut changed = false;
        // Later states are nearer to rest, mostly; a few rounds do.
        for at in (0..nodes.len()).rev().filter(|at| !reaches[*at]).collect::<Vec<_>>() {
            let next = &calm[nodes[at].calm..end(at)];
            if next.is_empty() || next.iter().any(|id| reaches[*id as usize]) {
                reaches[at] = true;
                changed = true;
            }
        }
        if !changed {
            return reaches.iter().position(|reaches| !reaches);
        }
    }
}

/// The steps to a state, told with one set of names from beginning to end.
fn trace<M: Model>(model: &M, states: &[M::State], nodes: &[Node], to: usize) -> Vec<M::Label> {
    let mut way = vec![to];
    while way[way.len() - 1] != 0 {
        way.push(nodes[way[way.len() - 1]].parent as usize);
    }
    let mut state = model.initial();
    let mut labels = Vec::new();
    let mut steps = Vec::new();
    for at in way.into_iter().rev().skip(1) {
        steps.clear();
        model.steps(&state, &mut steps);
        let step = steps.iter().find(|step| model.canonical(&step.to) == states[at]);
        let step = step.expect("names do not change what can happen");
        labels.push(step.label.clone());
        state = step.to;
    }
    labels
}
