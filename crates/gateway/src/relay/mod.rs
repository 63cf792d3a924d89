//! The way to a session's pod: which address, one connection per request, and what its answers mean.
//!
//! Nothing is pooled, so no byte can come from, or go to, a connection of another session. Each request
//! carries a token that only the session's own pod accepts. A turn is sent at most once: it is tried again
//! only where no byte of it was written, or where the answer proves that another pod refused it.

pub mod call;
pub mod dial;
pub mod initial;
pub mod lookup;
pub mod mark_dead;
pub mod proof;
pub mod target;
pub mod turn;
pub mod verdict;
