//! Paddock on a real cluster, seen from outside.
//!
//! Each module is a chapter, each test a story. Tests start in alphabetical order, so the longest one, which
//! mostly waits, is first by its name and the others run beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a scenario's only way to fail is to panic, with a message that tells what was seen"
)]

mod a_silent_turn;
mod agent_api;
mod agent_edits;
mod agents;
mod apply;
mod bad_requests;
mod bad_specs;
mod broken_agents;
mod clients;
mod cluster_life;
mod disconnects;
mod disk_full;
mod endings;
mod exactly_once;
mod idle;
mod keys;
mod lap;
mod limits;
mod lists;
mod lost_pods;
mod message_harnesses;
mod messages;
mod model_failures;
mod nodes;
mod one_pool;
mod openapi;
mod own_image;
mod pool_demand;
mod pool_nodes;
mod pool_rollout;
mod pools;
mod recovery;
mod repositories;
mod restart;
mod secrets;
mod streams;
mod suspend;
mod terminal;
mod terminal_harnesses;
mod transcripts;
mod trust;
mod turns_api;
mod twenty_sessions;
mod two_gateways;
