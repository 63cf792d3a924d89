//! What a session is equipped with when it is activated: the runner's binary, real git, pip and npm, and a plain program
//! in the place of a harness.

#![allow(clippy::unwrap_used, clippy::explicit_write)] // a panic is the report; `eprintln!` would be captured

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use paddock_runnerapi::{ActivateRequest, EnvVar, Equipment, GitCredential, Repo, Requirements, TextFile};
use support::git_host::{GitHost, TOKEN, git, repository};
use support::viewer::Viewer;
use support::{Pod, equipped, request_of, until};

/// Shown also where the test passes: the test harness captures the macros of the standard library only.
macro_rules! report {
    ($($what:tt)*) => { writeln!(std::io::stderr(), $($what)*).unwrap() };
}

/// A pod whose program is a shell.
async fn pod() -> Pod {
    let mut pod = Pod::with_terminal(&["bash", "--norc", "--noprofile"]);
    fs::create_dir_all(pod.dir.join("host")).unwrap();
    pod.start();
    pod.ready().await;
    pod
}

fn repo(url: &str) -> Repo {
    let credential = GitCredential { username: "agent".into(), password: TOKEN.into() };
    Repo { url: url.into(), branch: None, credential: Some(credential), full_history: false }
}

fn with(repo: Repo) -> ActivateRequest {
    equipped(Equipment { repo: Some(repo), ..Equipment::default() })
}

