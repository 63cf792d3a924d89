//! opencode's HTTP API, as far as other servers speak it too: requests, events, and what a client may ask.

pub(super) mod client;
pub(super) mod conversations;
pub(super) mod events;
pub(super) mod family;
pub(super) mod parts;
pub(super) mod passed;
pub(super) mod questions;
pub(super) mod sse;
pub(super) mod task;
