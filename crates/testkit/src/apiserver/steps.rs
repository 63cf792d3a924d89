//! What other programs of a cluster do, one step at a time, when the test says so.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::request::{Call, Part, Query, Verb};
use super::state::{Place, State};
use super::{ApiServer, Object, meta};

const COLLECTOR: &str = "generic-garbage-collector";
const NAMESPACES: &str = "namespace-controller";
const CLAIMS: &str = "pvc-protection-controller";
const KUBELET: &str = "kubelet";

impl ApiServer {
    /// Makes a namespace, unless it is there.
    pub fn make_namespace(&self, name: &str) {
        self.shared.state.lock().namespace(name);
        self.publish();
    }

    /// Asks for the end of a namespace.
    pub fn delete_namespace(&self, name: &str) {
        if let Some(call) = Call::to(self, Verb::Delete, "namespaces", "", name) {
            // It may be going already.
            let _ = self.request("test", &call, Value::Null);
        }
    }

    /// Changes an object as a component of the cluster would (scheduler, kubelet): no rule of the API stands against it.
    /// Returns whether anything changed.
    pub fn edit(
        &self,
        client: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let mut state = self.shared.state.lock();
        let Some(index) = state.kinds.by_plural(plural) else { return false };
        let changed = state.edit(client, &(index, namespace.to_owned(), name.to_owned()), change);
        drop(state);
        self.publish();
        changed
    }

    /// One pass of the garbage collector: what has lost all its owners is deleted. Returns how many objects it deleted;
    /// their own dependents are for the next pass.
    pub fn collect_garbage(&self) -> usize {
        let count = self.shared.state.lock().collect_garbage();
        self.publish();
        count
    }

    /// One pass of the namespace controller: the content of namespaces that are going is deleted, and those that are
    /// empty go. Returns how many things it did.
    pub fn finish_namespaces(&self) -> usize {
        let count = self.shared.state.lock().finish_namespaces();
        self.publish();
        count
    }

    /// Lets go of volume claims that are deleted and that no pod uses. Returns how many.
    pub fn release_claims(&self) -> usize {
        let count = self.shared.state.lock().release_claims();
        self.publish();
        count
    }

    /// Ends pods whose grace is over, as a kubelet does. Returns how many.
    pub fn end_pods(&self) -> usize {
        let count = self.shared.state.lock().end_pods();
        self.publish();
        count
    }
}

impl State {
    fn places(&self) -> Vec<(Place, Object)> {
        (0..self.kinds.len())
            .flat_map(|index| {
                self.table(index).iter().map(move |((namespace, name), object)| {
                    ((index, namespace.clone(), name.clone()), object.clone())
                })
            })
            .collect()
    }

    fn delete_as(&mut self, client: &str, place: &Place, object: &Value, grace: Option<i64>) -> bool {
        let call = Call {
            verb: Verb::Delete,
            kind: self.kind(place.0),
            index: place.0,
            namespace: place.1.clone(),
            name: place.2.clone(),
            part: Part::Main,
            query: Query::default(),
        };
        let before = self.version();
        let mut options = json!({
            "preconditions": {"uid": meta::text(object, "uid")}, "propagationPolicy": "Background",
        });
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        let done = self.serve(client, &call, options).is_ok();
        done && self.version() != before
    }

    fn collect_garbage(&mut self) -> usize {
        let places = self.places();
        let alive: HashSet<&str> = places.iter().map(|(_, object)| meta::text(object, "uid")).collect();
        let mut count = 0;
        for (place, object) in &places {
            let owners =
                object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_there = |owner: &&Value| owner["uid"].as_str().is_some_and(|uid| alive.contains(uid));
            let waits = meta::finalizers(object).contains(&"foregroundDeletion");
            if !owners.is_empty() && !owners.iter().any(|owner| is_there(&owner)) {
                count += usize::from(self.delete_as(COLLECTOR, place, object, None));
            } else if owners.iter().any(|owner| !is_there(&owner)) {
                let left: Vec<Value> = owners.iter().filter(is_there).cloned().collect();
                let place = place.clone();
                self.edit(COLLECTOR, &place, |object| object["metadata"]["ownerReferences"] = left.into());
            }
            if waits {
                count += self.finish_foreground(place, object, &places);
            }
        }
        count
    }

