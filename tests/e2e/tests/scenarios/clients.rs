//! Clients that were not written for Paddock work against it: opencode's SDK and CLI, an EventSource, and the curl calls of
//! LiteLLM Agent Platform's documentation.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use paddock_api::Session;
use paddock_e2e::command::{self, Output};
use paddock_e2e::objects::Kind;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const LIMIT: Duration = Duration::from_secs(900);

/// A file of `tests/clients`, with its packages beside it.
fn client(file: &str) -> PathBuf {
    needed("PADDOCK_TEST_CLIENTS").join(file)
}

fn needed(variable: &str) -> PathBuf {
    let path = std::env::var(variable);
    path.unwrap_or_else(|_| panic!("{variable} is not set; hack/test.sh sets it")).into()
}

/// Runs a program with these variables beside PATH, and nothing else of ours.
async fn run(program: PathBuf, args: &[&str], vars: &[(&str, &str)]) -> Output {
    let program = program.display().to_string();
    let vars: Vec<String> = vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("PATH={}", std::env::var("PATH").expect("a PATH"));
    let mut all = vec!["--ignore-environment", &path];
    all.extend(vars.iter().map(String::as_str));
    all.push(&program);
    all.extend(args);
    // The key is among the arguments, so what is shown when it fails is what the program itself says.
    let Output { ok, stdout, stderr, .. } = command::run("env", &all, None, Duration::from_secs(300)).await;
    Output { line: program, ok, stdout, stderr }
}

fn own_conversation(session: &Session) -> String {
    let status = session.status.as_ref().expect("a status");
    status.harness_session_id.clone().expect("a conversation")
}

fn harness_url(s: &Scenario, session: &Session) -> String {
    format!("{}/api/v1/managed_agents/sessions/{}/opencode", s.env.url, name_of(session))
}

#[tokio::test]
async fn opencode_s_sdk_works_unchanged() {
    scenario("opencode's SDK", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("sdk", json!({})).await;
        let session = s.ready_session("sdk", &agent).await;
        let (url, own, word) = (harness_url(s, &session), own_conversation(&session), s.word("sdk"));
        let vars = [("BASE_URL", &*url), ("KEY", &*s.env.key), ("OWN", &*own), ("WORD", &*word)];
        let script = client("sdk.mjs").display().to_string();
        let told = run("node".into(), &[&script], &vars).await.succeeded();
        assert_eq!(told.trim(), "all done");
        // What it said in the session's own conversation is the session's, and nothing else is.
        let told = s
            .http
            .get(&format!("/sessions/{}/messages", name_of(&session)))
            .await
            .with_status(200)
            .to_string();
        assert!(told.contains(&format!("{word}-own")) && !told.contains(&format!("{word}-one")), "{told}");
        // Each of its turns is known by the id that its answer named; the model was asked once for each.
        for words in ["one", "two", "own"] {
            let calls = s.model.calls_with(&format!("!say {word}-{words}")).await;
            let asked =
                calls.iter().filter(|call| call.last_user_text.contains(&format!("!say {word}-{words}")));
            assert_eq!(asked.count(), 1, "{words}");
        }
    })
    .await;
}

#[tokio::test]
async fn opencode_s_command_line_attaches() {
    scenario("opencode run --attach", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("cli", json!({})).await;
        let session = s.ready_session("cli", &agent).await;
        let (url, own, word) = (harness_url(s, &session), own_conversation(&session), s.word("cli"));
        let home = std::env::temp_dir().join(s.name("opencode"));
        std::fs::create_dir_all(&home).expect("a folder");
        let home_text = home.display().to_string();
        let vars = [
            ("HOME", &*home_text),
            ("OPENCODE_SERVER_PASSWORD", &*s.env.key),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ];
        let opencode = needed("PADDOCK_TEST_OPENCODE");
        let attach = ["run", "--attach", &url];
        // In a conversation of its own. What it prints is not looked at: with --attach, opencode 1.18 ends when the message is
        // answered and mostly before it has read the events that tell what to print, also with a server of its own.
        let in_words = word.clone() + "-new";
        run(opencode.clone(), &[&attach[..], &["--title", &in_words, &in_words]].concat(), &vars)
            .await
            .succeeded();
        let api = format!("/sessions/{}/opencode/session", name_of(&session));
        let made = s.http.get(&api).await.with_status(200);
        let made = made.as_array().and_then(|all| all.iter().find(|each| each["title"] == in_words));
        let made = made.and_then(|made| made["id"].as_str()).expect("the conversation that it made");
        assert_ne!(made, own);
        let told = s.http.get(&format!("{api}/{made}/message")).await.with_status(200);
        assert!(told[1]["parts"].to_string().contains(&format!("echo: {in_words}")), "{told}");
        // And in the session's.
        let goes_on = ["--session", &own, "--format", "json", &word];
        run(opencode.clone(), &[&attach[..], &goes_on].concat(), &vars).await.succeeded();
        let told = s.http.get(&format!("/sessions/{}/messages", name_of(&session))).await.with_status(200);
        assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
        assert!(told[1]["parts"].to_string().contains(&format!("echo: {word}")), "{told}");
        // A wrong key is told as such, and asks no model.
        let calls = s.model.calls_with(&word).await.len();
        let wrong = [
            ("HOME", &*home_text),
            ("OPENCODE_SERVER_PASSWORD", "wrong"),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ];
        run(opencode, &[&attach[..], &[&word]].concat(), &wrong).await.refused();
        assert_eq!(s.model.calls_with(&word).await.len(), calls);
        std::fs::remove_dir_all(&home).expect("its folder");
    })
    .await;
}

