//! Which kinds are served.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::schema::Schema;

/// One kind of object.
#[derive(Clone, Debug)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// How it is named in paths.
    pub plural: String,
    /// How it is named in objects.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether its status is written apart.
    pub status: bool,
    pub(super) traits: Traits,
    pub(super) schema: Option<Schema>,
}

/// Where kinds differ in the real server's code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// Objects count changes of their spec.
    pub(super) generation: bool,
    /// A PUT without a resource version overwrites.
    pub(super) unconditional_update: bool,
    /// A PUT creates what does not exist.
    pub(super) create_on_update: bool,
    /// A DELETE answers with the object and not with a Status.
    pub(super) returns_deleted: bool,
    /// A custom resource: metadata in a write of its status counts for nothing.
    pub(super) custom: bool,
}

impl Kind {
    /// `group/version`, or the version alone.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind with its group, as messages name it.
    pub(super) fn qualified(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// The plural with its group, as messages name it.
    pub(super) fn resource(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    pub(super) fn is(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// All kinds of a server.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    all: Vec<Arc<Kind>>,
}

/// A custom resource definition that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the custom resource definition lacks {0}")]
pub struct Unfit(&'static str);

/// Name, whether namespaced, whether its status is a subresource, and what else is known of it.
type Builtin = (&'static str, &'static str, &'static str, &'static str, bool, bool, Traits);

impl Kinds {
    /// The built-in kinds that Paddock has to do with.
    pub fn builtin() -> Self {
        let plain = Traits { unconditional_update: true, ..Traits::default() };
        let returned = Traits { returns_deleted: true, ..plain };
        let counted = Traits { generation: true, ..plain };
        let pod = Traits { generation: true, ..returned };
        let lease = Traits { create_on_update: true, ..Traits::default() };
        let event = Traits { create_on_update: true, ..plain };
        let builtins: [Builtin; 11] = [
            ("", "v1", "namespaces", "Namespace", false, true, plain),
            ("", "v1", "nodes", "Node", false, true, plain),
            ("", "v1", "pods", "Pod", true, true, pod),
            ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, true, returned),
            ("", "v1", "services", "Service", true, true, returned),
            ("", "v1", "serviceaccounts", "ServiceAccount", true, false, returned),
            ("", "v1", "secrets", "Secret", true, false, plain),
            ("", "v1", "configmaps", "ConfigMap", true, false, plain),
            ("events.k8s.io", "v1", "events", "Event", true, false, event),
            ("coordination.k8s.io", "v1", "leases", "Lease", true, false, lease),
            ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, false, counted),
        ];
        let all = builtins.map(|(group, version, plural, kind, namespaced, status, traits)| {
            Arc::new(Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                kind: kind.to_owned(),
                namespaced,
                status,
                traits,
                schema: None,
            })
        });
        Self { all: all.to_vec() }
    }

    /// The built-in kinds and all of Paddock's.
    pub fn paddock() -> Arc<Self> {
        static KINDS: OnceLock<Arc<Kinds>> = OnceLock::new();
        KINDS.get_or_init(|| Arc::new(Self::builtin().with_paddocks())).clone()
    }

    fn with_paddocks(mut self) -> Self {
        let definitions = [
            include_str!("../../../../crds/agents.paddock.dev.yaml"),
            include_str!("../../../../crds/sessions.paddock.dev.yaml"),
            include_str!("../../../../crds/sandboxes.agents.x-k8s.io.yaml"),
            include_str!("../../../../crds/sandboxtemplates.extensions.agents.x-k8s.io.yaml"),
            include_str!("../../../../crds/sandboxwarmpools.extensions.agents.x-k8s.io.yaml"),
        ];
        for definition in definitions {
            let parsed = serde_yaml::from_str::<Value>(definition).ok();
            let added = parsed.as_ref().map(|definition| self.define(definition));
            // They are generated, and the server's own tests read them all.
            debug_assert!(matches!(added, Some(Ok(()))), "{added:?}");
        }
        self
    }

    /// Adds the storage version of a CustomResourceDefinition.
    pub fn define(&mut self, definition: &Value) -> Result<(), Unfit> {
        let spec = &definition["spec"];
        let text = |value: &Value, what| value.as_str().map(str::to_owned).ok_or(Unfit(what));
        let version = spec["versions"]
            .as_array()
            .and_then(|versions| versions.iter().find(|version| version["storage"] == true))
            .ok_or(Unfit("a version that is stored"))?;
        let traits = Traits { generation: true, custom: true, ..Traits::default() };
        self.all.push(Arc::new(Kind {
            group: text(&spec["group"], "a group")?,
            version: text(&version["name"], "a version's name")?,
            plural: text(&spec["names"]["plural"], "a plural")?,
            kind: text(&spec["names"]["kind"], "a kind")?,
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            traits,
            schema: Some(Schema::new(&version["schema"]["openAPIV3Schema"])),
        }));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, index: usize) -> &Arc<Kind> {
        &self.all[index]
    }

    pub(super) fn by_path(&self, group: &str, version: &str, plural: &str) -> Option<usize> {
        self.all
            .iter()
            .position(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// By plural, or plural and group where the plural alone is not enough.
    pub(super) fn by_plural(&self, plural: &str) -> Option<usize> {
        self.all.iter().position(|kind| kind.plural == plural || kind.resource() == plural)
    }
}
