//! The whole gateway in one process: real sockets, real tokens, a scripted runner, and an API server in memory.

// clippy.toml allows these in functions marked as tests, not in what they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agents;
mod cluster;
mod contract;
mod diagnose;
mod drain;
mod equipment;
mod harness_api;
mod hygiene;
mod keys;
mod lifecycle;
mod logs;
mod looks;
mod messages;
mod openapi;
mod routing;
mod runner;
mod sessions;
mod signals;
mod store;
mod streams;
mod support;
mod terminal;
mod terminal_frames;
mod tracing_context;
mod transcripts;
mod turns;
mod waking;
