//! What happens in a session, as it happens, as server-sent events.
//!
//! Each client has a task that reads from the session's pod and writes to the client, at the client's pace; where that is too
//! slow, the pod's runner says so with an event. Nothing is remembered here: an id that a client comes back with is the
//! runner's own, so any gateway can go on where another stopped.

pub mod dialect;
pub mod resume;
pub mod source;
pub mod sse;
pub mod tail;
