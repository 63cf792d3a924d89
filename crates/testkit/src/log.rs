//! What the model was asked, for tests to look at.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;

/// One request. Credentials are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Counted from 1 since the start or the last clearing.
    pub order: usize,
    /// The path that was asked.
    pub path: String,
    /// The model's name.
    pub model: String,
    /// Text of the last message of a person.
    pub last_user_text: String,
    /// What people had written before that, oldest first.
    pub earlier_user_texts: Vec<String>,
    /// Images that people have sent, as data URLs, oldest first.
    pub images: Vec<String>,
    /// What harnesses appended to what people wrote, such as the instructions of a repository.
    pub notes: String,
    /// All system text.
    pub system: String,
    /// Names of the tools on offer.
    pub tools: Vec<String>,
    /// How many tool outputs followed the last message.
    pub tool_outputs: usize,
    /// Whether a stream was wanted.
    pub stream: bool,
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<Seen>>);

impl Log {
    pub(crate) fn push(&self, path: &str, conversation: &Conversation) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let order = entries.len() + 1;
        entries.push(Seen {
            order,
            path: path.to_owned(),
            model: conversation.model.clone(),
            last_user_text: conversation.last_user_text.clone(),
            earlier_user_texts: conversation.earlier_user_texts.clone(),
            images: conversation.images.clone(),
            notes: conversation.notes.clone(),
            system: conversation.system.clone(),
            tools: conversation.tools.iter().map(|tool| tool.name.clone()).collect(),
            tool_outputs: conversation.tool_outputs.len(),
            stream: conversation.stream,
        });
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
