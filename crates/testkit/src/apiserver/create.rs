//! New objects.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::refusal::Refusal;
use super::request::Call;
use super::state::{Author, Place, State};
use super::{Object, meta, name};

impl State {
    pub(super) fn create(
        &mut self,
        call: &Call,
        mut object: Value,
        author: Author,
    ) -> Result<Object, Refusal> {
        let kind = &*call.kind;
        check_type(kind, &object)?;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let called = meta::text(&object, "name").to_owned();
        let within = meta::text(&object, "namespace");
        if !within.is_empty() && within != call.namespace {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        self.admit_to_namespace(call, &called)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            // The real server has no reason for it either.
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "", message));
        }
        self.store_new(call, called, object, author)
    }

    /// A PUT of what does not exist, for the kinds that allow it.
    pub(super) fn create_by_update(
        &mut self,
        call: &Call,
        mut object: Value,
        author: Author,
    ) -> Result<Object, Refusal> {
        check_type(&call.kind, &object)?;
        let uid = meta::text(&object, "uid");
        if !uid.is_empty() {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
            return Err(Refusal::conflict(&call.kind, &call.name, &why));
        }
        self.admit_to_namespace(call, &call.name)?;
        meta::drop_field(&mut object, "resourceVersion");
        self.store_new(call, call.name.clone(), object, author)
    }

    fn store_new(
        &mut self,
        call: &Call,
        called: String,
        mut object: Value,
        author: Author,
    ) -> Result<Object, Refusal> {
        let kind = &*call.kind;
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            meta::drop_field(&mut object, field);
        }
        meta::tidy(&mut object);
        object["metadata"]["uid"] = self.new_uid().into();
        object["metadata"]["creationTimestamp"] = self.stamp(0).into();
        if kind.namespaced {
            object["metadata"]["namespace"] = call.namespace.clone().into();
        }
        if kind.traits.generation {
            object["metadata"]["generation"] = 1.into();
        }
        if let Some(members) = object.as_object_mut() {
            members.remove("status");
        }
        begin(kind, &called, &mut object);
        let mut mistakes = meta::owner_mistakes(&object);
        if called.is_empty() {
            let message = "Required value: name or generateName is required".to_owned();
            mistakes.push(("FieldValueRequired", message, "metadata.name".to_owned()));
        } else if !name::is_valid(&called) {
            let message = format!("Invalid value: \"{called}\": a lowercase RFC 1123 subdomain is needed");
            mistakes.push(("FieldValueInvalid", message, "metadata.name".to_owned()));
        }
        if let Some(schema) = &kind.schema {
            schema.shape(&mut object);
            mistakes.extend(schema.mistakes(&object));
        }
        if !mistakes.is_empty() {
            return Err(Refusal::invalid(kind, &called, &mistakes));
        }
        let place: Place = (call.index, call.namespace.clone(), called);
        if self.get(&place).is_some() {
            return Err(Refusal::already_exists(kind, &place.2));
        }
        Ok(self.put(&place, object, author))
    }
}

fn check_type(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let says = |field: &str| object[field].as_str().unwrap_or_default();
    let fits = |said: &str, is: &str| said == is || (said.is_empty() && !kind.traits.custom);
    if fits(says("kind"), &kind.kind) && fits(says("apiVersion"), &kind.api_version()) {
        return Ok(());
    }
    let (said, version) = (says("kind"), says("apiVersion"));
    Err(Refusal::bad_request(format!(
        "{version}, Kind={said} in the body does not match {}",
        kind.qualified()
    )))
}

/// What the server itself puts into new objects of some kinds.
fn begin(kind: &Kind, called: &str, object: &mut Value) {
    if kind.is("namespaces") {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = called.into();
        object["spec"] = json!({"finalizers": ["kubernetes"]});
        object["status"] = json!({"phase": "Active"});
    } else if kind.is("pods") {
        object["status"] = json!({"phase": "Pending"});
        if object["spec"]["terminationGracePeriodSeconds"].is_null() {
            object["spec"]["terminationGracePeriodSeconds"] = 30.into();
        }
    } else if kind.is("persistentvolumeclaims") {
        object["status"] = json!({"phase": "Pending"});
        object["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
    } else if kind.is("nodes") || kind.is("services") {
        object["status"] = json!({});
    }
}
