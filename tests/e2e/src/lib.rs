//! What the end-to-end scenarios share: the way into the cluster, HTTP, waiting, clean-up, measuring.
//!
//! The scenarios in `tests/` see Paddock from outside only: through kubectl, the Kubernetes API, HTTP and
//! the log of the scripted model. Nothing here may depend on how controller, gateway or runner work inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario's only way to fail is to panic, with a message that tells what was seen"
)]

pub mod census;
pub mod command;
pub mod contract;
pub mod environment;
pub mod gate;
pub mod gateways;
pub mod git_host;
pub mod http;
pub mod kubectl;
pub mod ledger;
pub mod measure;
pub mod model;
pub mod objects;
pub mod persistence;
pub mod pool;
pub mod portforward;
pub mod processes;
pub mod scenario;
pub mod secrecy;
pub mod terminal;
pub mod wait;
pub mod watcher;

pub use gate::Share;
pub use http::{Answer, Http};
pub use kubectl::Kubectl;
pub use scenario::{Scenario, scenario};

/// How long anything may take that is not a matter of speed but of getting there at all.
pub const LIVENESS: std::time::Duration = std::time::Duration::from_secs(300);
