//! Keeps what was said beyond the pods it was said in.
//!
//! A reply is passed on to its client only when it is in the store. What the store has of a session is always the whole
//! beginning of what its runner's journal has, so saving up to a reply saves everything before it too: turns whose clients
//! have left, a session's own first prompt. The store may lag behind a journal, and never says anything else.
//!
//! Any replica may save any session at any time; the store takes each entry once ([`TranscriptStore::append`]).

pub mod conversation;
pub mod keeper;
pub mod pages;
pub mod retention;
pub mod sweep;

pub use keeper::{Keeper, SaveError, Unsaved};
