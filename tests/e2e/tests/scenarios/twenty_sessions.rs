//! Twenty sessions side by side, made while the controller is killed, and each with its own conversation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use paddock_api::Session;
use paddock_e2e::census::Census;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, objects, pool, processes, scenario, wait};
use serde_json::{Value, json};

const SESSIONS: usize = 20;
const POOL: usize = 2;
/// design.md, rule 6: pods ≤ pool size + live sessions + surge.
const SURGE: usize = 2;
/// Twenty coding agents boot on two processors: slow, and not the point here.
const BOOTS: Duration = Duration::from_secs(900);

#[tokio::test]
async fn survive_a_killed_controller_and_keep_their_replies_apart() {
    scenario("twenty sessions", Share::Alone, Duration::from_secs(2400), async |s| {
        let herd = s.private_pool("herd").replicas(POOL as i32).create().await;
        pool::full(s, &s.env.namespace, &herd).await;
        let spec = json!({ "poolRef": { "name": herd }, "lifecycle": { "startupTimeout": "20m" } });
        let agent = s.agent("herd", spec).await;
        let census = Census::start(s.api(), &format!("{}={}", pool::MARK, s.nonce()));

        let names: Vec<String> = (1..=SESSIONS).map(|n| s.name(&format!("herd{n}"))).collect();
        let make = |name: &String| objects::session(&s.env.namespace, name, &agent, &Value::Null);
        let manifest = objects::list(names.iter().map(make).collect());
        let applied = Instant::now();
        let (_, killed) = tokio::join!(s.apply(&manifest), kill_controllers_amid_creation(s, &census));

        let ready = names.iter().map(|name| async {
            let session = s.ready_within(name, BOOTS).await;
            (session, Instant::now())
        });
        let ready = futures::future::join_all(ready).await;
        let mut times: Vec<Duration> = ready.iter().map(|(_, at)| *at - applied).collect();
        times.sort();
        measure::times("twenty at once, pool of 2, controllers killed: apply→Ready", &times);
        if let Some(first) = ready.iter().map(|(_, at)| *at).filter(|at| *at > killed).min() {
            measure::times("controllers killed→next session Ready (a cold one)", &[first - killed]);
        }
        let sessions: Vec<Session> = ready.into_iter().map(|(session, _)| session).collect();
        each_has_one_pod_of_its_own(s, &sessions).await;

        pool::full(s, &s.env.namespace, &herd).await;
        wait::until("there are only the sessions' pods and the pool's", LIVENESS, async || {
            match census.count().pods.len() {
                n if n == SESSIONS + POOL => Ok(()),
                n => Err(format!("{n} pods")),
            }
        })
        .await;
        let count = census.count();
        measure::number("twenty sessions: most pods at any instant", count.peak);
        assert!(count.peak <= SESSIONS + POOL + SURGE, "{} pods at once", count.peak);
        assert!(count.doubles.is_empty(), "two pods for one session: {:?}", count.doubles);
        for (pod, served) in &count.sessions_of_pod {
            assert!(served.len() <= 1, "pod {pod} served several sessions: {served:?}");
        }

        replies_are_not_mixed(s, &names).await;
    })
    .await;
}

/// Waits until some of the pods are there, then kills every controller like a power cut does.
async fn kill_controllers_amid_creation(s: &Scenario, census: &Census) -> Instant {
    wait::until("the creation is under way", LIVENESS, async || match census.count().pods.len() {
        n if n >= POOL + 4 => Ok(()),
        n => Err(format!("{n} pods")),
    })
    .await;
    let name = format!("{}-controller", s.env.release);
    let deployment = s.api::<Deployment>().get(&name).await.expect("the controller's Deployment");
    let labels = deployment.spec.expect("a spec").selector.match_labels.expect("labels");
    let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let pods = s.api::<Pod>().list(&ListParams::default().labels(&selector)).await.expect("controller pods");
    let pids: Vec<u32> =
        pods.items.iter().flat_map(|pod| processes::of_pod(&uid(pod), "paddock-controller")).collect();
    let before = ready_count(s).await;
    if pids.is_empty() {
        s.log("no controller process on this machine: deletes the pods without grace instead");
        let mut args = vec!["delete", "pods", "--force", "--grace-period=0", "--wait=false", "-l"];
        args.push(&selector);
        s.kubectl.run(&args).await.succeeded();
    } else {
        processes::sigkill(&pids).await;
    }
    let killed = Instant::now();
    s.log(&format!("killed {} controller processes, {before} of {SESSIONS} sessions Ready", pids.len()));
    assert!(before < SESSIONS, "the controllers were killed too late to show anything");
    killed
}

async fn ready_count(s: &Scenario) -> usize {
    let all = s.api::<Session>().list(&ListParams::default()).await.expect("a list of Sessions");
    let ours = all.items.iter().filter(|session| name_of(*session).contains(s.nonce()));
    ours.filter(|session| session.status.as_ref().is_some_and(|st| st.phase == paddock_api::Phase::Ready))
        .count()
}

async fn each_has_one_pod_of_its_own(s: &Scenario, sessions: &[Session]) {
    let mut owners = BTreeMap::new();
    for session in sessions {
        let (sandboxes, _) = s.bound_to(&uid(session)).await;
        assert_eq!(sandboxes.len(), 1, "sandboxes of {}: {sandboxes:?}", name_of(session));
        if let Some(other) = owners.insert(pod_of(session).uid, name_of(session)) {
            panic!("{other} and {} have the same pod", name_of(session));
        }
    }
    let live: BTreeSet<String> = s
        .api::<Pod>()
        .list(&ListParams::default().labels(&format!("{}={}", pool::MARK, s.nonce())))
        .await
        .expect("a list of pods")
        .items
        .iter()
        .map(uid)
        .collect();
    for (pod, session) in owners {
        assert!(live.contains(&pod), "{session} is Ready in a pod that does not exist");
    }
}

/// Asks all sessions at the same time, twice: each answers for itself, and finds only its own files.
async fn replies_are_not_mixed(s: &Scenario, names: &[String]) {
    let words: Vec<String> = (0..names.len()).map(|n| s.word(&format!("own{n}x"))).collect();
    let asks = [
        |word: &str| format!("!run echo {word} >> mine.txt; cat mine.txt"),
        |_: &str| "!run cat mine.txt".to_owned(),
    ];
    for (round, ask) in asks.into_iter().enumerate() {
        let asked = Instant::now();
        let all = names.iter().zip(&words).map(async |(name, word)| s.http.say(name, &ask(word)).await);
        let answers = tokio::time::timeout(Duration::from_secs(480), futures::future::join_all(all)).await;
        let answers = answers.expect("twenty replies within eight minutes");
        for (n, answer) in answers.iter().enumerate() {
            let reply = answer.reply();
            let found: Vec<&String> = words.iter().filter(|word| reply.contains(*word)).collect();
            assert_eq!(found, [&words[n]], "round {round}: session {} replied {reply}", names[n]);
        }
        let times: Vec<Duration> = answers.iter().map(|answer| answer.took).collect();
        measure::times(&format!("twenty messages at once, round {}: message→reply", round + 1), &times);
        s.log(&format!("twenty replies after {:?}, none mixed up", asked.elapsed()));
    }
}
