//! One random history: users, faults, crashes, rivals; then quiet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::dice::Dice;
use crate::faults::{Crash, Rates, Storm, StormKind};
use crate::gateways::Gateways;
use crate::nodes::Nature;
use crate::process::Leadership;
use crate::safety::Allowance;
use crate::users::{Users, interfere};
use crate::world::World;

/// What one run is made of.
#[derive(Clone, Debug)]
struct Plan {
    controllers: usize,
    leadership: Leadership,
    rates: Rates,
    runner_trouble: u64,
    storms: bool,
    crashes: bool,
    clock_jumps: bool,
    interferer: bool,
    transcripts: bool,
    replicas: u64,
    nature: Nature,
    lasts: Duration,
}

impl Plan {
    fn roll(dice: &mut Dice) -> Self {
        let controllers = if dice.one_in(3) { 2 } else { 1 };
        let leadership =
            if controllers == 2 && dice.one_in(2) { Leadership::Everybody } else { Leadership::Elected };
        let mut rate = |most: u64| if dice.one_in(3) { 0 } else { dice.roll(most + 1) };
        let rates =
            Rates { errors: rate(150), delays: rate(300), stale_lists: rate(500), watches: rate(150) };
        let runner_trouble = rate(300);
        let nature = match dice.roll(3) {
            0 => Nature { boot: (100, 500), end: (50, 300) },
            1 => Nature { boot: (500, 3000), end: (100, 2000) },
            _ => Nature { boot: (100, 2000), end: (100, 5000) },
        };
        Self {
            controllers,
            leadership,
            rates,
            runner_trouble,
            storms: dice.one_in(3),
            crashes: dice.one_in(2),
            clock_jumps: dice.one_in(4),
            interferer: dice.one_in(4),
            transcripts: dice.one_in(2),
            replicas: dice.roll(4),
            nature,
            lasts: dice.millis(15_000, 45_000),
        }
    }

    fn allowance(&self) -> Allowance {
        let everybody = self.leadership == Leadership::Everybody;
        let rivalry = Duration::from_secs(if everybody { 20 } else { 0 });
        Allowance { lag: Duration::from_secs(60), surge: if everybody { 10 } else { 2 }, rivalry }
    }
}

/// How long after the last fault all must be at rest. A watch may have to find out first that it has been cut.
const AT_REST_WITHIN: Duration = Duration::from_secs(10);
/// The same where members of the pool have failed: their replacement may have to pause, because others had failed before.
const PAUSE_WITHIN: Duration = Duration::from_secs(40);
const QUIET: Duration = Duration::from_secs(15);

/// What came of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How long after the last fault the last write was.
    pub rested: Duration,
    /// How many pods there were beyond what was wanted, at most.
    pub beyond: i64,
    /// Everything that happened.
    pub story: String,
}

/// Runs the history with this seed.
pub async fn run(seed: u64) -> Outcome {
    fastrand::seed(seed);
    let mut dice = Dice::new(seed);
    let plan = Plan::roll(&mut dice);
    let mut world = World::new(dice.fork(), plan.nature, plan.leadership, plan.allowance(), plan.replicas);
    world.trouble_runners(plan.runner_trouble);
    world.gateways = plan.transcripts.then(|| Gateways::new(dice.fork()));
    for _ in 0..plan.controllers {
        world.start();
    }
    world.pass(dice.millis(0, 3000)).await;
    let end = Instant::now() + plan.lasts;
    {
        let mut control = world.control.lock();
        control.rates = plan.rates;
        control.until = end;
    }
    let mut users = Users::new(dice.fork(), 12, 4);
    while Instant::now() < end {
        world.pass(dice.millis(5, 250)).await;
        if dice.one_in(3) {
            let nodes = world.nodes.clone();
            users.act(&world.server, &mut nodes.lock());
        }
        if plan.interferer {
            for _ in 0..dice.roll(20) {
                interfere(&world.server, &mut dice);
            }
        }
        disturb(&mut world, &plan, &mut dice, end);
    }
    world.calm_down();
    // Of several that all believe to lead, one is left.
    if plan.leadership == Leadership::Everybody {
        while world.processes.len() > 1 {
            world.processes.remove(0).crash();
        }
    }
    world.mend();
    let within = if world.has_broken_members() { PAUSE_WITHIN } else { AT_REST_WITHIN };
    let rested = world.come_to_rest(within, QUIET).await;
    Outcome { rested, beyond: world.safety.most_beyond, story: world.story(usize::MAX) }
}

fn disturb(world: &mut World, plan: &Plan, dice: &mut Dice, end: Instant) {
    if plan.storms && dice.one_in(60) {
        let kind = match dice.roll(4) {
            0 => StormKind::TooMany(0),
            1 => StormKind::TooMany(2),
            2 => StormKind::Broken,
            _ => StormKind::Conflicts,
        };
        let until = (Instant::now() + dice.millis(200, 8000)).min(end);
        world.control.lock().storm = Some(Storm { until, kind });
    }
    if plan.crashes {
        if dice.one_in(40) {
            let mut control = world.control.lock();
            let at = control.writes + 1 + dice.roll(15);
            let crash = if dice.one_in(2) { Crash::Before(at) } else { Crash::After(at) };
            control.crashes.push(crash);
        }
        if dice.one_in(10) {
            world.mend();
        }
    }
    if let Some(gateways) = &mut world.gateways
        && dice.one_in(30)
    {
        gateways.can_save = !gateways.can_save;
    }
    if plan.clock_jumps
        && dice.one_in(50)
        && let Some(process) = dice.pick(&world.processes)
    {
        let jump = i64::try_from(dice.roll(10_000)).unwrap() - 5000;
        process.skew.store(jump, Ordering::Relaxed);
    }
}
