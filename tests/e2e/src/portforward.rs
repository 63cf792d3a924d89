//! `kubectl port-forward`: the way to a pod's port that no NetworkPolicy is in.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::kubectl::Kubectl;

/// A forwarded port; it ends when this is dropped.
#[derive(Debug)]
pub struct PortForward {
    local: u16,
    _kubectl: Child,
}

impl PortForward {
    /// Forwards a local port of kubectl's choice to `port` of `pod`.
    ///
    /// # Panics
    /// When kubectl does not get there.
    pub async fn open(kubectl: &Kubectl, pod: &str, port: u16) -> Self {
        let mut child = tokio::process::Command::new(kubectl.program())
            .args(["-n", kubectl.namespace(), "port-forward", &format!("pod/{pod}"), &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl port-forward starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        let first = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let first =
            first.expect("kubectl port-forward answers").expect("readable output").unwrap_or_default();
        // "Forwarding from 127.0.0.1:40123 -> 7070"
        let local = first.split(" -> ").next().and_then(|left| left.rsplit(':').next()?.parse().ok());
        let local = local.unwrap_or_else(|| panic!("kubectl port-forward {pod}: unexpected {first:?}"));
        // Reading goes on, or kubectl would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { local, _kubectl: child }
    }

    /// The URL of a path on the pod's port.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.local)
    }
}
