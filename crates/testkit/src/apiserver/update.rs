//! PUT and merge patches, of objects and of their status.

use serde_json::{Map, Value};

use super::kinds::Kind;
use super::refusal::Refusal;
use super::request::{Call, Part, Verb};
use super::schema::Mistake;
use super::state::{Author, Place, State};
use super::{Object, meta};

impl State {
    pub(super) fn update(
        &mut self,
        call: &Call,
        place: &Place,
        body: Value,
        author: Author,
    ) -> Result<Object, Refusal> {
        let kind = &*call.kind;
        let Some(old) = self.get(place).cloned() else {
            return Err(Refusal::not_found(kind, &call.name));
        };
        let mut new = match call.verb {
            Verb::Patch => {
                if !body.is_object() {
                    return Err(Refusal::bad_request("a merge patch must be an object"));
                }
                let mut merged = Value::clone(&old);
                merge(&mut merged, &body);
                merged
            }
            _ => body,
        };
        if !new["metadata"].is_object() {
            new["metadata"] = Value::Object(Map::new());
        }
        for field in ["apiVersion", "kind"] {
            new[field] = old[field].clone();
        }
        check_names(kind, call, &old, &new)?;
        let version = meta::text(&new, "resourceVersion");
        if version.is_empty() && !kind.traits.unconditional_update {
            return Err(Refusal::unversioned(kind, &call.name));
        }
        if !version.is_empty() && version != meta::text(&old, "resourceVersion") {
            return Err(Refusal::modified(kind, &call.name));
        }
        split(kind, call.part, &old, &mut new);
        let mut mistakes = keep_metadata(&old, &mut new);
        meta::tidy(&mut new);
        mistakes.extend(meta::owner_mistakes(&new));
        if let Some(schema) = &kind.schema {
            schema.shape(&mut new);
            mistakes.extend(schema.mistakes(&new));
        }
        if kind.is("pods") && pod_spec_changed(&old, &new) {
            let message =
                "pod updates may not change fields other than `spec.containers[*].image`".to_owned();
            mistakes.push(("FieldValueForbidden", message, "spec".to_owned()));
        }
        if !mistakes.is_empty() {
            return Err(Refusal::invalid(kind, &call.name, &mistakes));
        }
        if call.part == Part::Main && kind.traits.generation && content_changed(&old, &new) {
            meta::bump_generation(&mut new);
        }
        if meta::is_deleting(&old) && meta::finalizers(&new).is_empty() && meta::grace(&old) == 0 {
            // Watches are told what was stored, and the answer is what would have been.
            self.remove(place, Value::clone(&old), author);
            return Ok(new.into());
        }
        if new == *old {
            return Ok(old);
        }
        Ok(self.put(place, new, author))
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

fn check_names(kind: &Kind, call: &Call, old: &Value, new: &Value) -> Result<(), Refusal> {
    let called = meta::text(new, "name");
    if called != call.name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({called}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let within = meta::text(new, "namespace");
    if !within.is_empty() && within != call.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, is) = (meta::text(new, "uid"), meta::text(old, "uid"));
    // In a patch it is a change of a field that must not change.
    if call.verb == Verb::Update && !uid.is_empty() && uid != is {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {is}");
        return Err(Refusal::conflict(kind, &call.name, &why));
    }
    Ok(())
}

/// Leaves in `new` only what a write of this part may change.
fn split(kind: &Kind, part: Part, old: &Value, new: &mut Value) {
    if !kind.status {
        // Built-in kinds are typed: what they do not know is dropped.
        if let Some(members) = new.as_object_mut() {
            members.remove("status");
        }
        return;
    }
    match part {
        Part::Main => keep(new, old, "status"),
        Part::Status if kind.traits.custom => {
            let status = new.get("status").cloned();
            *new = old.clone();
            match (status, new.as_object_mut()) {
                (Some(status), Some(_)) => new["status"] = status,
                (None, Some(members)) => drop(members.remove("status")),
                (_, None) => {}
            }
        }
        Part::Status => {
            keep(new, old, "spec");
            meta::keep_field(new, old, "ownerReferences");
        }
    }
}

fn keep(new: &mut Value, old: &Value, member: &str) {
    match (old.get(member), new.as_object_mut()) {
        (Some(value), _) => new[member] = value.clone(),
        (None, Some(members)) => drop(members.remove(member)),
        (None, None) => {}
    }
}

fn keep_metadata(old: &Value, new: &mut Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let said = meta::text(new, "uid");
    if !said.is_empty() && said != meta::text(old, "uid") {
        let message = format!("Invalid value: \"{said}\": field is immutable");
        mistakes.push(("FieldValueInvalid", message, "metadata.uid".to_owned()));
    }
    for field in [
        "uid",
        "name",
        "namespace",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        meta::keep_field(new, old, field);
    }
    if meta::is_deleting(old) {
        let known = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|one| !known.contains(one)).collect();
        if !added.is_empty() {
            let message = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            mistakes.push(("FieldValueForbidden", message, "metadata.finalizers".to_owned()));
        }
    }
    mistakes
}

fn content_changed(old: &Value, new: &Value) -> bool {
    let content = |object: &Value| -> Vec<(String, Value)> {
        let members = object.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    content(old) != content(new)
}

fn pod_spec_changed(old: &Value, new: &Value) -> bool {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        spec["activeDeadlineSeconds"] = Value::Null;
        spec["tolerations"] = Value::Null;
        spec["initContainers"] = spec["initContainers"].take();
        spec
    };
    fixed(old) != fixed(new)
}
