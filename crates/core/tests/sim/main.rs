//! The engine against a small simulated cluster: real optimistic concurrency, late watches, lost answers,
//! crashes and two leaders, all drawn from a printed seed. After every step the safety promises are
//! checked; when the faults stop, everything must settle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test that panics has done its work"
)]
#![allow(clippy::large_enum_variant, reason = "few are kept, and reading matters more here")]

mod cluster;
mod equipping;
mod faults;
mod life;
mod pool_stories;
mod regressions;
mod scenarios;
mod story;
mod transcripts;
