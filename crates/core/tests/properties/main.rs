//! Properties of core's pure parts that hold for whatever is thrown at them. A failing case is printed, shrunk to
//! its simplest form, and kept in `proptest-regressions`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_enum_variant,
    missing_docs,
    reason = "a test that panics has done its work"
)]

#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
#[path = "../sim/cluster.rs"]
mod cluster;
mod pool;
mod pure;
mod store;
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
#[path = "../sim/story.rs"]
mod story;
