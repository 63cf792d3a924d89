//! Gives a new pod what was said in the session's earlier ones, from the transcript store.

use bytes::Bytes;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::{CONVERSATION, ConversationRequest};
use serde_json::value::RawValue;

use super::call::{self, Call};
use super::target::Target;
use super::verdict;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::transcripts::{SaveError, conversation};

/// Most bytes of messages that are given; of a longer conversation the later part. A runner takes 48 MiB.
const MOST_BYTES: usize = 40 << 20;

/// Gives the pod at `target` the conversation. It may be given again.
///
/// # Errors
/// `transcript_unavailable`, or where the pod does not take it. No turn was sent.
pub async fn give(gateway: &Gateway, target: &Target, request_id: &RequestId) -> Result<(), ApiError> {
    let messages = match &gateway.transcripts {
        None => Vec::new(),
        Some(keeper) => conversation::of_harness(keeper.store(), &target.session_uid)
            .await
            .map_err(|error| SaveError::of_reading(&error))?,
    };
    let request = ConversationRequest { messages: latest(messages, MOST_BYTES) };
    tracing::info!(
        pod = target.pod_name,
        messages = request.messages.len(),
        "a new pod is given the conversation"
    );
    let body = serde_json::to_vec(&request).map_err(|error| {
        tracing::error!(%error, "a conversation cannot be written");
        ApiError::new(ErrorCode::Internal, "the gateway could not write the session's conversation")
    })?;
    let call = Call::post(CONVERSATION, Bytes::from(body), request_id);
    let answer = call::send(gateway, target, &call).await.map_err(|error| {
        ApiError::new(
            ErrorCode::NotReady,
            format!(
                "the session's new pod could not be given the conversation: {error}; send the message again"
            ),
        )
    })?;
    match verdict::error_of(answer).await {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// The last messages that have so many bytes together.
fn latest(mut messages: Vec<Box<RawValue>>, most_bytes: usize) -> Vec<Box<RawValue>> {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += *length;
        bytes <= most_bytes
    };
    let kept = messages.iter().rev().map(|message| message.get().len()).take_while(fits).count();
    let left_out = messages.len() - kept;
    if left_out > 0 {
        tracing::warn!(left_out, "a conversation is too long for a pod; its beginning is left out");
    }
    messages.split_off(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_conversation_the_end_is_given() {
        let messages: Vec<Box<RawValue>> =
            ["1", "22", "333"].map(|text| RawValue::from_string(text.into()).unwrap()).into();
        for (most, expected) in [
            (0, vec![]),
            (3, vec!["333"]),
            (4, vec!["333"]),
            (5, vec!["22", "333"]),
            (6, vec!["1", "22", "333"]),
        ] {
            let kept = latest(messages.clone(), most);
            assert_eq!(kept.iter().map(|message| message.get()).collect::<Vec<_>>(), expected, "{most}");
        }
    }
}
