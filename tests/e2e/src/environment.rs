//! Where the cluster and Paddock are: what `make test` sets, with the names a usual install has.

use std::path::PathBuf;

/// The installation under test.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Namespace of the Helm release; the gateway serves its Sessions.
    pub namespace: String,
    /// Name of the Helm release.
    pub release: String,
    /// Namespace of LiteLLM and the scripted model.
    pub models_namespace: String,
    /// Name of the SandboxWarmPool that opencode agents use by default.
    pub default_pool: String,
    /// The gateway, `http://host[:port]`.
    pub url: String,
    /// The master key.
    pub key: String,
    /// The kubectl to run.
    pub kubectl: PathBuf,
    /// The helm to run.
    pub helm: PathBuf,
    /// A node that may be killed.
    pub spare_node: Option<SpareNode>,
}

/// A node of a devcluster on which nothing runs but what tolerates its taint.
#[derive(Clone, Debug)]
pub struct SpareNode {
    /// The program that runs the cluster.
    pub devcluster: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// The node's number.
    pub number: String,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Panics
    /// When something needed is missing: scenarios without a cluster fail, they are never skipped in silence.
    pub fn read() -> Self {
        let kubeconfig = needed("KUBECONFIG");
        assert!(
            kubeconfig.split(':').all(|file| std::path::Path::new(file).is_file()),
            "KUBECONFIG={kubeconfig} names no file; is the cluster up? {HINT}"
        );
        Self {
            namespace: optional("PADDOCK_NAMESPACE", "paddock"),
            release: optional("PADDOCK_RELEASE", "paddock"),
            models_namespace: optional("PADDOCK_MODELS_NAMESPACE", "models"),
            default_pool: optional("PADDOCK_DEFAULT_POOL", "opencode"),
            url: needed("PADDOCK_URL").trim_end_matches('/').to_owned(),
            key: needed("PADDOCK_KEY"),
            kubectl: optional("KUBECTL", "kubectl").into(),
            helm: optional("HELM", "helm").into(),
            spare_node: std::env::var("PADDOCK_TEST_SPARE_NODE").ok().map(|number| SpareNode {
                devcluster: needed("PADDOCK_TEST_DEVCLUSTER").into(),
                cluster: needed("PADDOCK_TEST_CLUSTER"),
                number,
            }),
        }
    }

    /// The node that may be killed.
    ///
    /// # Panics
    /// When there is none.
    pub fn spare_node(&self) -> &SpareNode {
        self.spare_node.as_ref().unwrap_or_else(|| {
            panic!("PADDOCK_TEST_SPARE_NODE is not set: this scenario kills a node; {HINT}")
        })
    }
}

const HINT: &str = "run the scenarios with `make test`, or see tests/e2e/README.md";

fn needed(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set: the scenarios need a cluster with Paddock installed; {HINT}"),
    }
}

fn optional(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