/// git as the agent runs it.
fn as_agent(pod: &Pod, args: &[&str]) -> (bool, String) {
    let ran = Command::new("git")
        .args(args)
        .current_dir(pod.workspace())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", pod.home())
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8(said).unwrap().trim().to_owned())
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_cloned_once_and_can_be_pushed_to() {
    let mut pod = pod().await;
    let bare = repository(&pod.dir.join("host"));
    let host = GitHost::start(&pod.dir.join("host")).await;
    let file = |path: &str, content: &str| TextFile { path: path.into(), content: content.into() };
    let mut asked = with(repo(&format!("{}/app.git", host.url)));
    asked.agent.equipment.files = vec![file("README.md", "written over"), file("docs/new.md", "new")];
    let answer = pod.activate(&asked).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, pod.log());
    report!("clone over HTTP: {}", answer.body["steps"]);
    let steps: Vec<_> = answer.body["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["cloning_repo", "writing_files", "opening_harness"]);
    assert_eq!(read(pod.workspace().join("README.md")), "written over");
    assert_eq!(read(pod.workspace().join("docs/new.md")), "new");
    assert_eq!(as_agent(&pod, &["rev-parse", "--abbrev-ref", "HEAD@{upstream}"]).1, "origin/trunk");
    assert_eq!(as_agent(&pod, &["rev-list", "--count", "HEAD"]).1, "1", "it is shallow");

    // The agent commits as somebody, and pushes.
    assert!(as_agent(&pod, &["commit", "--all", "--message", "done"]).0);
    let pushed = as_agent(&pod, &["push"]);
    assert!(pushed.0, "{}", pushed.1);
    assert_eq!(git(&bare, &["log", "-1", "--format=%an %s", "trunk"]), "paddock agent done");
    let config = read(pod.workspace().join(".git/config"));
    for text in [config, pod.log(), read(pod.home().join(".gitconfig"))] {
        assert!(!text.contains(TOKEN), "{text}");
    }

    // Whoever asks again, a container that restarts, and the session's next pod leave the work alone.
    fs::write(pod.workspace().join("README.md"), "the agent's").unwrap();
    let requests = host.requests();
    assert_eq!(pod.activate(&asked).await.body, answer.body);
    pod.kill();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.activate(&asked).await.body, answer.body);
    pod.kill();
    let mut next = pod.next("pod-uid-2");
    next.start();
    next.ready().await;
    asked.incarnation = request_of(2).incarnation;
    let answer = next.activate(&asked).await;
    assert_eq!((answer.status, host.requests()), (200, requests), "{}", answer.body);
    assert_eq!(read(pod.workspace().join("README.md")), "the agent's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_fails_says_what_to_change() {
    let pod = pod().await;
    repository(&pod.dir.join("host"));
    let host = GitHost::start(&pod.dir.join("host")).await;
    let url = format!("{}/app.git", host.url);
    let credential =
        |password: &str| Some(GitCredential { username: "agent".into(), password: password.into() });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (described, says) in [
        (Repo { credential: credential("wrong-token"), ..repo(&url) }, "refuses the credential"),
        (Repo { credential: None, ..repo(&url) }, "asks for a credential"),
        (repo(&format!("{}/none.git", host.url)), "no such repository"),
        (Repo { branch: Some("nowhere".into()), ..repo(&url) }, "\"nowhere\""),
        (repo(&format!("http://{nobody}/app.git")), "cannot be reached"),
        (repo("http://git.invalid/app.git"), "cannot be reached"),
        (repo("file:///nowhere/app.git"), "no such repository"),
    ] {
        let answer = pod.activate(&with(described)).await;
        let error = answer.body["error"].as_str().unwrap();
        assert_eq!((answer.status, answer.body["code"].as_str()), (422, Some("activation_failed")));
        assert!(error.contains(says), "{error}, not {says:?}");
        report!("{error}");
        for secret in [TOKEN, "wrong-token"] {
            assert!(!error.contains(secret) && !pod.log().contains(secret));
        }
    }
    // A clone that was good, of a session that is then corrected.
    let mut spoilt = with(Repo { branch: Some("other/branch".into()), ..repo(&url) });
    spoilt.agent.equipment.files = vec![TextFile { path: "left".into(), content: "over".into() }];
    spoilt.agent.equipment.requirements.pip = vec!["/nowhere/x.whl".into()];
    assert_eq!(pod.activate(&spoilt).await.body["code"], "activation_failed");
    assert_eq!(read(pod.workspace().join("README.md")), "one");
    // Corrected, it is taken: nothing that failed has left anything in the way. The host may be away for a moment.
    host.refuses(1);
    let answer = pod.activate(&with(repo(&url))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(read(pod.workspace().join("README.md")), "three");
    assert!(!pod.workspace().join("left").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_clone_is_told_of_and_one_that_broke_off_is_done_again() {
    let mut pod = pod().await;
    repository(&pod.dir.join("host"));
    let host = GitHost::start(&pod.dir.join("host")).await;
    let asked = with(repo(&format!("{}/app.git", host.url)));
    host.holds(true);
    for _ in 0..2 {
        let answer = pod.ask_to_activate(&asked).await;
        assert_eq!((answer.status, answer.body["step"].as_str()), (202, Some("cloning_repo")));
        for probe in ["/livez", "/readyz"] {
            assert_eq!(pod.call(Method::GET, probe, None, None).await.unwrap().status, 200);
        }
    }
    // What the host is shown is in nobody's command line and environment.
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(TOKEN), "{}", process.path().display());
        }
    }
    // The container dies in the middle of it, and leaves what a git that is killed leaves.
    pod.kill();
    fs::write(pod.workspace().join(".git/index.lock"), "").unwrap();
    fs::write(pod.workspace().join("README.md"), "half").unwrap();
    fs::write(pod.workspace().join("of another branch"), "half").unwrap();
    pod.start();
    pod.ready().await;
    assert_eq!(pod.ask_to_activate(&asked).await.status, 202);
    host.holds(false);
    let answer = pod.activate(&asked).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, pod.log());
    assert_eq!(read(pod.workspace().join("README.md")), "three");
    assert_eq!(as_agent(&pod, &["status", "--porcelain"]).1, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_takes_its_clone_with_it() {
    let mut pod = pod().await;
    repository(&pod.dir.join("host"));
    let host = GitHost::start(&pod.dir.join("host")).await;
    host.holds(true);
    assert_eq!(pod.ask_to_activate(&with(repo(&format!("{}/app.git", host.url)))).await.status, 202);
    let children = pod.children();
    assert!(!children.is_empty());
    pod.terminate();
    assert!(pod.exit().await.success(), "{}", pod.log());
    until("git is gone", Duration::from_secs(10), || {
        let alive = |pid: &u32| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        (!children.iter().any(alive)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_tags_history_and_the_cache() {
    for (branch, full, cached, counts, text, at) in [
        (None, false, false, "1", "three", "trunk"),
        (None, true, false, "3", "three", "trunk"),
        (None, true, true, "3", "three", "trunk"),
        (Some("other/branch"), false, true, "1", "one", "other/branch"),
        (Some("v1"), false, false, "1", "two", "HEAD"),
    ] {
        let mut pod = Pod::with_terminal(&["cat"]);
        let cache = pod.dir.join("cache");
        pod.env.push(("PADDOCK_GIT_CACHE".into(), cache.display().to_string()));
        pod.start();
        pod.ready().await;
        let host = pod.dir.join("host");
        fs::create_dir_all(&host).unwrap();
        let bare = repository(&host);
        let copy = cache.join(bare.strip_prefix("/").unwrap());
        if cached {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            git(&cache, &["clone", "--quiet", "--bare", bare.to_str().unwrap(), copy.to_str().unwrap()]);
        }
        // A workspace as opencode's is when the session comes.
        git(&pod.workspace(), &["init", "--quiet", "-b", "master"]);
        git(&pod.workspace(), &["commit", "--quiet", "--allow-empty", "-m", "Empty workspace"]);
        let described = Repo {
            branch: branch.map(str::to_owned),
            full_history: full,
            ..repo(&format!("file://{}", bare.display()))
        };
        let answer = pod.activate(&with(described)).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, pod.log());
        report!("file://, branch {branch:?}, full {full}, cached {cached}: {}", answer.body["steps"]);
        let ask = |args: &[&str]| git(&pod.workspace(), args);
        assert_eq!(read(pod.workspace().join("README.md")), text);
        assert_eq!(ask(&["rev-parse", "--abbrev-ref", "HEAD"]), at);
        assert_eq!(ask(&["rev-list", "--count", "HEAD"]), counts, "{branch:?} {full}");
        assert!(!ask(&["branch", "--list"]).contains("master"));
        // What the cache gave is the workspace's own now.
        fs::remove_dir_all(&cache).unwrap_or_default();
        ask(&["fsck", "--connectivity-only"]);
        assert!(!pod.workspace().join(".git/objects/info/alternates").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_repository_is_one_to_begin() {
    let pod = pod().await;
    let bare = pod.dir.join("host/empty.git");
    git(&pod.dir, &["init", "--quiet", "--bare", bare.to_str().unwrap()]);
    let answer = pod.activate(&with(repo(&format!("file://{}", bare.display())))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    fs::write(pod.workspace().join("first"), "").unwrap();
    assert!(as_agent(&pod, &["add", "."]).0 && as_agent(&pod, &["commit", "-m", "first"]).0);
    assert!(as_agent(&pod, &["push", "origin", "HEAD:main"]).0);
}

/// A wheel with one program, `greet`, as pip would download it.
fn wheel(dir: &Path) -> String {
    let script = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr("greeter.py", "def main():\n    print('greetings from ' + 'a wheel')\n")
    info = "greeter-1.0.dist-info/"
    z.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n")
    z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(info + "entry_points.txt", "[console_scripts]\ngreet = greeter:main\n")
    z.writestr(info + "RECORD", "")
"#;
    let path = dir.join("greeter-1.0-py3-none-any.whl").display().to_string();
    assert!(Command::new("python3").args(["-c", script, &path]).status().unwrap().success());
    path
}

fn runs(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).output().is_ok_and(|ran| ran.status.success());
    if !ran {
        report!("skipped: {program} {args:?} does not run here");
    }
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_are_installed_for_the_agents_shells() {
    if !runs("python3", &["-c", "import venv, ensurepip"]) || !runs("npm", &["--version"]) {
        return;
    }
    let mut pod = pod().await;
    let package = pod.dir.join("package");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("package.json"), r#"{"name":"waver","version":"1.0.0","bin":{"wave":"wave.sh"}}"#)
        .unwrap();
    fs::write(package.join("wave.sh"), "#!/bin/sh\necho waves from \"\"npm\n").unwrap();
    let wanted = |pip: &str, npm: &str| {
        let requirements = Requirements { pip: vec![pip.into()], npm: vec![npm.into()] };
        let mut request = equipped(Equipment { requirements, ..Equipment::default() });
        request.agent.env.push(EnvVar { name: "INDEX_TOKEN".into(), value: "tok-12345678".into() });
        request
    };
    let npm = format!("file:{}", package.display());
    let wheel = wheel(&pod.dir);
    let missing = pod.activate(&wanted("/nowhere/tok-12345678.whl", &npm)).await;
    report!("{}", missing.body);
    assert_eq!((missing.status, missing.body["code"].as_str()), (422, Some("activation_failed")));
    let said = missing.body["error"].as_str().unwrap();
    assert!(said.contains("pip install") && said.contains("/nowhere/***.whl"), "{said}");

    let asked = wanted(&wheel, &npm);
    let answer = pod.activate(&asked).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, pod.log());
    report!("pip and npm: {}", answer.body["steps"]);
    let mut viewer = Viewer::attach(&pod).await;
    viewer.types("greet; wave\r").await;
    viewer
        .sees("both programs", |screen| screen.contains("from a wheel") && screen.contains("from npm"))
        .await;

    // A container that restarts finds them.
    pod.kill();
    fs::remove_file(&wheel).unwrap();
    let begun = Instant::now();
    pod.start();
    pod.ready().await;
    assert!(!pod.log().contains("goes on without"), "{}", pod.log());
    report!("restarted in {:?}", begun.elapsed());
    assert_eq!(pod.activate(&asked).await.body, answer.body);
}
