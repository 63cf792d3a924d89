//! The end of objects: preconditions, finalizers, grace, propagation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::refusal::Refusal;
use super::request::Call;
use super::state::{Author, Place, State};
use super::{Object, meta};

impl State {
    pub(super) fn delete(
        &mut self,
        call: &Call,
        place: &Place,
        options: &Value,
        author: Author,
    ) -> Result<(u16, Object), Refusal> {
        let kind = &*call.kind;
        let Some(old) = self.get(place).cloned() else {
            return Err(Refusal::not_found(kind, &call.name));
        };
        let wanted = &options["preconditions"];
        let said = |field: &str| wanted[field].as_str();
        if let Some(uid) = said("uid").filter(|uid| *uid != meta::text(&old, "uid")) {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                meta::text(&old, "uid")
            );
            return Err(Refusal::precondition(kind, &call.name, &why));
        }
        if let Some(version) =
            said("resourceVersion").filter(|version| *version != meta::text(&old, "resourceVersion"))
        {
            let why = format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
                meta::text(&old, "resourceVersion")
            );
            return Err(Refusal::precondition(kind, &call.name, &why));
        }
        if kind.is("namespaces") {
            return self.delete_namespace(call, place, author);
        }

        let mut new = Value::clone(&old);
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => add_finalizer(&mut new, "foregroundDeletion"),
            Some("Orphan") => add_finalizer(&mut new, "orphan"),
            _ => {}
        }
        let grace = options["gracePeriodSeconds"].as_i64();
        let graceful = kind.is("pods").then(|| self.begin_grace(&old, &mut new, grace)).flatten();
        match graceful {
            Some(Grace::Pending) => return Ok((200, old)),
            Some(Grace::Begun(seconds)) if seconds > 0 || !meta::finalizers(&new).is_empty() => {
                let stored = self.put(place, new, author);
                return Ok((200, stored));
            }
            Some(Grace::Begun(_)) => {
                // The real server writes the pod once more before it is gone.
                self.put(place, new.clone(), author.clone());
            }
            None => {
                if !meta::finalizers(&new).is_empty() {
                    self.mark(&old, &mut new);
                    let stored = if new == *old { old } else { self.put(place, new, author) };
                    return Ok((200, stored));
                }
            }
        }
        let gone = self.remove(place, new, author);
        Ok((200, if kind.traits.returns_deleted { gone } else { Arc::new(done(kind, &gone)) }))
    }

    /// Marks an object whose finalizers keep it.
    fn mark(&self, old: &Value, new: &mut Value) {
        if !meta::is_deleting(old) {
            new["metadata"]["deletionTimestamp"] = self.stamp(0).into();
            meta::bump_generation(new);
        }
        new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    }

    /// Gives a pod the time it asks for; none if it has no more time.
    fn begin_grace(&self, old: &Value, new: &mut Value, asked: Option<i64>) -> Option<Grace> {
        if meta::is_deleting(old) {
            let left = meta::grace(old);
            if left == 0 {
                return None;
            }
            let Some(shorter) = asked.filter(|asked| *asked < left) else { return Some(Grace::Pending) };
            let end = meta::text(old, "deletionTimestamp").parse::<jiff::Timestamp>().ok()?.as_second();
            let end = jiff::Timestamp::from_second(end - left + shorter).ok()?;
            new["metadata"]["deletionTimestamp"] = end.to_string().into();
            new["metadata"]["deletionGracePeriodSeconds"] = shorter.into();
            return Some(Grace::Begun(shorter));
        }
        let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or_default();
        let unscheduled = old["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
        let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let seconds = if unscheduled || ended { 0 } else { asked.unwrap_or(own) };
        let seconds = if seconds < 0 { 1 } else { seconds };
        new["metadata"]["deletionTimestamp"] = self.stamp(seconds).into();
        new["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
        meta::bump_generation(new);
        Some(Grace::Begun(seconds))
    }

    fn delete_namespace(
        &mut self,
        call: &Call,
        place: &Place,
        author: Author,
    ) -> Result<(u16, Object), Refusal> {
        let Some(old) = self.get(place).cloned() else {
            return Err(Refusal::not_found(&call.kind, &call.name));
        };
        if meta::is_deleting(&old) {
            let why = "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will automatically be purged by the system.";
            return Err(Refusal::conflict(&call.kind, &call.name, why));
        }
        let mut new = Value::clone(&old);
        new["metadata"]["deletionTimestamp"] = self.stamp(0).into();
        new["status"]["phase"] = "Terminating".into();
        let stored = self.put(place, new, author);
        Ok((200, stored))
    }
}

enum Grace {
    /// It has been asked to go before, and no sooner now.
    Pending,
    /// It has so many seconds from now on.
    Begun(i64),
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut all: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    if !all.iter().any(|one| one == finalizer) {
        all.push(finalizer.to_owned());
    }
    object["metadata"]["finalizers"] = all.into();
}

fn done(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": meta::text(object, "name"), "kind": kind.plural, "uid": meta::text(object, "uid"),
    });
    if !kind.group.is_empty() {
        details["group"] = kind.group.clone().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
