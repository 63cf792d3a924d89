//! The engine against a small simulated cluster: real optimistic concurrency, late watches, lost answers,
//! crashes and two leaders, all drawn from a printed seed. After every step the safety promises are
//! checked; when the faults stop, everything must settle.

mod cluster;
mod faults;
mod scenarios;
mod story;
