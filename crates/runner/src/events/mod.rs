//! What happens in the session, for those who follow it.
//!
//! The pod has one subscription to its harness, made at the activation and made anew whenever it breaks off. The latest events
//! are kept in memory, and readers are served from there, each at its own pace: whoever is too slow misses events and is told
//! so, and nobody else has to wait for it. Neither the subscription nor a reader keeps the session from being idle.

mod follow;
mod hub;
mod ring;

pub use follow::follow;
pub(crate) use hub::READERS;
pub use hub::{Hub, Reader};
