//! Paddock's way of talking to a Kubernetes API server.
//!
//! Both programs use this crate and nothing else for it: one client stack with time-outs, pacing and retries, watches
//! that survive anything, writes that always carry their precondition, a lease, events, and the admin server.
//! It decides nothing about sessions, and it never repeats a write by itself.

mod backoff;
pub mod client;
pub mod clock;
pub mod events;
pub mod health;
pub mod lease;
pub mod look;
mod request;
pub mod slim;
#[cfg(test)]
mod testing;
pub mod watch;
pub mod write;
