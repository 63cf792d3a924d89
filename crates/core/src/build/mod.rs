//! How Sandboxes and Pods are made. Pure: the same input gives the same manifest.

mod container;
mod harness;
mod pod;
mod sandbox;
mod settings;
mod sidecar;
mod volume;

pub use harness::RunnerSettings;
pub use pod::pod;
pub(crate) use pod::relabel;
pub use sandbox::{WorkspaceSource, adopted, for_pool, for_session, template_hash};
pub(crate) use volume::owner;
pub use volume::{PodVolume, pod_volumes, volume_claims, workspace_claim};

/// Why a template cannot be made into a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The template has no containers.
    #[error("the pod template has no containers")]
    NoContainers,
    /// The annotation names a container that is not there.
    #[error(
        "the annotation paddock.dev/harness-container names {0:?}, which is no container of the pod template"
    )]
    NoSuchContainer(String),
    /// An annotation says something that cannot be.
    #[error("the annotation {key} says {value:?}: {why}")]
    BadAnnotation {
        /// Which one.
        key: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with that, and what to do.
        why: String,
    },
    /// The runner is the first process of a container whose own command nobody has named.
    #[error(
        "container {0:?} has no command: the runner starts it in place of the image's own, so name it (command and args), or give the \
         runner a container of its own with the annotation paddock.dev/runner: sidecar"
    )]
    NoCommand(String),
    /// Part of the template has the wrong JSON type.
    #[error("the pod template's {0} has the wrong type")]
    Malformed(&'static str),
    /// A field of the standard that this version does not serve. Better no pod than one that lacks what was
    /// asked for.
    #[error("{0} is not served by this version of Paddock; leave it out")]
    NotServed(&'static str),
}
