//! The way to a session's pod: which address, one connection per request, and what its answers mean.
//!
//! Nothing is pooled, so no byte can come from, or go to, a connection of another session. Each request
//! carries a token that only the session's own pod accepts. A turn reaches a harness at most once: it is sent
//! again only where no byte of it was written, or where the answer proves that a pod refused it before its
//! harness saw it.

pub mod call;
pub mod connections;
pub mod continuation;
pub mod dial;
pub mod events;
pub mod hold;
pub mod initial;
pub mod lookup;
pub mod mark_dead;
pub mod outcome;
pub mod passage;
pub mod proof;
pub mod stand;
pub mod target;
pub mod terminal;
pub mod tokens;
pub mod turn;
pub mod verdict;
pub mod wish;
