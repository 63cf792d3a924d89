//! Random arrivals that can be repeated: the seed is printed, and `BENCH_SEED` sets it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64).
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `BENCH_SEED`, or else from the clock.
    pub fn new() -> Self {
        let chosen = std::env::var("BENCH_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs()));
        Self { seed, state: seed }
    }

    /// What it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The time between two arrivals that come at random, one in a unit of time on average.
    pub fn exponential(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let uniform = ((x >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln()
    }
}
