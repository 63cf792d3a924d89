//! Exhaustive models: of the claim protocol as such, and of the real engine in small clusters.
//!
//! Where the simulation in `tests/sim` throws dice, these visit every state there is. Each search prints how many
//! that were: `cargo test -p paddock-core --test model -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::large_enum_variant,
    missing_docs,
    reason = "a test that panics has done its work"
)]

mod claim;
mod claims;
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
#[path = "../sim/cluster.rs"]
mod cluster;
mod engines;
mod protocol;
mod search;
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
#[path = "../sim/story.rs"]
mod story;
mod world;
