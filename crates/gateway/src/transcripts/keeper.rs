//! Takes what a runner's journal has over into the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::Position;
use paddock_transcripts::{Batch, SessionKey, StoreError, TranscriptStore};
use parking_lot::Mutex;

use super::pages::{self, PageError};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::relay::target::Target;

/// How often one save begins anew because another replica was quicker.
const ATTEMPTS: usize = 8;
/// When to send a request again that found the store out of order.
const STORE_RETRY: Duration = Duration::from_secs(2);
/// For how many sessions it is remembered how far they are saved, while nobody saves them.
const REMEMBERED: usize = 10_000;

/// A transcript could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// By the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pod does not show it.
    #[error("reading the transcript from the session's pod: {0}")]
    Pod(#[from] PageError),
    /// Others changed it all the time.
    #[error("saving the transcript: it kept changing meanwhile")]
    Restless,
}

/// What a client is not told before it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaved {
    /// The reply to its message.
    Reply,
    /// That its message is accepted.
    Acceptance,
    /// How the turn ended that it asks for.
    Outcome,
}

impl SaveError {
    /// One word, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::Pod(_) => "pod",
            Self::Restless => "restless",
        }
    }

    /// The error for a client that is not told of its turn, because that is not saved. Its runner knows it.
    pub fn of_turn(&self, turn: &str, unsaved: Unsaved) -> ApiError {
        let (what, again) = match unsaved {
            Unsaved::Reply => (
                "the turn has ended, but its reply",
                format!("send the message again with Idempotency-Key: {turn} to get the reply"),
            ),
            Unsaved::Acceptance => (
                "the turn is accepted and runs, but that",
                format!("send the message again with Idempotency-Key: {turn} to join it"),
            ),
            Unsaved::Outcome => ("the turn has ended, but its outcome", "ask again".to_owned()),
        };
        match self {
            Self::Store(error) => ApiError::new(
                ErrorCode::TranscriptUnavailable,
                format!("{what} could not be saved: {error}; {again}"),
            )
            .retry_after(STORE_RETRY),
            Self::Pod(_) | Self::Restless => ApiError::new(
                ErrorCode::TurnLost,
                format!("{what} was not saved before the session's pod was lost; {again}"),
            ),
        }
    }

    /// The error for a client that wants to read what is stored.
    pub fn of_reading(error: &StoreError) -> ApiError {
        ApiError::new(
            ErrorCode::TranscriptUnavailable,
            format!("reading the session's transcript failed: {error}"),
        )
        .retry_after(STORE_RETRY)
    }
}

/// How far one session is saved, as far as this replica knows. Held while it saves.
type Known = Arc<tokio::sync::Mutex<Option<Position>>>;

/// See the module.
pub struct Keeper {
    store: Arc<dyn TranscriptStore>,
    known: Mutex<HashMap<String, Known>>,
}

impl Keeper {
    /// Keeps transcripts in `store`.
    pub fn new(store: Arc<dyn TranscriptStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// Where they are kept.
    pub fn store(&self) -> &dyn TranscriptStore {
        &*self.store
    }

    /// Saves what the runner at `target` has, at least through `through`. Returns up to where it is saved.
    ///
    /// # Errors
    /// See [`SaveError`]. What was saved by then stays.
    pub async fn save(
        &self,
        gateway: &Gateway,
        session: &Session,
        target: &Target,
        through: Position,
        request_id: &RequestId,
    ) -> Result<Position, SaveError> {
        if through.seq == 0 {
            return Ok(through);
        }
        let line = self.line(&target.session_uid);
        let mut known = line.lock().await;
        let saved = self.catch_up(gateway, session, target, through, *known, request_id).await;
        let result = match &saved {
            Ok(_) => "saved",
            Err(error) => error.reason(),
        };
        gateway.metrics.transcript_saved(result);
        *known = saved.as_ref().ok().copied();
        saved
    }

    /// Up to where the runner at `target` has anything.
    ///
    /// # Errors
    /// [`SaveError::Pod`].
    pub async fn end(
        &self,
        gateway: &Gateway,
        target: &Target,
        request_id: &RequestId,
    ) -> Result<Position, SaveError> {
        let page = pages::read(gateway, target, None, request_id).await?;
        Ok(Position { journal: page.journal, seq: page.end })
    }

    async fn catch_up(
        &self,
        gateway: &Gateway,
        session: &Session,
        target: &Target,
        through: Position,
        known: Option<Position>,
        request_id: &RequestId,
    ) -> Result<Position, SaveError> {
        let (uid, journal) = (&target.session_uid, through.journal);
        let mut at = match known.filter(|known| known.journal == journal) {
            Some(known) => known.seq,
            None => self.store.stored_in(uid, journal).await?,
        };
        let mut attempts = 0;
        while at < through.seq {
            let page = pages::read(gateway, target, Some(at), request_id).await?;
            if page.journal != journal {
                // A pod has one journal: `through` was told of another pod.
                return Err(PageError::NoSuchPlace.into());
            }
            let batch = &Batch {
                session: SessionKey {
                    namespace: session.metadata.namespace.clone().unwrap_or_default(),
                    name: session.metadata.name.clone().unwrap_or_default(),
                    uid: uid.clone(),
                },
                journal,
                after: at,
                through: page.through,
                entries: pages::entries(page)?,
            };
            let stored = match self.store.append(batch).await {
                Ok(stored) | Err(StoreError::Gap { stored, .. }) => stored,
                Err(error) => return Err(error.into()),
            };
            if stored <= at {
                attempts += 1;
                if attempts > ATTEMPTS {
                    return Err(SaveError::Restless);
                }
            }
            at = stored;
        }
        Ok(Position { journal, seq: at })
    }

    fn line(&self, session_uid: &str) -> Known {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            // The store knows it as well; asking costs a moment.
            known.retain(|_, line| Arc::strong_count(line) > 1);
        }
        known.entry(session_uid.to_owned()).or_default().clone()
    }
}
