//! The runner's binary with a real shell in its terminal.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use std::time::{Duration, Instant};

use futures::SinkExt;
use paddock_runnerapi::{ActivateRequest, InitialTurn, Scope};
use serde_json::json;
use support::viewer::Viewer;
use support::{Pod, SESSION, memory, request, request_of, until};
use tokio_tungstenite::tungstenite::{Error, Message};

const LIMIT: Duration = Duration::from_secs(20);
/// Without anybody's start files.
const SHELL: [&str; 3] = ["bash", "--norc", "--noprofile"];

async fn started(program: &[&str]) -> Pod {
    started_for(&request(), program).await
}

async fn started_for(request: &ActivateRequest, program: &[&str]) -> Pod {
    let mut pod = Pod::with_terminal(program);
    pod.start();
    pod.ready().await;
    let answer = pod.activate(request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["capabilities"], json!({"messages": false, "terminal": true}));
    pod
}

/// What is shown as an answer to `command`, not the command itself: it has to print something that it does not contain.
async fn asks(viewer: &mut Viewer, command: &str, answer: &str) {
    assert!(!command.contains(answer));
    viewer.types(&format!("{command}\r")).await;
    viewer.sees(answer, |screen| screen.contains(answer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_the_workspace_with_the_agents_environment() {
    let pod = started(&SHELL).await;
    let mut viewer = Viewer::attach(&pod).await;
    asks(&mut viewer, "echo one$((1+1))three", "one2three").await;
    asks(&mut viewer, "echo \"[$AGENT_COLOUR]\"", "[it's \"blue\" $HOME]").await;
    let workspace = format!("at {}", pod.workspace().display());
    viewer.resizes(200, 30).await;
    asks(&mut viewer, "echo a\"\"t $PWD", &workspace).await;
    asks(&mut viewer, "env | grep -c PADDOCK_; echo $TERM", "xterm-256color").await;
    assert!(viewer.screen().contains("\n0\n"), "{}", viewer.screen());
    // Nobody but a shell at a terminal has this.
    asks(
        &mut viewer,
        "test -t 0 && ps -o pid=,pgid=,sid= $$ | awk '{print $1==$2 && $2==$3 ? \"lea\" \"der\" : \"no\"}'",
        "leader",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_to_say_so_decides_the_size() {
    let pod = started(&SHELL).await;
    let mut first = Viewer::attach(&pod).await;
    asks(&mut first, "stty size", "24 80").await;
    first.resizes(101, 31).await;
    asks(&mut first, "stty size", "31 101").await;
    let mut second = Viewer::attach(&pod).await;
    second.resizes(62, 21).await;
    asks(&mut second, "stty size", "21 62").await;
    // What is no size changes nothing, and a brace is a key.
    for text in ["{\"type\":\"resize\",\"cols\":0,\"rows\":9}", "{\"type\":\"x\"}", "{\"type\":\"ping\"}"] {
        second.socket.send(Message::text(text)).await.unwrap();
    }
    for key in ["{", " stty size; echo e\"\"nd; }\r"] {
        second.socket.send(Message::text(key)).await.unwrap();
    }
    second.sees("the end", |screen| screen.contains("21 62\nend") && !screen.contains("ping")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_sees_the_screen_and_all_see_what_comes() {
    let pod = started(&SHELL).await;
    let mut first = Viewer::attach(&pod).await;
    asks(&mut first, "printf '\\033[1;31mgr\\303\\274\\303\\237e\\033[0m\\n'; X=ke\"\"pt", "grüße").await;
    first.socket.close(None).await.unwrap();
    drop(first);
    let mut second = Viewer::attach(&pod).await;
    second.sees("the screen", |screen| screen.contains("grüße")).await;
    let mut third = Viewer::attach(&pod).await;
    asks(&mut second, "echo $X again", "kept again").await;
    third.sees("what the other does", |screen| screen.contains("kept again")).await;
    assert_eq!(second.screen(), third.screen());
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_may_come_in_pieces_both_ways() {
    let pod = started(&["cat"]).await;
    let mut viewer = Viewer::attach(&pod).await;
    for byte in "ß漢🦀\r".bytes() {
        viewer.socket.send(Message::Binary(vec![byte].into())).await.unwrap();
    }
    viewer.sees("both the echo and the copy", |screen| screen.matches("ß漢🦀").count() == 2).await;
    // A late viewer comes in the middle of a character that is being printed.
    let pod =
        started(&["bash", "-c", "stty -echo; printf 'half: \\303'; read; printf '\\274 whole'; read"]).await;
    let mut early = Viewer::attach(&pod).await;
    early.sees("the first half", |screen| screen.contains("half:")).await;
    let mut late = Viewer::attach(&pod).await;
    late.sees("the first half", |screen| screen.contains("half:")).await;
    late.types("\r").await;
    for viewer in [&mut early, &mut late] {
        viewer.sees("the character", |screen| screen.contains("ü whole")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_program_is_shown_and_a_key_starts_it_again() {
    let pod = started(&SHELL).await;
    let mut viewer = Viewer::attach(&pod).await;
    viewer.types("printf '\\033[?1049h\\033[?25l'; printf las\"\"t; exit 3\r").await;
    viewer.sees("the exit code", |screen| screen.contains("has ended: exit code 3; press a key")).await;
    let mut late = Viewer::attach(&pod).await;
    late.sees("the exit code", |screen| screen.contains("exit code 3")).await;
    late.types("x").await;
    asks(&mut late, "echo st\"\"arted again", "started again").await;
    // A program that a signal ends.
    late.types("kill -KILL $$\r").await;
    late.sees("the signal", |screen| screen.contains("has ended: signal 9")).await;
    // A pod whose program has ended is as good as any.
    assert_eq!(pod.call(http::Method::GET, "/livez", None, None).await.unwrap().status, 200);
    late.types("\r").await;
    asks(&mut late, "echo on\"\"ce more", "once more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_asks_its_terminal_is_answered_without_a_viewer() {
    let ask = "stty raw -echo; printf 'abc\\033[6n'; IFS= read -rd R answer; stty sane; echo; echo \"got ${answer:2}\"; sleep 1000";
    let pod = started(&["bash", "-c", ask]).await;
    let mut viewer = Viewer::attach(&pod).await;
    viewer.sees("the answer", |screen| screen.contains("got 1;4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_does_not_read_holds_up_nobody_and_gets_the_screen() {
    let pod = started(&SHELL).await;
    let mut slow = Viewer::attach(&pod).await;
    let mut quick = Viewer::attach(&pod).await;
    asks(&mut quick, "echo re\"\"ady", "ready").await;
    let before = memory(pod.pid()).1;
    quick.types("head -c 10000000 /dev/zero | tr '\\0' y | fold -w 70; echo al\"\"l; touch done\r").await;
    let (mut most, done) = (before, pod.workspace().join("done"));
    let reads = async {
        loop {
            quick.looks().await;
            most = most.max(memory(pod.pid()).1);
        }
    };
    // The program goes on whether anybody reads or not.
    tokio::select! {
        () = until("the program is done", Duration::from_secs(120), || done.exists().then_some(())) => {}
        () = reads => {}
    }
    quick.sees("the end", |screen| screen.contains("yall\n")).await;
    assert!(most - before < 12 << 10, "{} KiB more than {before}", most - before);
    slow.sees("the end", |screen| screen.contains("yall\n")).await;
    assert_eq!(slow.screen(), quick.screen());
    assert!(slow.bytes < 8_000_000 && slow.pictures >= 2, "{} bytes, {} pictures", slow.bytes, slow.pictures);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_a_program_that_does_not_read() {
    let pod = started(&[
        "bash",
        "-c",
        "stty raw -echo; echo rea\"\"dy; while [ ! -e go ]; do sleep 0.05; done; head -c 300000 | cksum",
    ])
    .await;
    let mut viewer = Viewer::attach(&pod).await;
    viewer.sees("it is there", |screen| screen.contains("ready")).await;
    let paste: String = (0..300_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    for piece in paste.as_bytes().chunks(50_000) {
        viewer.types(std::str::from_utf8(piece).unwrap()).await;
    }
    std::fs::write(pod.workspace().join("go"), "").unwrap();
    let path = pod.dir.join("paste");
    std::fs::write(&path, &paste).unwrap();
    let sum = std::process::Command::new("cksum").stdin(std::fs::File::open(path).unwrap()).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    viewer.sees("all of it came", |screen| screen.contains(sum.trim())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_activity_and_being_attached_is_not() {
    let pod = started(&SHELL).await;
    let mut viewer = Viewer::attach(&pod).await;
    viewer.sees("the prompt", |screen| screen.contains('$') || screen.contains('#')).await;
    pod.idle("idle while attached", |idle| idle > 300).await;
    assert_eq!(pod.quiesce(&json!({"if_idle_ms": 3_600_000})).await.status, 409);
    // Nobody types while it prints.
    viewer.types("for n in $(seq 100); do echo n$n; sleep 0.05; done; echo wo\"\"ke\r").await;
    viewer.sees("some output", |screen| screen.contains("n20\n")).await;
    pod.idle("busy", |idle| idle < 200).await;
    viewer.sees("its end", |screen| screen.contains("woke")).await;
    assert_eq!(pod.activity().await.body["turns"]["total"], 0);
    pod.idle("idle again", |idle| idle > 300).await;
    let rest = pod.quiesce(&json!({"if_idle_ms": 200})).await;
    assert_eq!((rest.status, rest.body["quiesced"].as_bool()), (200, Some(true)));
    let Err(Error::Http(refused)) = Viewer::try_attach(&pod).await else { panic!("attached") };
    assert_eq!(refused.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_works_while_nobody_looks_is_busy_and_a_clock_is_not() {
    let mut request = request();
    let limit = 3000;
    request.agent.turn_timeout_ms = limit;
    let pod = started_for(&request, &SHELL).await;
    let mut viewer = Viewer::attach(&pod).await;
    let typed = Instant::now();
    viewer.types("while :; do echo tick; sleep 0.05; done\r").await;
    viewer.sees("that it prints", |screen| screen.contains("tick\ntick")).await;
    drop(viewer);
    // Without its output the session would be idle since the last key.
    let mut most = 0;
    while typed.elapsed() < Duration::from_millis(limit - 500) {
        most = most.max(pod.activity().await.body["idle_ms"].as_u64().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(most < 1000, "{most} ms");
    assert_eq!(pod.quiesce(&json!({"if_idle_ms": 1000})).await.status, 409);
    // It goes on, and after so long that is no work any more.
    pod.idle("idle beside a clock", |idle| idle > 1500).await;
    assert!(typed.elapsed() > Duration::from_millis(limit));
    assert_eq!(pod.quiesce(&json!({"if_idle_ms": 1000})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_refused_and_so_is_what_opens_no_terminal() {
    let pod = started(&SHELL).await;
    let refused = pod.turn("t1", "hello").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("terminal_only")));
    let token = pod.token(SESSION, Scope::Turn);
    for path in ["/v1/messages", "/v1/events"] {
        let answer = pod.call(http::Method::GET, path, Some(&token), None).await.unwrap();
        assert_eq!((answer.status, answer.body["code"].as_str()), (409, Some("terminal_only")), "{path}");
    }
    // Gateways ask for it to see whether the pod serves, and to save it.
    let answer = pod.call(http::Method::GET, "/v1/transcript", Some(&token), None).await.unwrap();
    assert_eq!(answer.body, json!({"journal": 0, "entries": [], "through": 0, "end": 0}));
    let answer = pod.call(http::Method::GET, "/v1/terminal", Some(&token), None).await.unwrap();
    assert_eq!((answer.status, answer.body["code"].as_str()), (426, Some("upgrade_required")));
    let answer = pod.call(http::Method::GET, "/v1/terminal", None, None).await.unwrap();
    assert_eq!(answer.status, 401);
    let other = pod.token("another-session", Scope::Turn);
    let answer = pod.call(http::Method::GET, "/v1/terminal", Some(&other), None).await.unwrap();
    assert_eq!(answer.body["code"], "bound_to_other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_prompt_and_a_missing_program_are_told_with_the_activation() {
    let mut pod = Pod::with_terminal(&SHELL);
    pod.start();
    pod.ready().await;
    let mut prompted = request();
    prompted.initial_turn = Some(InitialTurn { id: "initial".into(), text: "rm -rf".into() });
    let refused = pod.activate(&prompted).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (400, Some("bad_request")));
    assert_eq!(pod.activate(&request()).await.status, 200);

    let mut pod = Pod::with_terminal(&["no-such-program"]);
    pod.start();
    pod.ready().await;
    let refused = pod.activate(&request()).await;
    let text = refused.body["error"].as_str().unwrap();
    assert_eq!(refused.status, 502);
    assert!(text.contains("no-such-program cannot be started"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_look_at_once() {
    let pod = started(&SHELL).await;
    let mut viewers = Vec::new();
    let refused = loop {
        match Viewer::try_attach(&pod).await {
            Ok(viewer) => viewers.push(viewer),
            Err(Error::Http(refused)) => break refused,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((refused.status().as_u16(), viewers.len()), (429, 32));
    drop(viewers);
    let again = async {
        while Viewer::try_attach(&pod).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_pod_is_told_and_ends_the_program() {
    let mut pod = started(&SHELL).await;
    let mut viewer = Viewer::attach(&pod).await;
    asks(&mut viewer, "(trap 'touch hung-up; exit' HUP; echo s\"\"et; while :; do sleep 0.05; done)", "set")
        .await;
    pod.terminate();
    assert_eq!(viewer.ends().await, (1001, "the pod is shutting down".to_owned()));
    assert!(pod.exit().await.success());
    let hung_up = pod.workspace().join("hung-up");
    until("the program was told", LIMIT, || hung_up.exists().then_some(())).await;
    // Its volume goes to the next pod, with a program of its own.
    let mut next = pod.next("pod-uid-2");
    next.start();
    next.ready().await;
    assert_eq!(next.activate(&request_of(2)).await.status, 200);
    let mut viewer = Viewer::attach(&next).await;
    asks(&mut viewer, "ls; echo f\"\"ound", "hung-up\nfound").await;
    // And a container that restarts goes on by itself.
    next.kill();
    next.start();
    next.ready().await;
    let mut viewer = Viewer::attach(&next).await;
    asks(&mut viewer, "echo he\"\"re", "here").await;
}
