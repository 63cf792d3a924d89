//! Running a program to its end, with input and a deadline.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// True when it exited with 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output of a program that must have succeeded.
    ///
    /// # Panics
    /// When it failed, with what it said.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert!(self.ok, "`{}` failed:\n{}{}", self.line, self.stderr, self.stdout);
        self.stdout
    }

    /// What a program that must have failed said on standard error.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.ok, "`{}` was expected to be refused but succeeded:\n{}", self.line, self.stdout);
        self.stderr
    }
}

/// Runs `program` with `args`, gives it `input`, and waits for its end.
///
/// # Panics
/// When it cannot be started or does not end within `limit`; it is killed then.
pub async fn run<S: AsRef<OsStr>>(program: S, args: &[&str], input: Option<&str>, limit: Duration) -> Output {
    let program = program.as_ref();
    let line = format!("{} {}", program.display(), args.join(" "));
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}; is it on PATH?"));
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that refuses its input early closes the pipe; its exit status tells the rest.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(limit, both)
        .await
        .unwrap_or_else(|_| panic!("`{line}` did not end within {limit:?}"))
        .unwrap_or_else(|error| panic!("`{line}`: {error}"));
    Output {
        line,
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
