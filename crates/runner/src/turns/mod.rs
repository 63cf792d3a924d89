//! Turns: one runs, the others wait in order, and each id reaches the harness at most once.

mod conversation;
mod drive;
mod engine;
mod journal;
mod lock;
mod outcome;
mod record;
mod replies;
mod rest;
mod restore;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod transcript;

pub use engine::{Engine, Ticket};
pub use journal::{FileStorage, Journal, JournalError, Span, Storage};
pub use lock::StateLock;
pub use outcome::Outcome;
pub use record::{Activation, Digest, Record};
pub(crate) use rest::not_idle;
pub use restore::Restored;
