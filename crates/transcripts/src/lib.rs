//! Conversations, kept when their pods are gone.
//!
//! A runner writes what happens in its session to a journal; the gateway copies it here by sequence number, and reads
//! it from here when there is no pod to ask. What [`TranscriptStore::append`] has taken is durable and never changes
//! again, whoever else appends the same: the store can lag behind the journal, but it never lies and never doubles.
//! It knows nothing of what the entries say.

mod entry;
mod error;
mod sql;
mod store;
mod url;

pub use entry::{Batch, Entry, EntryKind, MAX_BODY_BYTES, Position, SessionKey};
pub use error::StoreError;
pub use sql::{SqlStore, StoreOptions};
pub use store::TranscriptStore;
pub use url::DatabaseUrl;
