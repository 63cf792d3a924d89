//! Random requests, some of them wrong, and the watches that see what comes of them.

use serde_json::{Value, json};

use crate::pair::{Pair, group_of};
use crate::target::{Target, Watch};

const REQUESTS: usize = 220;
const STRANGER: &str = "11111111-1111-4111-8111-111111111111";
const KINDS: [&str; 5] = ["sessions", "sandboxwarmpools", "leases", "pods", "secrets"];
const SELECTORS: [&str; 3] = ["", "app%3Dx", "app+in+(x,y),!other"];

/// splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

fn object(kind: &str, name: &str, node: &str, dice: &mut Dice) -> Value {
    let word = dice.pick(&["one", "two", "three"]);
    let mut object = match kind {
        "sessions" => {
            json!({"kind": "Session", "spec": {"agentRef": {"name": "coder"}, "title": word, "unknown": 1}})
        }
        "sandboxwarmpools" => {
            json!({"kind": "SandboxWarmPool", "spec": {"sandboxTemplateRef": {"name": word}, "replicas": dice.roll(4)}})
        }
        "leases" => json!({"kind": "Lease", "spec": {"holderIdentity": word}}),
        "pods" => json!({"kind": "Pod", "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": format!("localhost/{word}:1")}]}}),
        _ => json!({"kind": "Secret", "type": "Opaque", "data": {"word": encoded(word)}}),
    };
    let version = group_of(kind).trim_start_matches("/apis/").trim_start_matches("/api/");
    object["apiVersion"] = version.into();
    object["metadata"] = json!({"name": name});
    if kind == "pods" && dice.one_in(2) {
        object["spec"]["nodeName"] = node.into();
    }
    if dice.one_in(2) {
        object["metadata"]["labels"] = json!({"app": dice.pick(&["x", "y", "z"])});
    }
    if dice.one_in(6) {
        object["metadata"]["finalizers"] = json!(["paddock.dev/test"]);
    }
    if dice.one_in(12) {
        object["status"] = json!({"phase": "Ready"});
    }
    if dice.one_in(25) {
        object["metadata"]["name"] = "Not A Name".into();
    }
    object
}

/// In base64, as the data of Secrets is.
fn encoded(word: &str) -> &'static str {
    match word {
        "one" => "b25l",
        "two" => "dHdv",
        _ => "dGhyZWU=",
    }
}

fn change(kind: &str, dice: &mut Dice) -> Value {
    let word = dice.pick(&["one", "two", "three"]);
    match dice.roll(9) {
        0 => json!({"metadata": {"labels": {"app": dice.pick(&["x", "y", "z"])}}}),
        1 => json!({"metadata": {"labels": null}}),
        2 => json!({"metadata": {"annotations": {"note": word}}}),
        3 => json!({"metadata": {"finalizers": ["paddock.dev/test"]}}),
        4 => json!({"metadata": {"finalizers": null}}),
        5 => {
            json!({"metadata": {"generation": 77, "creationTimestamp": null}, "status": {"phase": "Failed"}})
        }
        6 if kind == "sandboxwarmpools" => json!({"spec": {"replicas": "many"}}),
        7 if kind == "sandboxwarmpools" => {
            json!({"spec": {"updateStrategy": null, "sandboxTemplateRef": null}})
        }
        _ => match kind {
            "sessions" => json!({"spec": {"title": word, "other": {"a": null}}}),
            "sandboxwarmpools" => json!({"spec": {"replicas": dice.roll(4)}}),
            "leases" => json!({"spec": {"holderIdentity": word, "leaseDurationSeconds": null}}),
            "pods" => json!({"spec": {"terminationGracePeriodSeconds": dice.roll(40)}}),
            _ => json!({"data": {"word": encoded(word), "other": null}}),
        },
    }
}

fn status(kind: &str, dice: &mut Dice) -> Value {
    let mut status = match kind {
        "sessions" => match dice.roll(4) {
            0 => json!({"status": {"phase": dice.pick(&["Ready", "Failed", "Creating"]), "message": "m"}}),
            1 => {
                json!({"status": {"phase": "Ready", "bogus": 1, "pod": {"name": "p", "uid": "u", "ip": "1.2.3.4"}}})
            }
            2 => json!({"status": {"phase": "Unheard"}}),
            _ => json!({"status": {"pod": null, "message": null}, "spec": {"title": "by status"}}),
        },
        "sandboxwarmpools" => json!({"status": {"replicas": dice.roll(3), "readyReplicas": dice.roll(3)}}),
        _ => json!({"status": {"phase": dice.pick(&["Pending", "Running", "Failed"]), "message": "m"}}),
    };
    if dice.one_in(4) {
        status["metadata"] = json!({"labels": {"app": dice.pick(&["x", "y"])}});
    }
    status
}

/// Which UID and version a write names.
struct Names {
    uid: usize,
    version: usize,
}

impl Names {
    fn roll(dice: &mut Dice) -> Self {
        Self { uid: dice.roll(6), version: dice.roll(5) }
    }

    fn put(&self, metadata: &mut Value, current: &Value) {
        if !metadata.is_object() {
            *metadata = json!({});
        }
        let is = |field: &str| current["metadata"][field].clone();
        match self.uid {
            0 => metadata["uid"] = STRANGER.into(),
            1 | 2 => metadata["uid"] = is("uid"),
            _ => {}
        }
        match self.version {
            0 => metadata["resourceVersion"] = "1".into(),
            1 | 2 => metadata["resourceVersion"] = is("resourceVersion"),
            _ => {}
        }
    }
}

