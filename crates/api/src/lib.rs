//! Paddock's vocabulary: the Kubernetes kinds it serves and the HTTP types it speaks.
//!
//! Everything here is data. Nothing in this crate performs IO, so every other crate may depend on it.
//! The CRD manifests in `crds/` are written from these types by the `crdgen` binary.

pub mod agent;
pub mod condition;
pub mod duration;
pub mod http;
pub mod labels;
pub mod merge;
pub mod pool;
pub mod sandbox;
pub mod schema;
pub mod session;
pub mod template;

pub use agent::{Agent, AgentSpec, AgentStatus};
pub use condition::{Condition, ConditionStatus};
pub use duration::Duration;
pub use pool::{SandboxWarmPool, SandboxWarmPoolSpec, SandboxWarmPoolStatus};
pub use sandbox::{Sandbox, SandboxSpec, SandboxStatus};
pub use session::{Phase, Session, SessionSpec, SessionStatus};
pub use template::{SandboxTemplate, SandboxTemplateSpec};
