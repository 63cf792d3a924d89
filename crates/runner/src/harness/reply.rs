//! Reading messages in opencode's form: which reply answers which message, and whether it is finished.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What is written where a turn was stopped in the middle.
const ABORTED: &str = "MessageAbortedError";

#[derive(Deserialize)]
struct Message {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    id: String,
    #[serde(default)]
    role: String,
    #[serde(default, rename = "parentID")]
    parent: Option<String>,
    #[serde(default)]
    finish: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    time: Time,
}

#[derive(Default, Deserialize)]
struct Time {
    #[serde(default)]
    completed: Option<f64>,
}

impl Info {
    fn answers(&self, message: &str) -> bool {
        self.parent.as_deref() == Some(message)
    }

    /// A turn has one message per step; only the last of them ends it.
    fn ends_the_turn(&self) -> bool {
        let goes_on = matches!(self.finish.as_deref(), Some("tool-calls" | "unknown"));
        let ended = match &self.error {
            Some(error) => error["name"] != ABORTED,
            None => self.finish.is_some() && !goes_on,
        };
        self.time.completed.is_some() && ended
    }
}

/// Whether this answer belongs to our message.
pub(super) fn answers(reply: &[u8], message: &str) -> bool {
    serde_json::from_slice::<Message>(reply).is_ok_and(|reply| reply.info.answers(message))
}

/// What an answer says of itself.
pub(super) struct About {
    /// Its id; empty where it has none.
    pub(super) id: String,
    parent: Option<String>,
}

impl About {
    /// Whether it says that it belongs to another message.
    pub(super) fn answers_another(&self, message: &str) -> bool {
        self.parent.as_deref().is_some_and(|parent| parent != message)
    }
}

/// Reads an answer; nothing where it is no message with parts.
pub(super) fn read(answer: &[u8]) -> Option<About> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        info: Info,
        #[serde(borrow)]
        #[expect(dead_code, reason = "it has to be there, and nothing else is asked of it")]
        parts: Vec<&'a RawValue>,
    }
    let Whole { info, .. } = serde_json::from_slice(answer).ok()?;
    Some(About { id: info.id, parent: info.parent })
}

/// A person's message and all that follows it, up to the reply with this id: a turn, where messages do not say what they answer.
pub(super) fn find_until(history: &[u8], reply: &str) -> Option<Vec<Box<RawValue>>> {
    let messages: Vec<&RawValue> = serde_json::from_slice(history).ok()?;
    let read = |raw: &&RawValue| serde_json::from_str::<Message>(raw.get()).ok().map(|message| message.info);
    let infos: Vec<Option<Info>> = messages.iter().map(read).collect();
    let end = infos.iter().rposition(|info| info.as_ref().is_some_and(|info| info.id == reply))?;
    let is_said = |info: &Option<Info>| info.as_ref().is_some_and(|info| info.role == "user");
    let begin = infos[..end].iter().rposition(is_said)?;
    Some(messages[begin..=end].iter().map(|raw| (*raw).to_owned()).collect())
}

/// Our message and all that answers it, in order; nothing where the history does not go back to it.
pub(super) fn find_all(history: &[u8], message: &str) -> Option<Vec<Box<RawValue>>> {
    let messages: Vec<&RawValue> = serde_json::from_slice(history).ok()?;
    let mut of_turn = messages.into_iter().filter_map(|raw| {
        let Message { info } = serde_json::from_str(raw.get()).ok()?;
        (info.id == message || info.answers(message)).then_some((info.id, raw))
    });
    let (id, first) = of_turn.next()?;
    let rest = of_turn.map(|(_, raw)| raw);
    (id == message).then(|| std::iter::once(first).chain(rest).map(ToOwned::to_owned).collect())
}

/// The ids of a history's messages.
pub(super) fn ids(history: &[u8]) -> Vec<String> {
    let messages: Vec<Message> = serde_json::from_slice(history).unwrap_or_default();
    messages.into_iter().map(|message| message.info.id).collect()
}

