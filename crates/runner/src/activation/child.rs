//! Programs of the image that a step runs: bounded in time and in what is kept of their output, and gone with the step.

use std::io;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::process::{Exit, Process, Reaper};

/// How much of each output is kept: its end.
const KEPT: usize = 16 << 10;
/// How long outputs are read on where the program's own children still hold them.
const DRAIN: Duration = Duration::from_secs(1);

/// How it ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// The end of its standard output.
    pub(super) out: String,
    /// The end of its standard error.
    pub(super) err: String,
}

/// It did not come to an end of its own.
#[derive(Debug)]
pub(super) enum Unended {
    /// The image has no such program.
    Missing,
    /// It could not be started.
    NotStarted(io::Error),
    /// It took too long and was killed.
    TimedOut,
}

/// Kills the group however the step ends.
struct Group(Process);

impl Drop for Group {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}

/// Runs it to its end. Nothing that it prints is logged: it may hold what is not for the log.
pub(super) async fn run(reaper: &Reaper, command: &mut Command, limit: Duration) -> Result<Ended, Unended> {
    let process = reaper.spawn(command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unended::Missing,
        _ => Unended::NotStarted(error),
    })?;
    let mut group = Group(process);
    let out = tokio::spawn(end_of(group.0.stdout.take()));
    let err = tokio::spawn(end_of(group.0.stderr.take()));
    let exit = timeout(limit, group.0.ended()).await.map_err(|_| Unended::TimedOut)?;
    drop(group);
    let text = async |reading| {
        let read: Vec<u8> = timeout(DRAIN, reading).await.ok().and_then(Result::ok).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    };
    Ok(Ended { exit, out: text(out).await, err: text(err).await })
}

async fn end_of(source: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut source) = source else { return kept };
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = source.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT));
    kept
}
