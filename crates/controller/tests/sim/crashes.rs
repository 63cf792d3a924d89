//! One story, and a controller that crashes before or after its n-th write, for every n.

use std::time::Duration;

use serde_json::json;

use crate::faults::Crash;
use crate::objects::{NS, POOL, session};
use crate::simulate;
use crate::users::{create, delete, patch};
use crate::world::World;

const RESTART_AFTER: Duration = Duration::from_millis(300);

/// Two sessions live through what there is, and a pool grows and shrinks. Returns how many writes that took.
async fn story(crash: Option<Crash>) -> u64 {
    let mut world = World::healthy(7, 1);
    world.safety.allow_surge(2);
    world.control.lock().crashes.extend(crash);
    world.start();
    for second in 0..24 {
        for _ in 0..10 {
            world.pass(Duration::from_millis(100)).await;
            if world.processes.iter().any(|process| !process.lives()) {
                world.pass(RESTART_AFTER).await;
                world.mend();
            }
        }
        act(&world, second);
    }
    world.calm_down();
    world.mend();
    world.come_to_rest(Duration::from_secs(10), Duration::from_secs(5)).await;
    world.control.lock().writes
}

fn act(world: &World, second: u64) {
    let server = &world.server;
    let state = |name: &str, state: &str| patch(server, "sessions", name, json!({"spec": {"state": state}}));
    match second {
        1 => create(server, "sessions", session("brief", "coder")),
        2 => create(server, "sessions", session("long", "keeper")),
        6 => state("long", "Suspended"),
        9 => state("long", "Running"),
        10 => patch(server, "sandboxwarmpools", POOL, json!({"spec": {"replicas": 2}})),
        13 => {
            let restart = json!({"spec": {"restartedAt": server.now().to_string()}});
            patch(server, "sessions", "long", restart);
        }
        14 => {
            if let Some(brief) = server.object("sessions", NS, "brief") {
                delete(server, "sessions", &brief);
            }
        }
        17 => patch(server, "sandboxwarmpools", POOL, json!({"spec": {"replicas": 1}})),
        18 => create(server, "sessions", session("last", "coder")),
        20 => state("long", "Stopped"),
        _ => {}
    }
}

#[test]
fn a_crash_before_or_after_any_write_breaks_no_promise() {
    let writes = simulate(story(None));
    assert!(writes > 20, "{writes} writes are no story");
    for n in 1..=writes {
        for crash in [Crash::Before(n), Crash::After(n)] {
            eprintln!("{crash:?} of {writes}");
            simulate(story(Some(crash)));
        }
    }
}
