//! Every rule of a session's life, without a cluster.
//!
//! The [`Engine`] holds what has been seen of the cluster, decides what shall be done, and learns how it
//! went. It performs nothing itself: no client, no clock, no randomness. The controller feeds it watch
//! events, performs the [`Op`]s it returns and reports each [`Outcome`] back; tests do the same without
//! any cluster.
//!
//! | module | holds |
//! | --- | --- |
//! | [`store`] | objects as last seen, our own writes included |
//! | [`session`], [`pool`], [`sandbox`], [`agent`] | the decisions for one object of each kind |
//! | [`health`], [`node`] | what a pod's status means, and its node's |
//! | [`build`] | how Sandboxes and Pods are made from templates |
//! | [`op`] | what can be done, and what can come of it |
//! | [`engine`] | which object is decided on when, and what happens after an operation |

pub mod agent;
pub mod build;
pub mod catalog;
pub mod engine;
pub mod health;
pub mod ids;
pub mod node;
pub mod op;
pub mod pod;
pub mod pool;
pub mod sandbox;
pub mod session;
pub mod store;
pub mod volume_claim;

pub use engine::{Change, Command, Engine, Notice, Settings, Work};
pub use ids::Key;
pub use node::Node;
pub use op::{Op, Outcome, Refresh, Refreshed, RunnerFailure, Target, WriteFailure};
pub use pod::Pod;
pub use volume_claim::VolumeClaim;
