//! The events of a session beyond one pod: where a pod is lost, those of the next one follow.

use std::sync::Arc;
use std::time::Duration;

use paddock_runnerapi::{EventId, EventLine};
use tokio::time::sleep;

use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::relay::events::{self, PodEvents};
use crate::relay::target::Target;

/// Pause between two looks for a pod that tells events.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub struct Source {
    gateway: Arc<Gateway>,
    session: String,
    request_id: RequestId,
    pod: Option<PodEvents>,
    /// The last event that was told. The pod says where those after it are lost.
    at: EventId,
}

impl Source {
    /// Goes on with `pod` after the event `at`; where there is no pod yet, with the first one that is found.
    pub fn new(
        gateway: &Arc<Gateway>,
        session: &str,
        request_id: &RequestId,
        pod: Option<PodEvents>,
        at: EventId,
    ) -> Self {
        let (gateway, request_id) = (gateway.clone(), request_id.clone());
        Self { gateway, session: session.to_owned(), request_id, pod, at }
    }

    /// The next event, whenever it comes. It may be dropped while it waits; nothing is lost by that.
    pub async fn next(&mut self) -> EventLine {
        loop {
            if let Some(pod) = &mut self.pod {
                match pod.next().await {
                    Ok(line) => {
                        self.at = line.id;
                        return line;
                    }
                    Err(lost) => {
                        tracing::debug!(session = self.session, %lost, "events are looked for in the session's next pod");
                        self.pod = None;
                    }
                }
            }
            sleep(PAUSE).await;
            self.pod = self.find().await;
        }
    }

    async fn find(&self) -> Option<PodEvents> {
        let target = Target::of(&*self.gateway.index.session(&self.session)?).ok()?;
        let found = events::follow(&self.gateway, &target, Some(self.at), &self.request_id).await;
        found.map(|(pod, _)| pod).inspect_err(|error| tracing::debug!(%error, "no events yet")).ok()
    }
}
