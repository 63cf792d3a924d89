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
        }
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
