//! Asks everybody who knows something about a session.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::FutureExt;
use paddock_api::agent::AgentSpec;
use paddock_api::http::agent_name;
use paddock_api::pool::Suitability;
use paddock_api::{SandboxWarmPool, Session};
use paddock_kubeio::look::SlimEvent;
use paddock_kubeio::write::WriteError;

use super::{Part, Probe, Seen};
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::relay::target::Target;
use crate::transcripts::pages::{self, PageError};

/// Longest time for one part.
const TIME: Duration = Duration::from_secs(5);
/// Most Events that are asked for about one name.
const MOST_READ: u32 = 200;
/// Most Events that are shown.
const MOST_EVENTS: usize = 50;

/// Everything about `session`.
pub async fn read(gateway: &Gateway, session: Session, request_id: &RequestId) -> Seen {
    let cluster = &gateway.cluster;
    let status = session.status.as_ref();
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let sandbox = status.and_then(|status| status.sandbox.as_ref()).map(|sandbox| sandbox.name.as_str());
    let pod = status.and_then(|status| status.pod.as_ref()).map(|pod| pod.name.as_str()).or(sandbox);
    let agent_and_pool = async {
        let agent = part(agent_name(&session), |name| cluster.read_agent(name)).await;
        let spec = session.made_from(agent.found().map(|agent| &agent.spec));
        let pool = match spec.map(|spec| (spec, &spec.pool_ref)) {
            None => Part::Unnamed,
            Some((_, Some(pool))) => part(Some(&pool.name), |name| cluster.read_pool(name)).await,
            Some((spec, None)) => default_pool(gateway, spec).await,
        };
        (agent, pool)
    };
    let ((agent, pool), pod, sandbox, events, probe) = futures::join!(
        agent_and_pool,
        part(pod, |name| cluster.read_pod(name)),
        part(sandbox, |name| cluster.read_sandbox(name)),
        events(gateway, name, sandbox),
        probe(gateway, &session, request_id),
    );
    Seen { agent, pod, sandbox, pool, events, probe, session }
}

async fn part<'a, T, F>(name: Option<&'a str>, read: impl FnOnce(&'a str) -> F) -> Part<T>
where
    F: Future<Output = Result<Option<T>, WriteError>>,
{
    let Some(name) = name else { return Part::Unnamed };
    match in_time(read(name)).await {
        Ok(Some(found)) => Part::Found(found),
        Ok(None) => Part::Missing(name.to_owned()),
        Err(why) => Part::Unread(why),
    }
}

/// The pool that serves an agent which names none.
async fn default_pool(gateway: &Gateway, agent: &AgentSpec) -> Part<SandboxWarmPool> {
    let (pools, templates) = (gateway.cluster.list_pools(), gateway.cluster.list_templates());
    let (pools, templates) = match futures::try_join!(in_time(pools), in_time(templates)) {
        Ok(read) => read,
        Err(why) => return Part::Unread(why),
    };
    let suits = |pool: SandboxWarmPool| {
        let name = &pool.spec.sandbox_template_ref.name;
        let template = templates.iter().find(|template| template.metadata.name.as_ref() == Some(name))?;
        Some((Suitability::of(&pool, template, agent)?, pool))
    };
    let suitable = pools.into_iter().filter_map(suits);
    let best = suitable.max_by(|(one, _), (other, _)| one.cmp(other));
    best.map_or(Part::Unnamed, |(_, pool)| Part::Found(pool))
}

async fn in_time<T>(read: impl Future<Output = Result<T, WriteError>>) -> Result<T, String> {
    match tokio::time::timeout(TIME, read).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {TIME:?}")),
    }
}

/// A Sandbox and its pod have the same name.
async fn events(gateway: &Gateway, session: &str, sandbox: Option<&str>) -> Part<Vec<SlimEvent>> {
    let about = |name| in_time(gateway.cluster.read_events(name, MOST_READ));
    let of_sandbox = match sandbox {
        Some(name) => about(name).left_future(),
        None => std::future::ready(Ok(Vec::new())).right_future(),
    };
    match futures::try_join!(about(session), of_sandbox) {
        Ok((mut events, more)) => {
            events.extend(more);
            events.sort_by_key(|event| std::cmp::Reverse(event.last()));
            events.truncate(MOST_EVENTS);
            Part::Found(events)
        }
        Err(why) => Part::Unread(why),
    }
}

/// Asks what only the session's own runner answers.
async fn probe(gateway: &Gateway, session: &Session, request_id: &RequestId) -> Part<Probe> {
    let Some(target) = Target::of_pod(session) else { return Part::Unnamed };
    let begun = Instant::now();
    let asked = tokio::time::timeout(TIME, pages::read(gateway, &target, None, request_id)).await;
    Part::Found(match asked {
        Ok(Ok(_)) => {
            Probe::Serves { took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) }
        }
        Ok(Err(error @ (PageError::Call(_) | PageError::Broken))) => Probe::Silent(error.to_string()),
        Ok(Err(error)) => Probe::Refuses(error.to_string()),
        Err(_) => Probe::Silent(format!("no answer within {TIME:?}")),
    })
}
