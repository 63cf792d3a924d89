//! Whose events belong to a conversation: its own, and those of conversations that it begins for its helpers.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::harness) struct Family {
    conversation: String,
    children: HashSet<String>,
}

/// An event that belongs to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::harness) struct Relevant {
    /// Whether the conversation itself has come to rest with it.
    pub(in crate::harness) rests: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
struct Properties {
    #[serde(default, rename = "sessionID")]
    session: Option<String>,
    #[serde(default)]
    info: Option<Info>,
    #[serde(default)]
    part: Option<Part>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, rename = "sessionID")]
    session: Option<String>,
    #[serde(default, rename = "parentID")]
    parent: Option<String>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, rename = "sessionID")]
    session: Option<String>,
}

impl Family {
    /// The events of this conversation are wanted.
    pub(in crate::harness) fn of(&mut self, conversation: &str) {
        if self.conversation != conversation {
            *self = Self { conversation: conversation.to_owned(), children: HashSet::new() };
        }
    }

    /// Whether an event belongs to the conversation. Children are learned from the events of their beginning.
    pub(in crate::harness) fn relevant(&mut self, event: &[u8]) -> Option<Relevant> {
        let Envelope { kind, properties } = serde_json::from_slice(event).ok()?;
        let Properties { session, info, part } = properties;
        let is_about_session = kind.starts_with("session.");
        let mut parent = None;
        let mut named = None;
        if let Some(info) = info {
            // The parent of a message is a message.
            parent = info.parent.filter(|_| is_about_session);
            named = info.session.or(info.id.filter(|_| is_about_session));
        }
        let session = session.or(named).or(part.and_then(|part| part.session))?;
        if !self.has(&session) {
            if !self.has(&parent?) {
                return None;
            }
            self.children.insert(session.clone());
        }
        Some(Relevant { rests: kind == "session.idle" && session == self.conversation })
    }

    fn has(&self, session: &str) -> bool {
        session == self.conversation || self.children.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn family() -> Family {
        let mut family = Family::default();
        family.of("ses_1");
        family
    }

    fn told(family: &mut Family, kind: &str, properties: Value) -> Option<bool> {
        let event = json!({"id": "evt_1", "type": kind, "properties": properties}).to_string();
        family.relevant(event.as_bytes()).map(|relevant| relevant.rests)
    }

    #[test]
    fn only_what_belongs_to_the_conversation_is_told() {
        let mut family = family();
        for (kind, properties, expected) in [
            ("message.part.delta", json!({"sessionID": "ses_1", "delta": "x"}), Some(false)),
            ("message.updated", json!({"info": {"id": "msg_1", "sessionID": "ses_1"}}), Some(false)),
            ("message.part.updated", json!({"part": {"id": "prt_1", "sessionID": "ses_1"}}), Some(false)),
            ("session.updated", json!({"info": {"id": "ses_1"}}), Some(false)),
            ("session.idle", json!({"sessionID": "ses_1"}), Some(true)),
            ("session.idle", json!({"sessionID": "ses_2"}), None),
            ("message.updated", json!({"info": {"id": "ses_1", "sessionID": "ses_2"}}), None),
            ("session.error", json!({}), None),
            ("server.connected", json!({}), None),
            ("file.edited", json!({"file": "ses_1"}), None),
        ] {
            assert_eq!(told(&mut family, kind, properties.clone()), expected, "{kind} {properties}");
        }
        for nonsense in ["", "[]", "{", r#"{"type": 1}"#, r#"{"type": "x"}"#] {
            assert_eq!(family.relevant(nonsense.as_bytes()), None, "{nonsense}");
        }
    }

    #[test]
    fn the_conversations_of_helpers_belong_to_it_and_do_not_bring_it_to_rest() {
        let mut family = family();
        let begun = |id: &str, parent: &str| json!({"info": {"id": id, "parentID": parent}});
        assert_eq!(told(&mut family, "session.created", begun("ses_9", "ses_8")), None);
        assert_eq!(told(&mut family, "session.created", begun("ses_2", "ses_1")), Some(false));
        assert_eq!(told(&mut family, "session.updated", begun("ses_3", "ses_2")), Some(false));
        assert_eq!(told(&mut family, "session.idle", json!({"sessionID": "ses_3"})), Some(false));
        // The parent of a message is no session, whatever it is called.
        let message = json!({"info": {"id": "msg_1", "sessionID": "ses_7", "parentID": "ses_1"}});
        assert_eq!(told(&mut family, "message.updated", message), None);
        family.of("ses_1");
        assert_eq!(told(&mut family, "session.idle", json!({"sessionID": "ses_2"})), Some(false));
        family.of("ses_2");
        assert_eq!(told(&mut family, "session.idle", json!({"sessionID": "ses_3"})), None);
    }
}