async fn one(pair: &mut Pair, dice: &mut Dice) {
    let kind = dice.pick(&KINDS);
    let name = dice.pick(&["a", "b", "c"]);
    let path = pair.path(kind, name);
    let collection = pair.path(kind, "");
    let has_status = matches!(kind, "sessions" | "sandboxwarmpools" | "pods");
    match dice.roll(14) {
        0..=3 => {
            let object = object(kind, name, &pair.node(), dice);
            pair.send("POST", &collection, Some(object)).await;
        }
        4 => {
            let selector = dice.pick(&SELECTORS);
            let field = if dice.one_in(3) { "&fieldSelector=metadata.name%3Da" } else { "" };
            pair.send("GET", &format!("{collection}?labelSelector={selector}{field}"), None).await;
        }
        5..=7 => patch(pair, dice, &path, change(kind, &mut Dice(dice.0))).await,
        8 | 9 if has_status => {
            patch(pair, dice, &format!("{path}/status"), status(kind, &mut Dice(dice.0))).await;
        }
        10 => put(pair, dice, &path, kind, false).await,
        11 if has_status => put(pair, dice, &path, kind, true).await,
        _ => delete(pair, dice, &path).await,
    }
}

async fn patch(pair: &mut Pair, dice: &mut Dice, path: &str, patch: Value) {
    let names = Names::roll(dice);
    let found = pair.read(path.trim_end_matches("/status")).await;
    let (memory, real) = found.unwrap_or_default();
    let with = |current: &Value| {
        let mut patch = patch.clone();
        names.put(&mut patch["metadata"], current);
        Some(patch)
    };
    pair.send_each("PATCH", path, with(&memory), with(&real)).await;
}

async fn put(pair: &mut Pair, dice: &mut Dice, path: &str, kind: &str, to_status: bool) {
    let names = Names::roll(dice);
    let mut object = object(kind, path.rsplit('/').next().unwrap(), &pair.node(), dice);
    if to_status && kind != "pods" {
        object["status"] = status(kind, dice)["status"].clone();
    }
    let Some((memory, real)) = pair.read(path).await else {
        if object["metadata"]["name"] == "Not A Name" {
            return;
        }
        pair.send("PUT", path, Some(object)).await;
        return;
    };
    let with = |current: &Value| {
        let mut object = object.clone();
        if kind == "pods" {
            // A pod's spec cannot be changed, and the real one has defaults in it.
            object["spec"] = current["spec"].clone();
        }
        names.put(&mut object["metadata"], current);
        Some(object)
    };
    let path = if to_status { format!("{path}/status") } else { path.to_owned() };
    pair.send_each("PUT", &path, with(&memory), with(&real)).await;
}

async fn delete(pair: &mut Pair, dice: &mut Dice, path: &str) {
    let names = Names::roll(dice);
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    match dice.roll(4) {
        0 => options["gracePeriodSeconds"] = 0.into(),
        1 => options["gracePeriodSeconds"] = dice.roll(60).into(),
        _ => {}
    }
    let (memory, real) = pair.read(path).await.unwrap_or_default();
    let with = |current: &Value| {
        let mut options = options.clone();
        names.put(&mut options["preconditions"], current);
        Some(options)
    };
    pair.send_each("DELETE", path, with(&memory), with(&real)).await;
}

async fn watches(target: &Target, pair: &Pair) -> Vec<(String, Watch)> {
    let mut all = Vec::new();
    for kind in KINDS {
        for selector in SELECTORS {
            let path = pair.path(kind, &format!("?labelSelector={selector}"));
            let version = target.send("GET", &path, None).await.1["metadata"]["resourceVersion"].clone();
            all.push((path.clone(), target.follow(&path, version.as_str().unwrap())));
        }
    }
    all
}

async fn run(seed: u64) {
    let Some(mut pair) = Pair::make(&format!("random-{seed}")).await else { return };
    let mut dice = Dice(seed);
    let memory = watches(&pair.memory, &pair).await;
    let real = watches(&pair.real, &pair).await;
    for _ in 0..REQUESTS {
        one(&mut pair, &mut dice).await;
    }
    for kind in KINDS {
        let mut last = object(kind, "last", &pair.node(), &mut Dice(2));
        last["metadata"] = json!({"name": "last", "labels": {"app": "x"}});
        let path = pair.path(kind, "");
        pair.send("POST", &path, Some(last)).await;
    }
    for ((path, mut memory), (_, mut real)) in memory.into_iter().zip(real) {
        let mut told = Vec::new();
        for (watch, target) in [(&mut memory, &mut pair.memory), (&mut real, &mut pair.real)] {
            let events = watch.up_to("last").await;
            told.push(events.into_iter().map(|event| target.plain.event(event)).collect::<Vec<_>>());
        }
        for (at, (memory, real)) in told[0].iter().zip(&told[1]).enumerate() {
            assert_eq!(memory, real, "event {at} of {path}, seed {seed} (memory left, real right)");
        }
        assert_eq!(told[0].len(), told[1].len(), "events of {path}, seed {seed}");
    }
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_are_answered_alike() {
    let seeds = match std::env::var("PADDOCK_CONFORMANCE_SEED") {
        Ok(seed) => vec![seed.parse().expect("PADDOCK_CONFORMANCE_SEED is a number")],
        Err(_) => (1..=6).collect(),
    };
    for seed in seeds {
        eprintln!("PADDOCK_CONFORMANCE_SEED={seed}");
        run(seed).await;
    }
}
