//! What clients were told, beside what happened: every turn reached the harness at most once, every reply that was given
//! out is in the transcript, and none went to another session.

use std::collections::BTreeMap;

use serde_json::Value;

/// One turn as its client saw it.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The session it was sent to.
    pub session: String,
    /// Who sent it: turns of one client were sent one after the other.
    pub client: usize,
    /// A word that nothing else holds, part of the message and thereby of its reply.
    pub mark: String,
    /// What came of it.
    pub told: Told,
}

/// What a client was told in the end.
#[derive(Clone, Debug)]
pub enum Told {
    /// The reply.
    Reply(Value),
    /// An error that a retry does not mend: its code.
    Refused(String),
}

/// What happened, as others tell it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often the model was asked for each mark.
    pub asked: BTreeMap<String, usize>,
    /// The conversation of each session.
    pub conversations: BTreeMap<String, Vec<Value>>,
}

/// Everything that should not be, in words.
pub fn faults(turns: &[Turn], seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for turn in turns {
        let mark = &turn.mark;
        let asked = seen.asked.get(mark).copied().unwrap_or(0);
        if asked > 1 {
            wrong.push(format!("{mark} ran {asked} times"));
        }
        for (session, messages) in &seen.conversations {
            let times =
                messages.iter().filter(|message| is_from(message, "user") && holds(message, mark)).count();
            if *session != turn.session && times > 0 {
                wrong.push(format!("{mark} of {} is in the conversation of {session}", turn.session));
            } else if times > 1 {
                wrong.push(format!("{mark} is {times} times in its conversation"));
            }
        }
        if let Told::Reply(reply) = &turn.told {
            if asked == 0 {
                wrong.push(format!("{mark} was answered, and the model never asked"));
            }
            wrong.extend(faults_of_reply(turn, reply, turns, seen));
        }
    }
    wrong.extend(out_of_order(turns, seen));
    wrong
}

fn faults_of_reply(turn: &Turn, reply: &Value, turns: &[Turn], seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mark = &turn.mark;
    if !holds(reply, mark) {
        wrong.push(format!("the reply to {mark} is not one to it: {reply}"));
    }
    let others = turns.iter().filter(|other| other.mark != *mark && holds(reply, &other.mark));
    wrong.extend(others.map(|other| format!("the reply to {mark} speaks of {}", other.mark)));
    let id = &reply["info"]["id"];
    let kept = seen.conversations.get(&turn.session).into_iter().flatten();
    match kept.filter(|message| message["info"]["id"] == *id).collect::<Vec<_>>()[..] {
        [message] if message["parts"] == reply["parts"] => {}
        [message] => wrong.push(format!("the reply to {mark} was {reply}, and kept is {message}")),
        [] => wrong.push(format!("the reply to {mark} was given out and is not kept")),
        _ => wrong.push(format!("the reply to {mark} is kept several times")),
    }
    wrong
}

/// Turns of one client that are in another order than they were sent in.
fn out_of_order(turns: &[Turn], seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for (session, messages) in &seen.conversations {
        let mut latest: BTreeMap<usize, usize> = BTreeMap::new();
        for message in messages.iter().filter(|message| is_from(message, "user")) {
            let found = turns
                .iter()
                .enumerate()
                .find(|(_, turn)| turn.session == *session && holds(message, &turn.mark));
            let Some((at, turn)) = found else { continue };
            if latest.insert(turn.client, at).is_some_and(|before| before > at) {
                wrong.push(format!("{} is in its conversation after a later turn", turn.mark));
            }
        }
    }
    wrong
}

fn is_from(message: &Value, role: &str) -> bool {
    message["info"]["role"] == role
}

fn holds(message: &Value, mark: &str) -> bool {
    let parts = message["parts"].as_array().into_iter().flatten();
    parts.filter_map(|part| part["text"].as_str()).any(|text| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str, role: &str, text: &str) -> Value {
        json!({"info": {"id": id, "role": role}, "parts": [{"type": "text", "text": text}]})
    }

    /// Two sessions of two turns each, all well.
    fn all_well() -> (Vec<Turn>, Seen) {
        let mut turns = Vec::new();
        let mut seen = Seen::default();
        for session in ["a", "b"] {
            for n in 1..=2 {
                let mark = format!("mark-{session}{n}");
                let reply = message(&format!("m-{mark}"), "assistant", &format!("echo: {mark}"));
                let conversation = seen.conversations.entry(session.to_owned()).or_default();
                conversation.push(message(&format!("u-{mark}"), "user", &mark));
                conversation.push(reply.clone());
                seen.asked.insert(mark.clone(), 1);
                turns.push(Turn { session: session.to_owned(), client: 0, mark, told: Told::Reply(reply) });
            }
        }
        (turns, seen)
    }

    #[test]
    fn nothing_is_wrong_where_all_is_well() {
        let (mut turns, mut seen) = all_well();
        assert_eq!(faults(&turns, &seen), Vec::<String>::new());
        // A turn that was interrupted may have run, or not.
        turns[1].told = Told::Refused("interrupted".to_owned());
        seen.conversations.get_mut("a").unwrap().pop();
        assert_eq!(faults(&turns, &seen), Vec::<String>::new());
        seen.asked.remove("mark-a2");
        assert_eq!(faults(&turns, &seen), Vec::<String>::new());
    }

    #[test]
    fn a_turn_that_is_sent_again_after_a_502_is_noticed() {
        let (turns, mut seen) = all_well();
        seen.asked.insert("mark-a1".to_owned(), 2);
        assert_eq!(faults(&turns, &seen), ["mark-a1 ran 2 times"]);
    }

    #[test]
    fn a_key_that_is_ignored_is_noticed() {
        let (turns, mut seen) = all_well();
        let again = [message("u2", "user", "mark-b2"), message("m2", "assistant", "echo: mark-b2")];
        seen.conversations.get_mut("b").unwrap().extend(again);
        assert_eq!(faults(&turns, &seen), ["mark-b2 is 2 times in its conversation"]);
    }

    #[test]
    fn a_reply_that_was_lost_after_it_was_given_out_is_noticed() {
        let (turns, mut seen) = all_well();
        seen.conversations.get_mut("b").unwrap().truncate(2);
        assert_eq!(faults(&turns, &seen), ["the reply to mark-b2 was given out and is not kept"]);
        let (turns, mut seen) = all_well();
        seen.conversations.get_mut("b").unwrap()[3] = message("m-mark-b2", "assistant", "something else");
        assert_eq!(faults(&turns, &seen).len(), 1);
    }

    #[test]
    fn a_reply_of_another_session_is_noticed() {
        let (mut turns, seen) = all_well();
        let other = turns[2].told.clone();
        turns[0].told = other;
        assert_eq!(faults(&turns, &seen).len(), 3, "not its own, another's, and not kept");
    }

    #[test]
    fn turns_in_another_order_are_noticed() {
        let (turns, mut seen) = all_well();
        seen.conversations.get_mut("a").unwrap().rotate_left(2);
        assert_eq!(faults(&turns, &seen), ["mark-a1 is in its conversation after a later turn"]);
    }
}
