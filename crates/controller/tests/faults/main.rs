//! The real controller on a real kube-apiserver, with a proxy between them that makes trouble.
//!
//! What is real: the controller's program, the API server, etcd, the garbage collector. What is not: nodes, pods and
//! runners, which the test plays itself. Every scenario works in a namespace of its own, prints its numbers, and ends
//! with a checker that goes through all that was stored, written and answered ([`checker`]); the promises are those of
//! docs/promises.md.
//!
//! Runs only if PADDOCK_TEST_KUBECONFIG names the kubeconfig of a `devcluster` (see tests/cluster); the restart of the
//! API server needs `devcluster` on the PATH.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checker;
mod cluster;
mod controller;
mod follow;
mod gateway;
mod kubelet;
mod place;
mod proxy;
mod recorder;
mod runners;
mod scenarios;

use std::io::Write;

use tokio::sync::RwLock;

/// The name by which controllers are known to the API server; a slash and their own follow.
pub const CONTROLLER: &str = "paddock-controller";

/// Held for reading by scenarios that need the API server, for writing by the one that takes it away.
static SERVER: RwLock<()> = RwLock::const_new(());

/// Prints a line past the test harness, which would swallow it.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
