//! Children: everything that is started is started and waited for here.
//!
//! The runner is PID 1 of its container (or, where the pod shares one process namespace, a subreaper), so
//! orphans become its children and must be waited for too. One `waitpid(-1)` loop does it all: a second
//! waiter anywhere, such as tokio's own, would lose exits to it. That is why nothing else in this program
//! may use `tokio::process`.

mod output;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use output::{Stream, forward};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

impl Exit {
    fn of(status: WaitStatus) -> Option<Self> {
        let code = status.exit_status().map(Self::Code);
        code.or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

type Waiting = HashMap<Pid, oneshot::Sender<Exit>>;

/// Starts children and waits for them and for every orphan.
pub struct Reaper {
    waiting: Arc<Mutex<Waiting>>,
    task: JoinHandle<()>,
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reaper {
    /// Makes this process the parent of all orphans below it and begins to wait for them.
    ///
    /// # Errors
    /// Where the kernel refuses the signal handler or the role.
    pub fn start() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut children = signal(SignalKind::child())?;
        let waiting = Arc::new(Mutex::new(Waiting::new()));
        let shared = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            loop {
                reap(&mut lock(&shared));
                if children.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(Self { waiting, task })
    }

    /// One that waits for nobody: tests of one process have children of their own.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Self { waiting: Arc::default(), task: tokio::spawn(std::future::pending()) }
    }

    /// Starts a command as leader of its own process group, with both outputs piped to us.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Process> {
        self.launch(command, Stdio::null())
    }

    /// As [`Self::spawn`], with its input piped to us too.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn_to_speak_with(&self, command: &mut Command) -> io::Result<Process> {
        self.launch(command, Stdio::piped())
    }

    fn launch(&self, command: &mut Command, stdin: Stdio) -> io::Result<Process> {
        command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.adopt(|| command.spawn())
    }

    /// Takes the child that `spawn` starts, which leads its own process group.
    ///
    /// # Errors
    /// Those of `spawn`.
    pub fn adopt(&self, spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<Process> {
        // Held until the child is known: the loop must not reap it before.
        let mut waiting = lock(&self.waiting);
        let mut child = spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the kernel gave a process id out of range"))?;
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        drop(waiting);
        let receiver = |fd: Option<OwnedFd>| fd.map(pipe::Receiver::from_owned_fd).transpose();
        Ok(Process {
            pid,
            stdin: child.stdin.take().map(|fd| pipe::Sender::from_owned_fd(fd.into())).transpose()?,
            stdout: receiver(child.stdout.take().map(OwnedFd::from))?,
            stderr: receiver(child.stderr.take().map(OwnedFd::from))?,
            exit,
            ended: None,
        })
    }
}

fn reap(waiting: &mut Waiting) {
    // One SIGCHLD may stand for many children; an error means that there is none.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let Some(exit) = Exit::of(status) else { continue };
        if let Some(sender) = waiting.remove(&pid) {
            // Nobody may be interested any more.
            let _ = sender.send(exit);
        }
    }
}

/// A child that leads its own process group.
pub struct Process {
    pid: Pid,
    /// Its standard input, where it is piped, until taken.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output, until taken.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error, until taken.
    pub stderr: Option<pipe::Receiver>,
    exit: oneshot::Receiver<Exit>,
    ended: Option<Exit>,
}

impl Process {
    /// Logs what it prints, on the outputs that nobody has taken.
    pub fn log_output(&mut self) {
        for (output, stream) in [(self.stdout.take(), Stream::Out), (self.stderr.take(), Stream::Err)] {
            if let Some(output) = output {
                tokio::spawn(forward(output, stream, |_| {}));
            }
        }
    }

    /// Waits for its end; may be asked again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        // The sender is lost only with the reaper, that is with this program.
        let exit = (&mut self.exit).await.unwrap_or(Exit::Code(-1));
        self.ended = Some(exit);
        exit
    }

    /// Asks its whole group to end.
    pub fn terminate_group(&self) {
        self.signal_group(Signal::TERM);
    }

    /// Tells its whole group that its terminal is gone. Interactive shells end for nothing else.
    pub fn hang_up_group(&self) {
        self.signal_group(Signal::HUP);
    }

    /// Ends its whole group.
    pub fn kill_group(&self) {
        self.signal_group(Signal::KILL);
    }

    fn signal_group(&self, signal: Signal) {
        // The group is gone: that is what was wanted.
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }
}
