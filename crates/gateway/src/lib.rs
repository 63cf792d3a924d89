//! Paddock's gateway: the HTTP API in front of sessions.
//!
//! It authenticates, finds the session in an index in memory, and relays. It holds no turn: any replica can
//! serve any request, and one that dies loses none. The parts, from the socket inwards: `server` (connections,
//! limits, drain), `routes` (one file per group of routes) on `http` (reading requests), `index` (what exists),
//! `relay` (the way to a pod), `streams` (what happens in a session, as it happens), `cluster` (the few requests to
//! the API server). `openapi` describes the routes to clients.

pub mod auth;
pub mod cluster;
pub mod config;
pub mod diagnosis;
pub mod error;
pub mod gateway;
pub mod http;
pub mod index;
pub mod metrics;
pub mod openapi;
pub mod relay;
pub mod routes;
pub mod run;
pub mod server;
pub mod streams;
#[cfg(test)]
mod testing;
pub mod transcripts;
