//! The controller: keeps pools warm and gives sessions their sandboxes.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`] | flags and environment |
//! | `run` | the process: key file, signals, admin server |
//! | `controller` | what runs side by side: watches, leader election, the engine's task |
//! | `driver` | the task that owns the engine |
//! | `perform`, [`runners`], `equipment`, `references` | operations: on objects, and on the runners in pods, with what they refer to |
//!
//! A [`Controller`] takes its client, its [`Clock`] and its way to the runners ([`runners::Transport`]) from outside, so
//! that a simulation can run the whole of it on an API server in memory and in a time of its own.

pub mod cli;
mod controller;
mod driver;
mod equipment;
mod manifest;
mod metrics;
mod nodes;
mod perform;
mod pods;
mod references;
mod report;
mod run;
pub mod runners;
mod watches;

pub use paddock_kubeio::clock::Clock;

pub use self::controller::{Controller, Election, Settings};
pub use self::run::{RunError, run};
