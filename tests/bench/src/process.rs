//! Programs that a benchmark starts: they end with it, and are measured from outside.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use crate::Result;

/// A running program.
pub struct Process {
    child: Child,
    pid: Pid,
    name: String,
    log: String,
}

impl Process {
    /// Starts `program`. The kernel kills it when the benchmark dies, however that happens.
    pub fn start(program: &Path, args: &[String], kubeconfig: Option<&Path>, log: &Path) -> Result<Self> {
        let (name, log_file) = (program.display().to_string(), log.display().to_string());
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let child = command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or("it has no pid")?;
        Ok(Self { child, pid, name, log: log_file })
    }

    /// Sends a signal and waits for the end.
    pub async fn end(mut self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal)?;
        if tokio::time::timeout(Duration::from_secs(40), self.child.wait()).await.is_err() {
            return Err("a controller did not end within 40 s of being asked to".into());
        }
        Ok(())
    }

    /// Only sends it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Whether it has not ended. One that has, and was not waited for, is a zombie.
    pub fn runs(&self) -> bool {
        let state = self.stat().ok();
        let state = state.as_deref().and_then(|stat| stat.split_whitespace().next());
        !matches!(state, None | Some("Z" | "X"))
    }

    /// An error when it has ended by itself.
    pub fn check(&self) -> Result<()> {
        if self.runs() {
            return Ok(());
        }
        Err(format!("{} ended by itself; see its log {}", self.name, self.log).into())
    }

    /// Resident memory in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        rss_mib(self.pid)
    }

    /// Processor time used so far by the program and the processes it has started, in milliseconds; the kernel counts in
    /// steps of 10.
    pub fn cpu_ms(&self) -> Result<f64> {
        self.all()?.into_iter().map(cpu_ms).sum()
    }

    /// Resident memory of the program and the processes it has started, in MiB. What they share is counted for each.
    pub fn rss_of_all_mib(&self) -> Result<f64> {
        self.all()?.into_iter().map(rss_mib).sum()
    }

    fn all(&self) -> Result<Vec<Pid>> {
        let pid = self.pid.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().map(|child| {
            child.parse().ok().and_then(Pid::from_raw).ok_or_else(|| "a strange /proc/PID/children".into())
        });
        std::iter::once(Ok(self.pid)).chain(children).collect()
    }

    fn stat(&self) -> Result<String> {
        stat(self.pid)
    }
}

impl Drop for Process {
    /// With those that it has started: nginx's workers outlive their master otherwise.
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

fn rss_mib(pid: Pid) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn cpu_ms(pid: Pid) -> Result<f64> {
    // User and system time are the 14th and 15th field.
    let stat = stat(pid)?;
    let mut fields = stat.split_whitespace().skip(11);
    let mut ticks = 0.0;
    for _ in 0..2 {
        ticks += fields.next().ok_or("a short /proc/PID/stat")?.parse::<f64>()?;
    }
    Ok(ticks * 10.0)
}

/// What follows its name in `/proc/PID/stat`: the third field and on. The name in brackets may hold spaces.
fn stat(pid: Pid) -> Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let fields = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?.1;
    Ok(fields.to_owned())
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
