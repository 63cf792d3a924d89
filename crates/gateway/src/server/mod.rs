//! The HTTP server below the routes: sockets, framing, limits, and the drain.
//!
//! It knows nothing of sessions. What hyper leaves to its user is done here and in `http::hygiene`.

pub mod accept;
pub mod connection;
pub mod drain;
pub mod framing;
pub mod io;
pub mod upgrade;
pub mod workers;