/// The finished reply to our message in a conversation's history.
pub(super) fn find_finished(history: &[u8], message: &str) -> Option<Bytes> {
    let messages: Vec<&RawValue> = serde_json::from_slice(history).ok()?;
    let is_ours = |raw: &&&RawValue| answers(raw.get().as_bytes(), message);
    let last = messages.iter().rev().find(is_ours)?;
    let parsed: Message = serde_json::from_str(last.get()).ok()?;
    parsed.info.ends_the_turn().then(|| Bytes::copy_from_slice(last.get().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assistant(id: &str, parent: &str, finish: Option<&str>, completed: Option<u64>) -> Value {
        json!({"info": {"id": id, "role": "assistant", "parentID": parent, "finish": finish,
            "time": {"created": 1, "completed": completed}}, "parts": []})
    }

    fn find(history: &Value, message: &str) -> Option<Value> {
        find_finished(history.to_string().as_bytes(), message).map(|b| serde_json::from_slice(&b).unwrap())
    }

    #[test]
    fn the_last_finished_step_is_the_reply() {
        let history = json!([
            {"info": {"id": "msg_1", "role": "user", "time": {"created": 1}}, "parts": []},
            assistant("a1", "msg_1", Some("tool-calls"), Some(2)),
            assistant("a2", "msg_1", Some("stop"), Some(3)),
            assistant("a3", "msg_2", Some("stop"), Some(4)),
        ]);
        assert_eq!(find(&history, "msg_1").unwrap()["info"]["id"], "a2");
        assert_eq!(find(&history, "msg_9"), None);
    }

    #[test]
    fn a_turn_is_found_with_all_its_steps() {
        let history = json!([
            assistant("a0", "msg_0", Some("stop"), Some(1)),
            {"info": {"id": "msg_1", "role": "user", "time": {"created": 1}}, "parts": []},
            assistant("a1", "msg_1", Some("tool-calls"), Some(2)),
            assistant("a2", "msg_1", Some("stop"), Some(3)),
            {"info": {"id": "msg_2", "role": "user", "time": {"created": 4}}, "parts": []},
        ]);
        let ids = |message: &str| {
            let found = find_all(history.to_string().as_bytes(), message)?;
            let id = |raw: &RawValue| {
                serde_json::from_str::<Value>(raw.get()).unwrap()["info"]["id"].as_str().unwrap().to_owned()
            };
            Some(found.iter().map(|raw| id(raw)).collect::<Vec<_>>())
        };
        assert_eq!(ids("msg_1").unwrap(), ["msg_1", "a1", "a2"]);
        assert_eq!(ids("msg_2").unwrap(), ["msg_2"]);
        assert_eq!(ids("msg_0"), None, "its own message is further back");
    }

    #[test]
    fn a_turn_whose_messages_name_none_is_what_leads_to_its_reply() {
        let said = |id: &str, role: &str| json!({"info": {"id": id, "role": role}, "parts": []});
        let history = json!([
            said("u1", "user"),
            said("a1", "assistant"),
            said("u2", "user"),
            said("a2", "assistant"),
            said("a3", "assistant"),
            said("u3", "user"),
        ]);
        let ids = |reply: &str| {
            let found = find_until(history.to_string().as_bytes(), reply)?;
            let found = serde_json::to_vec(&found).unwrap();
            Some(super::ids(&found))
        };
        assert_eq!(ids("a3").unwrap(), ["u2", "a2", "a3"]);
        assert_eq!(ids("a1").unwrap(), ["u1", "a1"]);
        assert_eq!(ids("a9"), None);
        assert!(read(br#"{"info": {"id": "a"}}"#).is_none(), "it has no parts");
        let read = read(br#"{"info": {"id": "a", "parentID": "m"}, "parts": []}"#).unwrap();
        assert!(read.answers_another("n") && !read.answers_another("m"));
    }

    #[test]
    fn a_turn_that_broke_off_has_no_reply() {
        let between = json!([assistant("a1", "msg_1", Some("tool-calls"), Some(2))]);
        assert_eq!(find(&between, "msg_1"), None);
        let cut = json!([assistant("a1", "msg_1", None, None)]);
        assert_eq!(find(&cut, "msg_1"), None);
    }

    #[test]
    fn a_models_error_is_a_reply_and_an_abort_is_none() {
        let mut failed = assistant("a1", "msg_1", None, Some(2));
        failed["info"]["error"] = json!({"name": "APIError"});
        assert!(find(&json!([failed]), "msg_1").is_some());
        failed["info"]["error"] = json!({"name": "MessageAbortedError"});
        assert_eq!(find(&json!([failed]), "msg_1"), None);
    }
}
