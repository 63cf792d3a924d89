//! The whole gateway in one process: real sockets, real tokens, a scripted runner, and an API server in memory.

mod cluster;
mod drain;
mod hygiene;
mod messages;
mod routing;
mod runner;
mod sessions;
mod support;
