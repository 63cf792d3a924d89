//! Reading requests: what any route needs, and nothing that knows a session.

pub mod body;
pub mod hygiene;
pub mod idempotency;
pub mod prefer;
pub mod query;
pub mod request_id;
pub mod segment;
pub mod trace;
pub mod wait;