    /// An owner that waits for its dependents: they go first.
    fn finish_foreground(&mut self, place: &Place, owner: &Value, places: &[(Place, Object)]) -> usize {
        let uid = meta::text(owner, "uid");
        let dependents: Vec<&(Place, Object)> = places
            .iter()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
                owners.into_iter().any(|owner| owner["uid"].as_str() == Some(uid))
            })
            .collect();
        if dependents.is_empty() {
            return usize::from(self.drop_finalizer(COLLECTOR, place, "foregroundDeletion"));
        }
        dependents
            .into_iter()
            .filter(|(place, object)| self.delete_as(COLLECTOR, place, object, None))
            .count()
    }

    fn finish_namespaces(&mut self) -> usize {
        let Some(index) = self.kinds.by_plural("namespaces") else { return 0 };
        let going: Vec<(String, Object)> = self
            .table(index)
            .iter()
            .filter(|(_, object)| object["status"]["phase"] == "Terminating")
            .map(|((_, name), object)| (name.clone(), object.clone()))
            .collect();
        let mut count = 0;
        for (namespace, object) in going {
            let inside: Vec<(Place, Object)> =
                self.places().into_iter().filter(|((_, within, _), _)| *within == namespace).collect();
            if inside.is_empty() {
                let author = self.author(NAMESPACES, Verb::Delete, Part::Main);
                let mut last = Value::clone(&object);
                last["spec"] = json!({});
                self.remove(&(index, String::new(), namespace), last, author);
                count += 1;
                continue;
            }
            for (place, object) in inside {
                count += usize::from(self.delete_as(NAMESPACES, &place, &object, None));
            }
        }
        count
    }

    fn release_claims(&mut self) -> usize {
        let uses = |pod: &Value, claim: &str| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            volumes.into_iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
        };
        let pods = self.all("pods");
        let Some(index) = self.kinds.by_plural("persistentvolumeclaims") else { return 0 };
        let free: Vec<Place> = self
            .table(index)
            .iter()
            .filter(|(_, claim)| meta::is_deleting(claim))
            .filter(|((namespace, name), _)| {
                !pods.iter().any(|pod| meta::text(pod, "namespace") == namespace && uses(pod, name))
            })
            .map(|((namespace, name), _)| (index, namespace.clone(), name.clone()))
            .collect();
        let mut count = 0;
        for place in free {
            count += usize::from(self.drop_finalizer(CLAIMS, &place, "kubernetes.io/pvc-protection"));
        }
        count
    }

    fn drop_finalizer(&mut self, client: &str, place: &Place, finalizer: &str) -> bool {
        let Some(object) = self.get(place) else { return false };
        let known = meta::finalizers(object);
        if !known.contains(&finalizer) {
            return false;
        }
        let left: Vec<String> =
            known.into_iter().filter(|one| *one != finalizer).map(str::to_owned).collect();
        let call = Call {
            verb: Verb::Patch,
            kind: self.kind(place.0),
            index: place.0,
            namespace: place.1.clone(),
            name: place.2.clone(),
            part: Part::Main,
            query: Query::default(),
        };
        self.serve(client, &call, json!({"metadata": {"finalizers": left}})).is_ok()
    }

    fn end_pods(&mut self) -> usize {
        let now = self.now();
        let Some(index) = self.kinds.by_plural("pods") else { return 0 };
        let over: Vec<(Place, Object)> = self
            .table(index)
            .iter()
            .filter(|(_, pod)| {
                let end = meta::text(pod, "deletionTimestamp").parse::<jiff::Timestamp>();
                end.is_ok_and(|end| end <= now)
            })
            .map(|((namespace, name), pod)| ((index, namespace.clone(), name.clone()), pod.clone()))
            .collect();
        over.iter().filter(|(place, pod)| self.delete_as(KUBELET, place, pod, Some(0))).count()
    }
}

impl Call {
    /// A request on one object, or on the collection if `name` is empty.
    pub fn to(server: &ApiServer, verb: Verb, plural: &str, namespace: &str, name: &str) -> Option<Self> {
        let state = server.shared.state.lock();
        let index = state.kinds.by_plural(plural)?;
        Some(Self {
            verb,
            kind: state.kind(index),
            index,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            part: Part::Main,
            query: Query::default(),
        })
    }

    /// The same on the status.
    pub fn status(self) -> Self {
        Self { part: Part::Status, ..self }
    }
}

impl Kind {
    /// An object of this kind, to be created.
    pub fn blank(&self, name: &str) -> Value {
        json!({"apiVersion": self.api_version(), "kind": self.kind, "metadata": {"name": name}})
    }
}
