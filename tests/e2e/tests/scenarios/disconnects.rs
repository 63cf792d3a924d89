//! Clients that leave at any moment cost neither gateway nor runner anything for long.

use std::time::Duration;

use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, processes, scenario, wait};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 400;
/// So many at a time.
const AT_ONCE: usize = 40;
/// Descriptors come and go with the watches on the API server.
const SLACK: usize = 4;
/// What may stay of memory after clients that were no more than the ones before, in KiB.
const GROWTH: u64 = 16 << 10;

#[tokio::test]
async fn leave_nothing_behind() {
    scenario("400 clients leave at any moment, twice", Share::Alone, Duration::from_secs(900), async |s| {
        let mut chance = s.chance();

        let agent = s.agent("leaving", json!({})).await;
        let session = s.ready_session("leaving", &agent).await;
        let id = name_of(&session);
        s.http.say(&id, &s.word("first")).await.reply();
        let gateway = gateway(s).await;
        let runner = only(&processes::of_pod(&pod_of(&session).uid, "paddock-runner"));
        let before = (descriptors(gateway), descriptors(runner));

        round(s, &id, &mut chance).await;
        let settled = rest(s, &id, gateway, runner, before).await;
        round(s, &id, &mut chance).await;
        let after = rest(s, &id, gateway, runner, before).await;
        s.log(&format!(
            "descriptors at first: {before:?}; memory in KiB after each round: {settled:?}, {after:?}"
        ));
        for (who, settled, after) in [("gateway", settled.0, after.0), ("runner", settled.1, after.1)] {
            assert!(after <= settled + GROWTH, "{who}: {settled} KiB, then {after} KiB");
            measure::line(&format!(
                "measured: memory of the {who} after 400 clients that left, in KiB {after}"
            ));
        }
        // Nobody who stays has noticed.
        let word = s.word("last");
        assert!(s.http.say(&id, &word).await.reply().contains(&word));
        assert_eq!(self::gateway(s).await, gateway, "it was not started again");
    })
    .await;
}

/// The process of the one gateway.
async fn gateway(s: &Scenario) -> u32 {
    let gateways = s.gateways().await;
    let pids = gateways.iter().flat_map(|pod| processes::of_pod(&uid(pod), "paddock-gateway"));
    only(&pids.collect::<Vec<u32>>())
}

fn only(pids: &[u32]) -> u32 {
    assert_eq!(pids.len(), 1, "one process on this machine");
    pids[0]
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process that is still there").count()
}

/// Memory that is the process's own, in KiB.
fn memory(pid: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that is still there");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Waits until all descriptors are given back, and returns how much memory is used then.
async fn rest(s: &Scenario, id: &str, gateway: u32, runner: u32, before: (usize, usize)) -> (u64, u64) {
    wait::until("all connections are closed", LIVENESS, async || {
        let now = (descriptors(gateway), descriptors(runner));
        let fits = now.0 <= before.0 + SLACK && now.1 <= before.1 + SLACK;
        fits.then_some(()).ok_or_else(|| format!("{now:?} descriptors, and {before:?} before"))
    })
    .await;
    wait::until("its turns are over", LIVENESS, async || {
        let told = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
        let turns = told["turns"].clone();
        let busy = turns["running"].as_u64().unwrap_or(0) + turns["queued"].as_u64().unwrap_or(0);
        (busy == 0).then_some(()).ok_or_else(|| told.to_string())
    })
    .await;
    (memory(gateway), memory(runner))
}

async fn round(s: &Scenario, id: &str, chance: &mut fastrand::Rng) {
    for _ in 0..CLIENTS / AT_ONCE {
        let clients = (0..AT_ONCE).map(|_| leave(s, id, chance.u8(..8), chance.u64(..150), chance.bool()));
        futures::future::join_all(clients).await;
    }
}

/// One client: it says so much, waits so long, and leaves, in order or not.
async fn leave(s: &Scenario, id: &str, how: u8, millis: u64, in_order: bool) {
    let address = s.env.url.trim_start_matches("http://");
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = |method: &str, path: &str, more: &str| {
        format!(
            "{method} /api/v1/managed_agents/sessions/{id}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{more}",
            s.env.key
        )
    };
    let body = format!("{{\"text\": \"!say {}\"}}", s.word("leaving"));
    let json = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let said = match how {
        0 => String::new(),
        1 => head("GET", "/messages", ""),
        2 => head("POST", "/message", &json) + &body[..body.len() / 2],
        3 => head("POST", "/message", &json) + &body,
        4 => head("POST", "/message_stream", &json) + &body,
        5 => head("GET", "/events", "\r\n"),
        6 => head("GET", "/opencode/event", "\r\n"),
        _ => head("GET", "/messages", "\r\n"),
    };
    // The other side may have closed already, as it may for anybody.
    let _ = stream.write_all(said.as_bytes()).await;
    let mut read = [0; 4096];
    let _ = tokio::time::timeout(Duration::from_millis(millis), stream.read(&mut read)).await;
    if in_order {
        let _ = stream.shutdown().await;
    } else {
        // A reset, as of a client that has crashed.
        let _ = stream.set_zero_linger();
    }
}
