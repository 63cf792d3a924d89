//! The program under test, as a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::runners;

/// How much of a controller's log is shown when its test fails.
const LAST_LINES: usize = 40;

/// Whether it takes part in an election or leads in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    Elected,
    Always,
}

/// A running controller. Dropping it kills it.
pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    /// Starts one that reaches the API server through `proxy` only. Files go to `folder`.
    pub fn start(
        folder: &Path,
        namespace: &str,
        identity: &str,
        proxy: &Proxy,
        leadership: Leadership,
    ) -> Self {
        let path = |what: &str| folder.join(format!("{identity}.{what}"));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", proxy.address)}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        });
        std::fs::write(path("kubeconfig"), kubeconfig.to_string()).unwrap();
        std::fs::write(path("key.pem"), runners::PEM).unwrap();
        let log = path("log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let elect = if leadership == Leadership::Elected { "true" } else { "false" };
        let child = Command::new(program())
            .args(["--admin-listen=127.0.0.1:0", "--runner-image=localhost/runner:none"])
            .arg(format!("--leader-elect={elect}"))
            .arg(format!("--lease-namespace={namespace}"))
            .arg(format!("--identity={identity}"))
            .arg(format!("--keep-transcripts-in={namespace}"))
            .arg("--signing-key-file")
            .arg(path("key.pem"))
            .env("KUBECONFIG", path("kubeconfig"))
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env_remove("NO_PROXY")
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> Pid {
        let id = self.child.id().expect("it runs");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// Asks it to stop, and does not wait.
    pub fn ask_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself or by somebody else's doing; none if it has not by then.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        timeout(within, self.child.wait()).await.ok().map(Result::unwrap)
    }
}

/// A copy of the program: another build may replace it while tests run.
fn program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults-controller");
        // Removed first: one that still runs cannot be written to.
        let _ = std::fs::remove_file(&copy);
        std::fs::copy(env!("CARGO_BIN_EXE_paddock-controller"), &copy).unwrap();
        copy
    })
}

/// Tells the end of what it had to say if its test fails.
impl Drop for Controller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            crate::say(&format!("--- {}\n{last}", self.log.display()));
        }
    }
}