#[tokio::test]
async fn curl_as_the_platform_s_documentation_has_it() {
    scenario("LAP's curl calls", Share::Shared, LIMIT, async |s| {
        let word = s.word("curl");
        let vars = [("BASE", &*s.env.url), ("KEY", &*s.env.key), ("WORD", &*word)];
        let ran = run(client("lap.sh"), &[], &vars).await;
        let told = ran.stdout.clone();
        let of = |name: &str| -> Vec<&str> {
            told.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
        };
        // Records of sessions stay after their end, and whatever a script that failed has made stays too.
        for (name, kind) in [("session", Kind::Session), ("agent", Kind::Agent)] {
            for id in of(name).into_iter().filter(|id| uuid::Uuid::try_parse(id).is_ok()) {
                s.record(kind, &s.env.namespace, id);
            }
        }
        ran.succeeded();
        assert_eq!(of("reply"), [&*word], "{told}");
        assert_eq!(of("messages"), ["user assistant"], "{told}");
        assert_eq!(of("response"), [format!("first-{word}")], "{told}");
        assert!(of("deleted").iter().all(|status| ["deleted", "dead"].contains(status)), "{told}");
        assert_eq!(of("deleted").len(), 2, "{told}");
        assert_eq!(of("agent").last(), Some(&"204"), "{told}");
        assert!(of("session").iter().all(|id| uuid::Uuid::try_parse(id).is_ok()), "{told}");
    })
    .await;
}

/// An EventSource in a process of its own.
struct EventSource {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl EventSource {
    fn start(s: &Scenario, url: &str) -> Self {
        let mut child = Command::new("node")
            .arg(client("eventsource.mjs"))
            .env("URL", url)
            .env("KEY", &s.env.key)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is on PATH");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { _child: child, lines }
    }

    /// All lines until one that is wanted, that one included.
    async fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut read = Vec::new();
        let reading = async {
            while let Some(line) = self.lines.next_line().await.expect("its output") {
                let done = wanted(&line);
                read.push(line);
                if done {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(LIVENESS, reading).await;
        assert_eq!(found, Ok(true), "not told: {what}; told: {read:?}");
        read
    }
}

/// Journal and number of an event's id.
fn id_of(line: &str) -> Option<(u32, u64)> {
    let (first, second) = line.split(' ').next()?.split_once('.')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

#[tokio::test]
async fn an_event_source_goes_on_where_it_broke_off() {
    scenario("an EventSource, and its gateway killed", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("source", json!({})).await;
        let session = s.ready_session("source", &agent).await;
        let id = name_of(&session);
        let url = format!("{}/api/v1/managed_agents/sessions/{id}/stream?follow=1", s.env.url);
        let mut source = EventSource::start(s, &url);
        source.until("it follows", |line| line.ends_with(" stream.opened")).await;
        s.http.say(&id, &s.word("before")).await.reply();
        let mut told = source.until("the first turn's end", |line| line.ends_with(" session.idle")).await;

        let gateways = s.gateways().await;
        assert!(s.sigkill_gateways(&gateways).await > 0, "the gateway runs on this machine");
        let killed = Instant::now();
        let (key, word) = (s.word("key"), s.word("after"));
        // The turn runs while nobody may be there to tell of it.
        let reply = async {
            while s.http.try_once(&id, &key, &word).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIVENESS, reply).await.expect("a reply once a gateway is there");
        told.extend(source.until("the second turn's end", |line| line.ends_with(" session.idle")).await);
        measure::times("gateway SIGKILLed→an EventSource knows the turn after it", &[killed.elapsed()]);

        assert!(told.iter().any(|line| line.starts_with("- broken")), "it was never broken: {told:?}");
        let gaps: Vec<&String> = told.iter().filter(|line| line.ends_with(" stream.gap")).collect();
        assert!(gaps.is_empty(), "{gaps:?}");
        // The stream's own first word repeats the id it goes on from.
        let events = told.iter().filter(|line| !line.ends_with(" stream.opened"));
        let ids: Vec<(u32, u64)> = events.filter_map(|line| id_of(line)).collect();
        assert!(ids.len() > 10, "{told:?}");
        for pair in ids.windows(2) {
            assert_eq!(pair[1], (pair[0].0, pair[0].1 + 1), "an event is missing or told twice: {told:?}");
        }
    })
    .await;
}
