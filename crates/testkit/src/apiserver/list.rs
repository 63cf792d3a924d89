//! Lists: whole or in pages, as of now or as of an earlier version.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Object;
use super::refusal::Refusal;
use super::request::{Call, Verb};
use super::selector::Selector;
use super::state::State;

impl State {
    /// `version` asks for the list as it was then.
    pub(super) fn list(&self, call: &Call, version: Option<u64>) -> Result<Value, Refusal> {
        let selector = Selector::parse(&call.query.label_selector, &call.query.field_selector)?;
        let (version, after) = match next_of(&call.query.next) {
            Some((version, namespace, name)) => (version, Some((namespace, name))),
            None if call.query.next.is_empty() => (version.unwrap_or(self.version()), None),
            None => return Err(Refusal::bad_request("continue key is not valid")),
        };
        if version < self.compacted && version < self.version() {
            let message = "The provided continue parameter is too old to display a consistent list result.";
            return Err(Refusal::new(410, "Expired", message));
        }
        let table = self.as_of(call.index, version);
        let mut found = table
            .into_iter()
            .filter(|((namespace, _), _)| call.namespace.is_empty() || *namespace == call.namespace)
            .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
            .filter(|(_, object)| selector.matches(object));
        let limit = call.query.limit.unwrap_or(usize::MAX);
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if found.next().is_some()
            && let Some(((namespace, name), _)) = page.last()
        {
            metadata["continue"] = format!("{version}|{namespace}|{name}").into();
        }
        let custom = call.kind.traits.custom;
        let items: Vec<Value> = page
            .into_iter()
            // The real server names the kind of items in lists of custom resources only.
            .map(|(_, object)| if custom { Value::clone(&object) } else { untyped(&object) })
            .collect();
        Ok(json!({
            "kind": format!("{}List", call.kind.kind),
            "apiVersion": call.kind.api_version(),
            "metadata": metadata,
            "items": items,
        }))
    }

    /// One object as it was at `version`.
    pub(super) fn get_as_of(&self, call: &Call, version: u64) -> Result<Object, Refusal> {
        debug_assert_eq!(call.verb, Verb::Get);
        let key = (call.namespace.clone(), call.name.clone());
        match self.as_of(call.index, version).get(&key) {
            Some(object) => Ok(object.clone()),
            None => Err(Refusal::not_found(&call.kind, &call.name)),
        }
    }

    /// The objects of a kind as they were at `version`: what came later is taken back.
    fn as_of(&self, kind: usize, version: u64) -> BTreeMap<(String, String), Object> {
        let mut table = self.table(kind).clone();
        let wanted = self.kind(kind);
        let later = self.history.iter().rev().take_while(|change| change.version > version);
        for change in later.filter(|change| std::sync::Arc::ptr_eq(&change.kind, &wanted)) {
            let key = (change.meta("namespace").to_owned(), change.meta("name").to_owned());
            match &change.before {
                Some(before) => table.insert(key, before.clone()),
                None => table.remove(&key),
            };
        }
        table
    }
}

fn next_of(token: &str) -> Option<(u64, String, String)> {
    let mut parts = token.splitn(3, '|');
    let version = parts.next()?.parse().ok()?;
    Some((version, parts.next()?.to_owned(), parts.next()?.to_owned()))
}

fn untyped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("apiVersion");
        members.remove("kind");
    }
    object
}
