//! The runner: first process of every harness pod. It boots the harness, binds it to a session, runs its
//! turns one at a time and keeps a journal of them.
//!
//! It is the single writer of its session's turns: nothing here is shared with another pod, and nothing
//! outside the pod has to remember what was asked. It must stay small (8 MiB) because every warm pod
//! carries one, and it must never give the model key or its own state to the harness.

pub mod activation;
pub mod activity;
pub mod app;
pub mod boot;
pub mod bound;
pub mod cli;
pub mod config;
pub mod events;
pub mod harness;
pub mod install;
mod launch;
pub mod model_proxy;
pub mod process;
pub mod random;
pub mod server;
pub mod terminal;
pub mod termination;
pub mod turns;
